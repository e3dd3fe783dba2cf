"""A store that fails, lies or changes: the errno a program sees, and what is left behind."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mocktee.oss import MockOss
from tests.fuse.mounting import BUCKET, MountProcess, outside

pytestmark = pytest.mark.real
MIB = 1 << 20
CONTENT = bytes(range(256)) * (5 * MIB // 256)
LARGE = CONTENT * 2

READS: dict[str, tuple[Mapping[str, Any], int]] = {
    "denied": ({"kind": "status", "code": "AccessDenied"}, errno.EACCES),
    "archived": ({"kind": "status", "code": "InvalidObjectState"}, errno.EREMOTE),
    "gone": ({"kind": "status", "code": "NoSuchKey"}, errno.ESTALE),
    "bucket-gone": ({"kind": "status", "code": "NoSuchBucket"}, errno.EIO),
    "changed": ({"kind": "status", "code": "PreconditionFailed"}, errno.ESTALE),
    "outage": ({"kind": "status", "code": "InternalError", "count": None}, errno.EIO),
    "short": ({"kind": "wrong-length", "delta": -1, "count": None}, errno.EIO),
    "long": ({"kind": "wrong-length", "delta": 1, "count": None}, errno.EIO),
    "cut": ({"kind": "cut", "at": 1000, "count": None}, errno.EIO),
}


@pytest.mark.parametrize(("fault", "code"), READS.values(), ids=list(READS))
async def test_reading(
    oss: MockOss, mount: MountProcess, fault: Mapping[str, Any], code: int
) -> None:
    oss.put(BUCKET, "f", CONTENT)
    oss.faults.add(operations=["GetObject"], **{"count": 50, **fault})
    with pytest.raises(OSError) as caught:
        await outside((mount.path / "f").read_bytes)
    assert caught.value.errno == code


PASSING: dict[str, Mapping[str, Any]] = {
    "one-500": {"kind": "status", "code": "InternalError"},
    "throttled-twice": {"kind": "status", "code": "ServiceUnavailable", "count": 2},
    "cut-once": {"kind": "cut", "at": 70_000},
    "short-once": {"kind": "wrong-length", "delta": -5},
    "slow-once": {"kind": "slow", "seconds": 0.2},
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=list(PASSING))
async def test_reading_gets_over_passing_faults(
    oss: MockOss, mount: MountProcess, fault: Mapping[str, Any]
) -> None:
    oss.put(BUCKET, "f", CONTENT)
    oss.faults.add(operations=["GetObject"], **fault)
    assert await outside((mount.path / "f").read_bytes) == CONTENT


@pytest.mark.parametrize("size", [MIB, 5 * MIB, 10 * MIB])
async def test_a_corrupt_byte_is_found(oss: MockOss, mount: MountProcess, size: int) -> None:
    oss.put(BUCKET, "f", LARGE[:size])
    oss.faults.add("corrupt", operations=["GetObject"], at=12_345)
    with pytest.raises(OSError) as caught:
        await outside((mount.path / "f").read_bytes)
    assert caught.value.errno == errno.EIO
    assert "corrupt" in mount.log


async def test_an_object_that_changes_while_it_is_open(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "f", LARGE)
    fd = await outside(os.open, mount.path / "f", os.O_RDONLY)
    try:
        oss.put(BUCKET, "f", bytes(len(LARGE)))
        with pytest.raises(OSError) as caught:
            await outside(os.pread, fd, 4096, 0)
        assert caught.value.errno == errno.ESTALE
    finally:
        await outside(os.close, fd)
    assert await outside((mount.path / "f").read_bytes) == bytes(len(LARGE))


WRITES: dict[str, tuple[Mapping[str, Any], int]] = {
    "put-denied": (
        {"kind": "status", "code": "AccessDenied", "operations": ["PutObject"]},
        errno.EACCES,
    ),
    "put-crc": ({"kind": "wrong-crc", "operations": ["PutObject"]}, errno.EIO),
    "worm": (
        {"kind": "status", "code": "FileImmutable", "operations": ["PutObject"]},
        errno.EPERM,
    ),
}


def write_and_close(path: Path, content: bytes) -> None:
    """Like ``open().write()``, but the error of close() is what counts."""
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view[:MIB]) :]
    except BaseException:  # cleaned up and passed on, cancellation included
        os.close(fd)
        raise
    os.close(fd)


@pytest.mark.parametrize(("fault", "code"), WRITES.values(), ids=list(WRITES))
async def test_close_reports_a_failed_put(
    oss: MockOss, mount: MountProcess, fault: Mapping[str, Any], code: int
) -> None:
    oss.faults.add(**{"count": 50, **fault})
    with pytest.raises(OSError) as caught:
        await outside(write_and_close, mount.path / "f", b"content")
    assert caught.value.errno == code


PARTS: dict[str, Mapping[str, Any]] = {
    "part-denied": {"kind": "status", "code": "AccessDenied", "operations": ["UploadPart"]},
    "part-crc": {"kind": "wrong-crc", "operations": ["UploadPart"]},
    "complete-refused": {
        "kind": "status",
        "code": "InvalidPart",
        "operations": ["CompleteMultipartUpload"],
    },
    "complete-crc": {"kind": "wrong-crc", "operations": ["CompleteMultipartUpload"]},
}


@pytest.mark.parametrize("fault", PARTS.values(), ids=list(PARTS))
async def test_a_failed_upload_is_reported_and_aborted(
    oss: MockOss, mount: MountProcess, fault: Mapping[str, Any]
) -> None:
    oss.faults.add(**fault)
    with pytest.raises(OSError):
        await outside(write_and_close, mount.path / "f", LARGE * 2)
    assert oss.open_uploads(BUCKET) == []
    assert "upload failed" in mount.log


@pytest.mark.parametrize(
    "operation", ["UploadPart", "CompleteMultipartUpload", "PutObject", "HeadObject"]
)
async def test_a_lost_answer_is_got_over(oss: MockOss, mount: MountProcess, operation: str) -> None:
    oss.faults.add("lost-answer", operations=[operation])
    await outside(write_and_close, mount.path / "small", CONTENT)
    await outside(write_and_close, mount.path / "large", LARGE)
    assert oss.get(BUCKET, "small") == CONTENT
    assert oss.get(BUCKET, "large") == LARGE


async def test_a_failed_listing_is_not_an_empty_directory(
    oss: MockOss, mount: MountProcess
) -> None:
    oss.put(BUCKET, "d/f", b"")
    oss.faults.add("status", code="AccessDenied", operations=["ListObjectsV2"], count=None)
    for call in (lambda: os.listdir(mount.path), lambda: os.stat(mount.path / "d")):
        with pytest.raises(PermissionError):
            await outside(call)
