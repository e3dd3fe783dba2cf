"""The life of the mount process: how it refuses to start, how it ends, and what it leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mocktee.oss import MockOss
from tests.fuse.mounting import (
    BUCKET,
    KEY_SECRET,
    MountProcess,
    finish,
    is_mounted,
    launch_document,
    mounted,
    outside,
    start,
)

pytestmark = pytest.mark.real
MIB = 1 << 20

REFUSED: dict[str, tuple[Mapping[str, Any], str, str]] = {
    "wrong-secret": ({"access_key_secret": "x"}, "credentials", "SignatureDoesNotMatch"),
    "wrong-id": ({"access_key_id": "x"}, "credentials", "InvalidAccessKeyId"),
    "wrong-region": ({"region": "cn-beijing"}, "credentials", "400"),
    "no-bucket": ({"bucket": "otherbucket"}, "bucket", "NoSuchBucket"),
    "nobody-there": ({"endpoint": "http://127.0.0.1:1"}, "endpoint", "Connection refused"),
    "unknown-member": ({"surprise": True}, "launch", "launch document"),
    "no-mount-point": ({"mount_point": "/nonexistent/x"}, "mount", "does not exist"),
    "a-file": ({"mount_point": "/etc/hostname"}, "mount", "not a directory"),
    "busy": ({"mount_point": "/proc"}, "mount", "mounted there already"),
    "no-ca": ({"endpoint": "https://127.0.0.1:1", "ca_pem": "x"}, "launch", "ca_pem"),
}


@pytest.mark.parametrize(("changes", "kind", "text"), REFUSED.values(), ids=list(REFUSED))
async def test_a_clear_refusal_before_anything_is_mounted(
    oss: MockOss, tmp_path: Path, changes: Mapping[str, Any], kind: str, text: str
) -> None:
    point = tmp_path / "mnt"
    point.mkdir()
    mount = await start(point, launch_document(oss, point) | dict(changes))
    try:
        event = await mount.event()
        assert (event["event"], event["kind"]) == ("failed", kind)
        assert text in event["message"]
        assert await mount.exit_code() == 1
    finally:
        await finish(mount)
    assert not is_mounted(point)
    assert KEY_SECRET not in str(event) + mount.log


async def open_and_write(mount: MountProcess, size: int) -> int:
    """Leave a file open with unflushed content."""
    fd = await outside(os.open, mount.path / "f", os.O_CREAT | os.O_WRONLY)
    for start_at in range(0, size, MIB):
        await outside(os.pwrite, fd, b"x" * min(MIB, size - start_at), start_at)
    return fd


@pytest.mark.parametrize("ending", ["lifeline", "sigterm"])
@pytest.mark.parametrize("size", [100, 20 * MIB], ids=["small", "streaming"])
async def test_the_end_stores_open_files_and_leaves_nothing(
    oss: MockOss, tmp_path: Path, ending: str, size: int
) -> None:
    point = tmp_path / "mnt"
    async with mounted(oss, point) as mount:
        fd = await open_and_write(mount, size)
        if ending == "lifeline":
            mount.cut_lifeline()
        else:
            mount.process.send_signal(signal.SIGTERM)
        assert await mount.event() == {"event": "stopped"}
        assert await mount.exit_code() == 0
        with contextlib.suppress(OSError):
            os.close(fd)  # ENOTCONN: its file system is gone
    assert not is_mounted(point)
    assert oss.stored(BUCKET, "f").size == size
    assert oss.open_uploads(BUCKET) == []


async def test_an_operator_may_unmount(oss: MockOss, tmp_path: Path) -> None:
    point = tmp_path / "mnt"
    async with mounted(oss, point) as mount:
        await outside(subprocess.check_call, ["umount", str(point)])
        assert await mount.event() == {"event": "stopped"}
        assert await mount.exit_code() == 0
    assert not is_mounted(point)


async def test_nothing_of_the_key_is_outside_of_the_pipe(oss: MockOss, tmp_path: Path) -> None:
    async with mounted(oss, tmp_path / "mnt") as mount:
        folder = Path(f"/proc/{mount.process.pid}")
        seen = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        assert KEY_SECRET.encode() not in seen
        limits = (folder / "limits").read_text()
        assert "Max core file size        0" in limits
    assert KEY_SECRET not in mount.log
