"""Objects of the local OSS server as the public SDK writes, reads, copies and deletes them."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import oss2
import pytest

from mocktee.oss import MockOss
from tests.services import oss2_client
from tests.services.oss2_client import BUCKET, crc, refused, run

server = oss2_client.server
bucket = oss2_client.bucket

KEYS = [
    "a",
    "dir/file 1.txt",
    "a//b",
    "dir/",
    "ümlaut/日本",
    "per%25cent+plus",
    "../up",
    "x" * 1023,
]


@pytest.mark.parametrize("key", KEYS, ids=[key[:20] for key in KEYS])
async def test_object_life(server: MockOss, bucket: Any, key: str) -> None:
    data = b"some content" * 100
    put = await run(bucket.put_object, key, data, headers={"x-oss-meta-mode": "33188"})
    assert put.etag == hashlib.md5(data).hexdigest().upper()
    assert put.crc == crc(data)
    assert server.get(BUCKET, key) == data
    got = await run(bucket.get_object, key)
    assert await run(got.read) == data
    assert got.headers["x-oss-meta-mode"] == "33188"
    assert got.server_crc == crc(data)
    head = await run(bucket.head_object, key)
    assert (head.content_length, head.etag, head.object_type) == (len(data), put.etag, "Normal")
    meta = await run(bucket.get_object_meta, key)
    assert meta.content_length == len(data)
    assert "x-oss-meta-mode" not in meta.headers
    assert [found.key for found in (await run(bucket.list_objects)).object_list] == [key]
    for _ in range(2):  # deleting nothing is no error either
        assert (await run(bucket.delete_object, key)).status == 204
    assert await refused(bucket.get_object, key) == (404, "NoSuchKey")
    assert not await run(bucket.object_exists, key)


async def test_head_error_travels_in_a_header(bucket: Any) -> None:
    with pytest.raises(oss2.exceptions.OssError) as caught:
        await run(bucket.head_object, "absent")
    assert caught.value.status == 404
    document = base64.b64decode(caught.value.headers["x-oss-err"])
    assert b"<Code>NoSuchKey</Code>" in document
    assert caught.value.headers["x-oss-request-id"].encode() in document


async def test_content_md5(bucket: Any) -> None:
    right = base64.b64encode(hashlib.md5(b"data").digest()).decode()
    await run(bucket.put_object, "a", b"data", headers={"Content-MD5": right})
    answer = await refused(bucket.put_object, "b", b"other", headers={"Content-MD5": right})
    assert answer == (400, "InvalidDigest")


async def test_forbid_overwrite(server: MockOss, bucket: Any) -> None:
    forbid = {"x-oss-forbid-overwrite": "true"}
    await run(bucket.put_object, "a", b"1", headers=forbid)
    assert await refused(bucket.put_object, "a", b"2", headers=forbid) == (
        409,
        "FileAlreadyExists",
    )
    assert await refused(bucket.copy_object, BUCKET, "a", "a", headers=forbid) == (
        400,
        "InvalidArgument",
    )
    assert server.get(BUCKET, "a") == b"1"


async def test_metadata_rules(bucket: Any) -> None:
    bad_name = {"x-oss-meta-a_b": "1"}
    assert await refused(bucket.put_object, "a", b"", headers=bad_name) == (400, "InvalidArgument")
    large = {"x-oss-meta-a": "v" * 8192}
    assert await refused(bucket.put_object, "a", b"", headers=large) == (400, "MetadataTooLarge")


async def test_empty_bodies(server: MockOss, bucket: Any) -> None:
    put = await run(bucket.put_object, "dir/", b"")
    assert (put.etag, put.crc) == ("D41D8CD98F00B204E9800998ECF8427E", 0)
    appended = await run(bucket.append_object, "log", 0, b"", init_crc=0)
    assert appended.next_position == 0
    upload_id = (await run(bucket.init_multipart_upload, "none")).upload_id
    part = await run(bucket.upload_part, "none", upload_id, 1, b"")
    parts = [oss2.models.PartInfo(1, part.etag)]
    await run(bucket.complete_multipart_upload, "none", upload_id, parts)
    for key in ("dir/", "log", "none"):
        got = await run(bucket.get_object, key)
        assert (got.content_length, await run(got.read)) == (0, b"")


async def test_streamed_put_without_length(server: MockOss, bucket: Any) -> None:
    await run(bucket.put_object, "a", iter([b"one", b"two"]))
    assert server.get(BUCKET, "a") == b"onetwo"


async def test_large_object_is_not_changed_on_the_way(server: MockOss, bucket: Any) -> None:
    data = bytes(range(256)) * (20 << 10)  # 5 MiB: several batches, and sendfile on the way back
    put = await run(bucket.put_object, "large", data)
    assert put.crc == crc(data)
    got = await run(bucket.get_object, "large")
    assert await run(got.read) == data
    got = await run(bucket.get_object, "large", byte_range=(1, len(data) - 2))
    assert await run(got.read) == data[1:-1]


async def test_ranges(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "a", b"0123456789")
    got = await run(bucket.get_object, "a", byte_range=(2, 4))
    assert (got.status, await run(got.read)) == (206, b"234")
    assert got.headers["Content-Range"] == "bytes 2-4/10"
    assert got.server_crc == crc(b"0123456789")
    got = await run(bucket.get_object, "a", byte_range=(8, 20))
    assert (got.status, await run(got.read)) == (200, b"0123456789")
    standard = {"x-oss-range-behavior": "standard"}
    got = await run(bucket.get_object, "a", byte_range=(8, 20), headers=standard)
    assert (got.status, await run(got.read)) == (206, b"89")
    answer = await refused(bucket.get_object, "a", byte_range=(10, 20), headers=standard)
    assert answer == (416, "InvalidRange")


async def test_conditions(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "a", b"x")
    etag = server.stored(BUCKET, "a").etag
    past, future = "Mon, 01 Jan 2001 00:00:00 GMT", "Tue, 01 Jan 2080 00:00:00 GMT"
    rows = [
        ({"If-Match": f'"{etag}"'}, None),
        ({"If-Match": '"other"'}, 412),
        ({"If-None-Match": f'"{etag}"'}, 304),
        ({"If-None-Match": '"other"'}, None),
        ({"If-Modified-Since": past}, None),
        ({"If-Modified-Since": future}, 304),
        ({"If-Unmodified-Since": past}, 412),
        ({"If-Unmodified-Since": future}, None),
    ]
    for headers, status in rows:
        for call in (bucket.get_object, bucket.head_object):
            if status is None:
                await run(call, "a", headers=headers)
            else:
                assert (await refused(call, "a", headers=headers))[0] == status


async def test_append(server: MockOss, bucket: Any) -> None:
    first = await run(bucket.append_object, "log", 0, b"abc", init_crc=0)
    assert first.next_position == 3
    second = await run(bucket.append_object, "log", 3, b"defg", init_crc=first.crc)
    assert (second.next_position, second.crc) == (7, crc(b"abcdefg"))
    assert second.headers["ETag"].strip('"').endswith("00000000")
    head = await run(bucket.head_object, "log")
    assert (head.object_type, head.headers["x-oss-next-append-position"]) == ("Appendable", "7")
    assert server.get(BUCKET, "log") == b"abcdefg"
    assert await refused(bucket.append_object, "log", 3, b"x") == (409, "PositionNotEqualToLength")
    assert await refused(bucket.copy_object, BUCKET, "log", "copy") == (
        400,
        "OperationNotSupported",
    )
    await run(bucket.put_object, "log", b"normal now")
    assert await refused(bucket.append_object, "log", 10, b"x") == (409, "ObjectNotAppendable")


async def test_copy(server: MockOss, bucket: Any) -> None:
    await run(
        bucket.put_object,
        "dir/a b",
        b"data",
        headers={"x-oss-meta-mode": "1", "Content-Type": "text/plain"},
    )
    copied = await run(bucket.copy_object, BUCKET, "dir/a b", "copy")
    assert copied.etag == hashlib.md5(b"data").hexdigest().upper()
    assert (await run(bucket.head_object, "copy")).headers["x-oss-meta-mode"] == "1"
    replace = {"x-oss-metadata-directive": "REPLACE", "x-oss-meta-mode": "2"}
    await run(bucket.copy_object, BUCKET, "copy", "copy", headers=replace)
    assert (await run(bucket.head_object, "copy")).headers["x-oss-meta-mode"] == "2"
    await run(bucket.delete_object, "dir/a b")
    assert server.get(BUCKET, "copy") == b"data"
    assert await refused(bucket.copy_object, BUCKET, "absent", "b") == (404, "NoSuchKey")
    other = {"x-oss-copy-source-if-match": "other"}
    answer = await refused(bucket.copy_object, BUCKET, "copy", "b", headers=other)
    assert answer == (412, "PreconditionFailed")


async def test_symlink(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "target", b"behind")
    await run(bucket.put_symlink, "target", "link")
    assert (await run(bucket.get_symlink, "link")).target_key == "target"
    got = await run(bucket.get_object, "link")
    assert await run(got.read) == b"behind"
    server.delete(BUCKET, "target")
    assert await refused(bucket.get_object, "link") == (404, "SymlinkTargetNotExist")


async def test_multiple_delete(server: MockOss, bucket: Any) -> None:
    keys = ["a", "dir/b c", "line\nfeed", "<&>"]
    for key in keys:
        server.put(BUCKET, key, b"x")
    result = await run(bucket.batch_delete_objects, [*keys, "absent"])
    assert result.deleted_keys == [*keys, "absent"]
    assert server.keys(BUCKET) == []
