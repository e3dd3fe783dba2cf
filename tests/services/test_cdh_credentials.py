"""Credential files of a running hub: after the socket, in memory, and never instead of serving."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import stat
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cdh.credentials import CREDENTIALS_ROOT
from protos.stubs import GetResourceStub
from tests.conftest import ROOT
from ttrpc import Client, StatusError

pytestmark = pytest.mark.real
LIMIT_SECONDS = 60
CREDENTIAL = f'credentials = [{{resource_uri = "kbs:///a/b/c", path = "{CREDENTIALS_ROOT}/x/y"}}]'


@asynccontextmanager
async def hub_with_own_run(config: Path, run: str) -> AsyncIterator[tuple[Process, Path]]:
    """A hub in a mount namespace with /run from ``mount RUN /run``, seen through /proc/PID/root."""
    script = f'mount {run} /run; exec "$@"'
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", script, "sh",
        sys.executable, "-m", "cdh", "-c", str(config), "--log-level", "info",
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)},
        stderr=PIPE,
    )  # fmt: skip
    try:
        yield process, Path(f"/proc/{process.pid}/root")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def until_there(path: Path) -> None:
    async with asyncio.timeout(LIMIT_SECONDS):
        while not os.path.lexists(path):
            await asyncio.sleep(0.01)


async def line_with(process: Process, text: bytes) -> bytes:
    assert process.stderr is not None
    async with asyncio.timeout(LIMIT_SECONDS):
        while text not in (line := await process.stderr.readline()):
            assert line, "the hub ended"
    return line


async def test_a_resource_becomes_a_private_file(tmp_path: Path) -> None:
    offline, config = tmp_path / "offline.json", tmp_path / "cdh.toml"
    offline.write_text(json.dumps({"a/b/c": base64.b64encode(b"content").decode()}))
    config.write_text(
        f'{CREDENTIAL}\nkbc.name = "offline_fs_kbc"\nkbc.offline_files = ["{offline}"]\n'
    )
    async with hub_with_own_run(config, "-t tmpfs none") as (process, root):
        written = await line_with(process, b"credential file written")
        assert b"content" not in written
        file = root / CREDENTIALS_ROOT[1:] / "x/y"
        assert file.read_bytes() == b"content"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert (root / "run/confidential-containers/cdh.sock").is_socket()
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(LIMIT_SECONDS):
            assert await process.wait() == 0


async def test_an_absent_key_broker_holds_nothing_up(tmp_path: Path) -> None:
    socket, config = tmp_path / "cdh.sock", tmp_path / "cdh.toml"
    config.write_text(
        f'socket = "unix://{socket}"\n{CREDENTIAL}\n'
        'kbc.url = "https://127.0.0.1:1"\naa.aa_socket = "unix:///nonexistent/aa.sock"\n'
    )
    async with hub_with_own_run(config, "-t tmpfs none") as (process, root):
        await until_there(socket)
        said = await line_with(process, b"credential file is not there yet")
        assert b"/nonexistent/aa.sock" in said
        async with await Client.connect(str(socket)) as client:
            with pytest.raises(StatusError, match="attestation agent"):
                await GetResourceStub(client).get_resource("kbs:///a/b/c", timeout_s=20)
        assert not (root / CREDENTIALS_ROOT[1:] / "x/y").exists()
