"""Life and death of the mock TSM process: nothing of it stays, however it ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mocktee.errors import TsmProcessError
from mocktee.pki import MockPki
from mocktee.tsm.mounttable import is_mounted
from mocktee.tsm.process import TsmProcess
from tests.conftest import ROOT
from tests.ports.syscalls import opened, read

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    MockPki.create().save(folder)
    return folder


async def _run(*arguments: str | Path) -> tuple[int | None, bytes]:
    """The command to its end: exit code and standard error."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mocktee.tsm", *arguments, cwd=ROOT, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    return process.returncode, stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
async def test_mount_and_socket_are_gone_after(
    tmp_path: Path, pki: Path, number: signal.Signals
) -> None:
    mount, control = tmp_path / "mount", tmp_path / "control"
    async with TsmProcess.start(mount, pki, control) as tsm:
        assert is_mounted(mount)
        os.kill(tsm.process.pid, number)
        code = await tsm.process.wait()
    assert code == (-number if number is signal.SIGKILL else 0)
    assert not is_mounted(mount)
    if number is not signal.SIGKILL:
        assert not mount.exists() and not control.exists()


async def test_error_in_the_block_still_unmounts(tmp_path: Path, pki: Path) -> None:
    mount = tmp_path / "mount"
    with pytest.raises(ZeroDivisionError):
        async with TsmProcess.start(mount, pki, tmp_path / "control"):
            raise ZeroDivisionError
    assert not is_mounted(mount)


async def test_cancellation_still_unmounts(tmp_path: Path, pki: Path) -> None:
    mount, up = tmp_path / "mount", asyncio.Event()

    async def hold() -> None:
        async with TsmProcess.start(mount, pki, tmp_path / "control"):
            up.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())  # awaited below
    await up.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_mounted(mount)


async def test_end_of_the_lifeline_stops_the_process(tmp_path: Path, pki: Path) -> None:
    mount = tmp_path / "mount"
    async with TsmProcess.start(mount, pki, tmp_path / "control") as tsm:
        assert tsm.process.stdin is not None
        tsm.process.stdin.close()
        assert await tsm.process.wait() == 0
        assert not is_mounted(mount)


async def test_stop_answers_a_quote_in_progress(tmp_path: Path, pki: Path) -> None:
    mount = tmp_path / "mount"
    async with TsmProcess.start(mount, pki, tmp_path / "control") as tsm:
        await tsm.set_faults([{"kind": "hold"}])

        def quote() -> bytes:
            entry = tsm.report_root / "slow"
            os.mkdir(entry)
            with opened(entry / "inblob", os.O_WRONLY) as descriptor:
                os.write(descriptor, bytes(64))
            return read(entry / "outblob")

        reading = asyncio.ensure_future(asyncio.to_thread(quote))
        async with asyncio.timeout(20):
            while (await tsm.state()).faults:
                await asyncio.sleep(0)
        tsm.process.terminate()
        assert await tsm.process.wait() == 0
        with pytest.raises(OSError):
            await reading
    assert not is_mounted(mount)


@pytest.mark.parametrize(
    ("mount", "pki_name", "words"),
    [
        pytest.param("/sys/kernel/mock", None, "lies under /sys", id="kernel-tree"),
        pytest.param(None, "absent", "load the mock PKI", id="no-pki"),
    ],
)
async def test_refusal_to_start_says_why(
    tmp_path: Path, pki: Path, mount: str | None, pki_name: str | None, words: str
) -> None:
    where = Path(mount) if mount else tmp_path / "mount"
    keys = tmp_path / pki_name if pki_name else pki
    with pytest.raises(TsmProcessError, match=words):
        async with TsmProcess.start(where, keys, tmp_path / "control"):
            pass
    assert not is_mounted(where) and not (tmp_path / "control").exists()


async def test_occupied_mount_points_are_refused(tmp_path: Path, pki: Path) -> None:
    mount, control = tmp_path / "mount", tmp_path / "control"
    async with TsmProcess.start(mount, pki, control):
        with pytest.raises(TsmProcessError, match="already mounted"):
            async with TsmProcess.start(mount, pki, tmp_path / "second"):
                pass
        code, stderr = await _run("--mount", mount, "--pki", pki, "--control", tmp_path / "second")
        assert code == 1 and b"umount -l" in stderr
        assert is_mounted(mount)
    mount.mkdir()
    (mount / "file").touch()
    with pytest.raises(TsmProcessError, match="not empty"):
        async with TsmProcess.start(mount, pki, control):
            pass
    assert (mount / "file").exists()


@pytest.mark.parametrize(
    "arguments",
    [("--latency", "-1"), ("--latency", "nan"), ("--mrconfigid", "00"), ("--mrconfigid", "zz")],
    ids=["negative", "not-a-number", "short", "not-hex"],
)
async def test_wrong_arguments_exit_with_2(tmp_path: Path, arguments: tuple[str, str]) -> None:
    places = ("--mount", tmp_path / "m", "--pki", tmp_path, "--control", tmp_path / "c")
    code, stderr = await _run(*places, *arguments)
    assert code == 2 and arguments[0].encode() in stderr
