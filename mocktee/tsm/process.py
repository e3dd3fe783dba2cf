"""Starts the TSM process for tests and the harness, and ends it on every path.

The process gets a pipe as its lifeline: if this side dies, it unmounts by itself. The code under
test must use the mount from another process or from worker threads, never from a loop that also
waits for this process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Self

import aiohttp

from mocktee.errors import TsmProcessError
from mocktee.td import ZERO_REGISTER
from mocktee.tsm.layout import CCEL, CCEL_TABLE, MEASUREMENTS, REPORT_ROOT
from mocktee.tsm.mounttable import is_mounted
from mocktee.tsm.profile import DEFAULT_PROFILE

START_SECONDS: Final = 20.0
STOP_SECONDS: Final = 8.0
REQUEST_SECONDS: Final = 10.0
STDERR_TAIL: Final = 2000  # bytes


@dataclass(frozen=True, slots=True)
class TsmSnapshot:
    """What ``GET /state`` showed."""

    registers: dict[str, bytes]
    attributes: int
    quotes_made: int
    entries: tuple[str, ...]
    faults: tuple[dict[str, Any], ...]


class TsmProcess:
    """A running TSM process. Made by :meth:`start` only."""

    def __init__(
        self, mount: Path, control: Path, process: Process, session: aiohttp.ClientSession
    ) -> None:
        self.mount = mount
        self.control = control
        self.report_root = mount / REPORT_ROOT
        self.measurements = mount / MEASUREMENTS
        self.ccel = mount / CCEL
        self.ccel_table = mount / CCEL_TABLE
        self.process = process
        self._session = session

    @classmethod
    @asynccontextmanager
    async def start(
        cls,
        mount: Path,
        pki_dir: Path,
        control: Path,
        *,
        latency: float = 0.0,
        mrconfigid: bytes = ZERO_REGISTER,
        kernel: str = DEFAULT_PROFILE.name,
        provider: str = "tdx_guest",
    ) -> AsyncIterator[Self]:
        """Mount, and unmount at the end of the block. ``latency`` is in seconds per quote.
        ``kernel`` names a profile of ``mocktee.tsm.profile``, ``provider`` is ``tdx_guest`` or
        ``sev_guest``.

        Raises :class:`TsmProcessError` if the process does not become ready. On every exit,
        cancellation included, the process is ended and reaped and the mount is gone.
        """
        if is_mounted(mount):  # somebody else's: it must outlive this failure
            raise TsmProcessError(f"start the TSM process on {mount}", "already mounted")
        arguments = (
            "--mount", str(mount), "--pki", str(pki_dir), "--control", str(control),
            "--latency", str(latency), "--mrconfigid", mrconfigid.hex(), "--kernel", kernel,
            "--provider", provider, "--lifeline-fd", "0",
        )  # fmt: skip
        with tempfile.TemporaryFile() as stderr:
            process = await _spawn(arguments, stderr)
            try:
                await _await_ready(process, stderr)
                connector = aiohttp.UnixConnector(path=str(control))
                timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
                async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                    yield cls(mount, control, process, session)
            finally:
                await _end(process, mount)
            if words := _tail(stderr):  # a defect of the mock must not stay unseen
                print(words, file=sys.stderr)

    async def state(self) -> TsmSnapshot:
        """Registers, counters and waiting faults as they are now."""
        document = await self._request("GET", "/state")
        return TsmSnapshot(
            registers={k: bytes.fromhex(v) for k, v in document["registers"].items()},
            attributes=document["attributes"],
            quotes_made=document["quotes_made"],
            entries=tuple(document["entries"]),
            faults=tuple(document["faults"]),
        )

    async def set_faults(self, faults: Sequence[dict[str, object]]) -> None:
        """Replace the waiting faults; forms in ``mocktee.tsm.faults``."""
        await self._request("POST", "/faults", list(faults))

    async def clear_faults(self) -> None:
        await self._request("DELETE", "/faults")

    async def tamper(self, register: str, value: bytes) -> None:
        """Set a register (``rtmr0``..``rtmr3``, ``mrtd``, ...) behind the event log's back."""
        await self._request("POST", "/tamper", {"register": register, "value": value.hex()})

    async def set_ccel(self, form: str) -> None:
        """Show the boot log in a form of ``mocktee.tsm.ccel_forms``; ``whole`` puts it right."""
        await self._request("POST", "/ccel", {"form": form})

    async def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        attempted = f"{method} {path} on the TSM control socket"
        try:
            data = None if body is None else json.dumps(body)
            async with self._session.request(method, f"http://tsm{path}", data=data) as response:
                text = await response.text()
                if response.status >= 400:
                    raise TsmProcessError(attempted, f"HTTP {response.status}: {text[:300]}")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TsmProcessError(attempted, str(error) or "timed out") from error
        document: dict[str, Any] = json.loads(text) if text else {}
        return document


async def _spawn(arguments: Sequence[str], stderr: IO[bytes]) -> Process:
    root = Path(__file__).resolve().parents[2]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mocktee.tsm", *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=stderr,
        cwd=root,
    )  # fmt: skip


async def _await_ready(process: Process, stderr: IO[bytes]) -> None:
    stdout = process.stdout
    if stdout is None:
        raise TsmProcessError("start the TSM process", "it has no standard output")
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await stdout.readline()
    except TimeoutError as error:
        raise TsmProcessError(
            "start the TSM process", f"not ready after {START_SECONDS:g} s", stderr=_tail(stderr)
        ) from error
    if not line.startswith(b'{"ready": true'):
        raise TsmProcessError(
            "start the TSM process", "it ended before it was ready", stderr=_tail(stderr)
        )


def _tail(stderr: IO[bytes]) -> str:
    size = stderr.seek(0, os.SEEK_END)
    stderr.seek(max(0, size - STDERR_TAIL))
    return stderr.read(STDERR_TAIL).decode(errors="replace").strip()


async def _end(process: Process, mount: Path) -> None:
    """Ask, then kill, then unmount lazily whatever is left."""
    if process.stdin is not None:
        process.stdin.close()
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError) as error:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        if isinstance(error, asyncio.CancelledError):
            raise
    finally:
        if is_mounted(mount):
            await _unmount_lazily(mount)


async def _unmount_lazily(mount: Path) -> None:
    program = ("umount", "-l") if os.geteuid() == 0 else ("fusermount3", "-u", "-z")
    helper = await asyncio.create_subprocess_exec(*program, str(mount))
    await helper.wait()
