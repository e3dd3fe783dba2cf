"""Streaming uploads: content, checksums, memory and failure, without a network."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping, Sequence

import pytest

from ossmount.crc64 import crc64
from ossmount.errors import OssMountError, OssRefusedError, UploadFailedError
from ossmount.memory import MIB, MemoryBudget
from ossmount.multipart import MAX_PARTS, Upload
from ossmount.objects import ObjectVersion
from ossmount.upload import PART, PartSizes, StreamUpload


class MemoryUploads:
    """The multipart calls over a dictionary of parts."""

    def __init__(self, present: bytes = b"", failing_part: int = 0) -> None:
        self.present = present
        self.failing_part = failing_part
        self.parts: dict[int, bytes] = {}
        self.result = b""
        self.aborted = False
        self.in_flight = self.most_in_flight = 0

    async def initiate(self, key: str, headers: Mapping[str, str]) -> Upload:
        return Upload(key, "id")

    async def put_part(self, upload: Upload, number: int, content: memoryview, crc: int) -> str:
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        for _ in range(3):
            await asyncio.sleep(0)
        self.in_flight -= 1
        if number == self.failing_part:
            raise OssRefusedError("UploadPart", status=403, code="AccessDenied", request_id="")
        assert crc == crc64(content)
        self.parts[number] = bytes(content)
        return str(number)

    async def copy_part(
        self, upload: Upload, number: int, version: ObjectVersion, start: int, length: int
    ) -> str:
        self.parts[number] = self.present[start : start + length]
        return str(number)

    async def complete(
        self, upload: Upload, etags: Sequence[tuple[int, str]], *, size: int, crc: int | None
    ) -> ObjectVersion:
        self.result = b"".join(self.parts[number] for number, _ in etags)
        assert (len(self.result), crc64(self.result)) == (size, crc)
        return ObjectVersion('"done"', size, 0, crc)

    async def abort(self, upload: Upload) -> None:
        self.aborted = True


CONTENT = bytes(range(256)) * (100 * MIB // 256)


@pytest.mark.parametrize("total", [2 * PART, 8 * PART], ids=["tight", "ample"])
async def test_a_stream_arrives_whole_within_the_budget(total: int) -> None:
    api, budget = MemoryUploads(), MemoryBudget(total)
    upload = StreamUpload(api, "k", {}, budget)
    for start in range(0, len(CONTENT), MIB):
        await upload.append(CONTENT[start : start + MIB])
    version = await upload.finish()
    assert api.result == CONTENT
    assert version.crc == crc64(CONTENT)
    assert budget.peak <= total
    assert budget.used == 0
    assert api.most_in_flight <= 4


async def test_appending_behind_a_copied_head() -> None:
    head = CONTENT[: 9 * MIB]
    api = MemoryUploads(present=head)
    upload = StreamUpload(api, "k", {}, MemoryBudget(4 * PART))
    await upload.begin_with(ObjectVersion('"E"', len(head), 0, crc64(head)), len(head))
    await upload.append(b"tail")
    await upload.finish()
    assert api.result == head + b"tail"


async def test_a_failed_part_ends_the_upload() -> None:
    api, budget = MemoryUploads(failing_part=2), MemoryBudget(4 * PART)
    upload = StreamUpload(api, "k", {}, budget)
    await upload.append(CONTENT[: 3 * PART])
    with pytest.raises(UploadFailedError) as caught:
        await upload.finish()
    assert caught.value.errno == errno.EIO
    assert isinstance(caught.value.__cause__, OssMountError)
    await upload.abort()
    assert api.aborted
    assert budget.used == 0


async def test_aborting_releases_parts_that_have_not_begun() -> None:
    api, budget = MemoryUploads(), MemoryBudget(4 * PART)
    upload = StreamUpload(api, "k", {}, budget)
    await upload.append(CONTENT[: 2 * PART + 5])
    await upload.abort()
    await asyncio.sleep(0)
    assert budget.used == 0
    with pytest.raises(UploadFailedError):
        await upload.append(b"more")


def test_parts_grow_and_stay_within_half_the_budget() -> None:
    sizes = PartSizes(64 * PART)
    assert [sizes.of(number) for number in (1, 1000, 1001)] == [PART, PART, 2 * PART]
    assert sizes.of(MAX_PARTS) == 10 * PART
    assert PartSizes(4 * MIB).of(MAX_PARTS) == 2 * MIB
