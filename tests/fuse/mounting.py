"""Starting the mount process as the hub does: three pipes, no other descriptors, no environment."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from mocktee.oss import MockOss

ROOT = Path(__file__).resolve().parent.parent.parent
BUCKET = "examplebucket"
KEY_ID = "LTAIexampleid"
KEY_SECRET = "exampleSecretKey0123456789"
START_SECONDS = 30.0
STOP_SECONDS = 40.0
T = TypeVar("T")


class OssServer(Protocol):
    """What is needed of a running server, in this process or another."""

    @property
    def endpoint(self) -> str: ...

    @property
    def region(self) -> str: ...


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[MockOss]:
    """Run an OSS server with the example bucket and key."""
    async with MockOss.start(folder) as oss:
        oss.add_bucket(BUCKET)
        oss.add_key(KEY_ID, KEY_SECRET)
        yield oss


def launch_document(oss: OssServer, mount_point: Path, **changes: object) -> dict[str, object]:
    """Return a complete launch document with ``changes`` applied."""
    document: dict[str, object] = {
        "version": 1,
        "mount_point": str(mount_point),
        "bucket": BUCKET,
        "prefix": "",
        "endpoint": oss.endpoint,
        "region": oss.region,
        "signature": "v4",
        "access_key_id": KEY_ID,
        "access_key_secret": KEY_SECRET,
        "security_token": None,
        "read_only": False,
        "allow_other": False,
        "uid": None,
        "gid": None,
        "umask": None,
        "mp_umask": None,
        "ca_pem": None,
        "path_style": True,
        "attribute_seconds": 0.0,
        "memory_bytes": 128 << 20,
        "fs_name": f"oss:{BUCKET}",
    }
    return document | changes


@dataclass(slots=True)
class MountProcess:
    """A started child and the parent's ends of its pipes."""

    path: Path
    process: asyncio.subprocess.Process
    status: asyncio.StreamReader
    lifeline: int
    log_path: Path
    events: list[dict[str, Any]] = field(default_factory=list)

    async def event(self) -> dict[str, Any]:
        """Return the next status line; an empty object at the end of the pipe."""
        async with asyncio.timeout(START_SECONDS):
            line = await self.status.readline()
        event: dict[str, Any] = json.loads(line) if line else {}
        self.events.append(event)
        return event

    def cut_lifeline(self) -> None:
        """Close the parent's end: the order to stop."""
        os.close(self.lifeline)
        self.lifeline = -1

    async def exit_code(self) -> int:
        """Wait for the end of the process."""
        async with asyncio.timeout(STOP_SECONDS):
            return await self.process.wait()

    @property
    def log(self) -> str:
        """What the process wrote on stderr so far."""
        return self.log_path.read_text()


async def start(mount_point: Path, document: object) -> MountProcess:
    """Start the child with ``document`` (bytes are sent as they are) in its launch pipe."""
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    launch_read, launch_write = os.pipe()
    status_read, status_write = os.pipe()
    life_read, life_write = os.pipe()
    log_path = mount_point.parent / f"{mount_point.name}.log"
    with log_path.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ossmount",
            "--launch-fd",
            str(launch_read),
            "--status-fd",
            str(status_write),
            "--lifeline-fd",
            str(life_read),
            "--log-level",
            "debug",
            pass_fds=(launch_read, status_write, life_read),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={"PYTHONPATH": str(ROOT)},
        )
    for fd in (launch_read, status_write, life_read):
        os.close(fd)
    with contextlib.suppress(BrokenPipeError), os.fdopen(launch_write, "wb") as pipe:
        pipe.write(content)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(status_read, "rb")
    )
    return MountProcess(mount_point, process, reader, life_write, log_path)


async def finish(mount: MountProcess) -> None:
    """End the child whatever state it is in; a mount it left behind is taken away."""
    if mount.lifeline >= 0:
        mount.cut_lifeline()
    try:
        await mount.exit_code()
    except TimeoutError:
        mount.process.kill()
        await mount.process.wait()
        subprocess.run(["umount", "-l", str(mount.path)], check=False)
        raise
    await mount.status.read()  # to its end, so that the pipe is closed


@asynccontextmanager
async def mounted(
    oss: OssServer, mount_point: Path, **changes: object
) -> AsyncIterator[MountProcess]:
    """Mount the example bucket on ``mount_point`` (made if absent) until the block ends."""
    mount_point.mkdir(exist_ok=True)
    mount = await start(mount_point, launch_document(oss, mount_point, **changes))
    try:
        event = await mount.event()
        assert event == {"event": "ready"}, (event, mount.log)
        yield mount
    finally:
        await finish(mount)


async def outside(function: Callable[..., T], *arguments: object) -> T:
    """Run blocking file system calls in a thread: the server lives in this process's loop."""
    return await asyncio.to_thread(function, *arguments)


async def shell(command: str, cwd: Path) -> str:
    """Run plain shell tools in the mount; return their output. Fails the test if they fail."""
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-ec",
        command,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
    )
    out, err = await process.communicate()
    assert process.returncode == 0, (command, err.decode(errors="replace"))
    return out.decode()


def is_mounted(path: Path) -> bool:
    """Whether anything is mounted on ``path``."""
    return f" {path} " in Path("/proc/self/mountinfo").read_text()
