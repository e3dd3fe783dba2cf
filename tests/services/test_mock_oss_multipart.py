"""Uploads in parts to the local OSS server by the public SDK."""

from __future__ import annotations

from typing import Any

import oss2

from mocktee.oss import MockOss
from tests.services import oss2_client
from tests.services.oss2_client import BUCKET, PART, crc, refused, run

server = oss2_client.server
bucket = oss2_client.bucket


async def upload_parts(bucket: Any, key: str, sizes: list[int]) -> tuple[str, list[Any], bytes]:
    upload_id = (await run(bucket.init_multipart_upload, key)).upload_id
    parts, whole = [], b""
    for number, size in enumerate(sizes, start=1):
        data = bytes([number]) * size
        put = await run(bucket.upload_part, key, upload_id, number, data)
        parts.append(oss2.models.PartInfo(number, put.etag, size, part_crc=put.crc))
        whole += data
    return upload_id, parts, whole


async def test_multipart_upload(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "big", b"old")
    upload_id, parts, whole = await upload_parts(bucket, "big", [PART, PART, 10])
    assert server.get(BUCKET, "big") == b"old"
    assert server.open_uploads(BUCKET) == [("big", upload_id)]
    listed = await run(bucket.list_parts, "big", upload_id, max_parts=2)
    assert ([part.part_number for part in listed.parts], listed.is_truncated) == ([1, 2], True)
    done = await run(bucket.complete_multipart_upload, "big", upload_id, parts)
    assert done.etag.endswith("-3")
    assert int(done.headers["x-oss-hash-crc64ecma"]) == crc(whole)
    assert server.get(BUCKET, "big") == whole
    assert (await run(bucket.head_object, "big")).object_type == "Multipart"
    assert server.open_uploads(BUCKET) == []
    again = await refused(bucket.complete_multipart_upload, "big", upload_id, parts)
    assert again == (404, "NoSuchUpload")


async def test_multipart_refusals(server: MockOss, bucket: Any) -> None:
    upload_id, parts, _ = await upload_parts(bucket, "big", [PART - 1, 10])
    complete = bucket.complete_multipart_upload
    assert await refused(complete, "big", upload_id, parts) == (400, "EntityTooSmall")
    wrong = [oss2.models.PartInfo(1, "0" * 32)]
    assert await refused(complete, "big", upload_id, wrong) == (400, "InvalidPart")
    absent = [oss2.models.PartInfo(7, parts[0].etag)]
    assert await refused(complete, "big", upload_id, absent) == (400, "InvalidPart")
    assert await refused(complete, "other", upload_id, parts) == (404, "NoSuchUpload")
    number = await refused(bucket.upload_part, "big", upload_id, 10001, b"x")
    assert number == (400, "InvalidArgument")
    await run(bucket.abort_multipart_upload, "big", upload_id)
    assert await refused(bucket.abort_multipart_upload, "big", upload_id) == (404, "NoSuchUpload")
    assert await refused(bucket.upload_part, "big", upload_id, 1, b"x") == (404, "NoSuchUpload")


async def test_part_copy(server: MockOss, bucket: Any) -> None:
    source = bytes(range(256)) * 1000
    server.put(BUCKET, "source", source)
    upload_id = (await run(bucket.init_multipart_upload, "big")).upload_id
    ranges = [(0, PART - 1), (PART, len(source) - 1)]
    parts = []
    for number, span in enumerate(ranges, start=1):
        copied = await run(
            bucket.upload_part_copy, BUCKET, "source", span, "big", upload_id, number
        )
        parts.append(oss2.models.PartInfo(number, copied.etag))
    await run(bucket.complete_multipart_upload, "big", upload_id, parts)
    assert server.get(BUCKET, "big") == source


async def test_list_multipart_uploads(server: MockOss, bucket: Any) -> None:
    made = [
        (key, (await run(bucket.init_multipart_upload, key)).upload_id)
        for key in ("a", "a", "b/ c", "z")
    ]
    uploads = await run(lambda: list(oss2.MultipartUploadIterator(bucket, max_uploads=1)))
    assert [(found.key, found.upload_id) for found in uploads] == sorted(made)
