"""``attestation-agent`` as a process: readiness, orderly end, and start-up errors for people."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from lifecycle import UnixAddress, listen_unix
from mocktee.pki import MockPki
from mocktee.tsm.process import TsmProcess
from protos.stubs import AttestationAgentStub
from tests.conftest import ROOT
from ttrpc import Client

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

INITDATA = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n'
CONFIG_ID = hashlib.sha384(INITDATA).digest()
LIMIT_SECONDS = 30


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mounted(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TsmProcess]:
    folder = tmp_path_factory.mktemp("tsm")
    MockPki.create().save(folder / "pki")
    async with TsmProcess.start(
        folder / "mount", folder / "pki", folder / "control", mrconfigid=CONFIG_ID
    ) as process:
        yield process


@pytest.fixture
def aa_toml(mounted: TsmProcess, tmp_path: Path) -> Path:
    path = tmp_path / "aa.toml"
    path.write_text(
        f"""
        [tee]
        report_path = "{mounted.report_root}"
        measurements_path = "{mounted.measurements}"
        ccel_path = "{mounted.ccel}"
        """
    )
    return path


@asynccontextmanager
async def started(*arguments: object, notify: Path | None = None) -> AsyncIterator[Process]:
    environ = {"PATH": "/usr/bin:/bin"} | ({"NOTIFY_SOCKET": str(notify)} if notify else {})
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", *map(str, arguments),
        cwd=ROOT, env=environ, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def failed(*arguments: object) -> str:
    """Run to the end; return the one line of standard error of an exit with 1."""
    async with started(*arguments) as process, asyncio.timeout(LIMIT_SECONDS):
        stdout, stderr = await process.communicate()
    assert process.returncode == 1
    assert stdout == b""
    lines = stderr.decode().splitlines()
    assert len(lines) == 1
    return lines[0]


async def test_ready_serving_and_an_orderly_end(aa_toml: Path, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    notify = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
        sock.bind(str(notify))
        async with (
            started("-c", aa_toml, "-a", f"unix://{path}", notify=notify) as process,
            asyncio.timeout(LIMIT_SECONDS),
        ):
            loop = asyncio.get_running_loop()
            assert await loop.sock_recv(sock, 64) == b"READY=1"
            # READY is sent once the socket is there.
            async with await Client.connect(str(path)) as client:
                assert (await AttestationAgentStub(client).get_tee_type()).tee == "tdx"
            process.send_signal(signal.SIGTERM)
            assert await loop.sock_recv(sock, 64) == b"STOPPING=1"
            assert await process.wait() == 0
    assert not path.exists()


@pytest.mark.parametrize("flag", ["--attestation_sock", "--attestation-sock", "-a"])
async def test_spellings_of_the_reference(aa_toml: Path, tmp_path: Path, flag: str) -> None:
    (tmp_path / "initdata.toml").write_bytes(INITDATA)
    path = tmp_path / "agent.sock"
    with await listen_unix(UnixAddress(str(path))):
        message = await failed(
            "--config-file", aa_toml, flag, f"unix://{path}",
            "--initdata-toml", tmp_path / "initdata.toml",
        )  # fmt: skip
    assert "another process already answers there" in message


async def test_initdata_of_another_document_ends_with_both_values(
    aa_toml: Path, tmp_path: Path
) -> None:
    (tmp_path / "initdata.toml").write_bytes(INITDATA + b"\n")
    other = hashlib.sha384(INITDATA + b"\n").digest()
    socket_path = tmp_path / "agent.sock"
    message = await failed(
        "-c", aa_toml, "-a", f"unix://{socket_path}", "-t", tmp_path / "initdata.toml"
    )
    assert other.hex() in message
    assert CONFIG_ID.hex() in message
    digest = base64.b64encode(other).decode()
    message = await failed("-c", aa_toml, "-a", f"unix://{socket_path}", "-i", digest)
    assert CONFIG_ID.hex() in message
    assert not socket_path.exists()


@pytest.mark.parametrize(
    ("report_path", "text"),
    [("/nonexistent/tsm/report", "ENOENT"), ("/proc/version", "ENOTDIR")],
    ids=["no configfs", "not a directory"],
)
async def test_a_machine_without_tdx_is_told_so(
    tmp_path: Path, report_path: str, text: str
) -> None:
    (tmp_path / "aa.toml").write_text(f'[tee]\nreport_path = "{report_path}"\n')
    message = await failed("-c", tmp_path / "aa.toml", "-a", f"unix://{tmp_path}/agent.sock")
    assert "expected Intel TDX" in message
    assert text in message
    assert "tee.allow_sample" in message
