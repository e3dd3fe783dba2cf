"""The public SDK (oss2, in threads) against the local OSS server, with both signature versions."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import oss2
import pytest

from mocktee.oss import MockOss
from mocktee.oss import crc64 as mock_crc64

KEY_ID, SECRET, BUCKET, REGION = "LTAItest", "secret-of-the-test", "test-bucket", "cn-hangzhou"
PART = 100 << 10

T = TypeVar("T")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MockOss]:
    async with MockOss.start(tmp_path) as started:
        started.add_bucket(BUCKET)
        started.add_key(KEY_ID, SECRET)
        yield started


@pytest.fixture(params=["v1", "v4"])
def bucket(request: pytest.FixtureRequest, server: MockOss) -> Any:
    return sdk_bucket(server, request.param)


def sdk_bucket(
    server: MockOss, version: str = "v1", *, secret: str = SECRET, name: str = BUCKET
) -> Any:
    auth = (oss2.Auth if version == "v1" else oss2.AuthV4)(KEY_ID, secret)
    session = oss2.Session()
    session.session.trust_env = False
    return oss2.Bucket(auth, server.endpoint, name, session=session, region=REGION)


async def run(call: Callable[..., T], *arguments: Any, **named: Any) -> T:
    return await asyncio.to_thread(call, *arguments, **named)


async def refused(call: Callable[..., Any], *arguments: Any, **named: Any) -> tuple[int, str]:
    with pytest.raises(oss2.exceptions.OssError) as caught:
        await run(call, *arguments, **named)
    error = caught.value
    assert len(error.request_id) == 24
    return error.status, error.code


def crc(data: bytes) -> int:
    return mock_crc64.update(0, data)


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


async def test_wrong_secret(server: MockOss) -> None:
    for version in ("v1", "v4"):
        client = sdk_bucket(server, version, secret="not it")
        assert await refused(client.get_object, "a") == (403, "SignatureDoesNotMatch")


async def test_missing_bucket(server: MockOss) -> None:
    client = sdk_bucket(server, name="other-bucket")
    assert await refused(client.get_object, "a") == (404, "NoSuchBucket")


@pytest.mark.parametrize("version", ["v1", "v4"])
async def test_temporary_key(server: MockOss, version: str) -> None:
    server.add_key("STS.id", "sts-secret", "sts-token")
    server.put(BUCKET, "a", b"x")

    def client(token: str) -> Any:
        auth = oss2.StsAuth("STS.id", "sts-secret", token, auth_version=version)
        return oss2.Bucket(auth, server.endpoint, BUCKET, region=REGION)

    got = await run(client("sts-token").get_object, "a")
    assert await run(got.read) == b"x"
    assert await refused(client("other").get_object, "a") == (403, "InvalidSecurityToken")


async def test_presigned_url(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "dir/a b", b"signed")
    url = await run(bucket.sign_url, "GET", "dir/a b", 60, slash_safe=True)
    got = await run(bucket.get_object_with_url, url)
    assert await run(got.read) == b"signed"
    assert await refused(bucket.get_object_with_url, url + "0") in {
        (403, "SignatureDoesNotMatch"),
        (400, "InvalidArgument"),
    }


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


LISTED = ["a", "b/1", "b/2", "b/c/3", "d e", "ü", "z"]


@pytest.mark.parametrize("page", [1, 2, 100])
async def test_listing(server: MockOss, bucket: Any, page: int) -> None:
    for key in LISTED:
        server.put(BUCKET, key, key.encode())

    def names(iterator: Any) -> list[str]:
        return [found.key for found in iterator]

    both = (oss2.ObjectIterator, oss2.ObjectIteratorV2)
    for kind in both:
        assert await run(lambda k=kind: names(k(bucket, max_keys=page))) == sorted(LISTED)
        top = await run(lambda k=kind: names(k(bucket, delimiter="/", max_keys=page)))
        assert top == ["a", "b/", "d e", "z", "ü"]
        inner = await run(
            lambda k=kind: names(k(bucket, prefix="b/", delimiter="/", max_keys=page))
        )
        assert inner == ["b/1", "b/2", "b/c/"]
    after = await run(bucket.list_objects_v2, start_after="b/2")
    assert [found.key for found in after.object_list] == ["b/c/3", "d e", "z", "ü"]
    assert after.object_list[0].size == len("b/c/3")


async def test_default_page_is_a_hundred(server: MockOss, bucket: Any) -> None:
    for number in range(101):
        server.put(BUCKET, f"{number:03d}", b"")
    result = await run(bucket.list_objects)
    assert (len(result.object_list), result.is_truncated) == (100, True)
    assert result.next_marker == "099"
    assert await refused(bucket.list_objects, max_keys=1001) == (400, "InvalidArgument")


async def test_bucket_calls(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "a", b"12345")
    info = await run(bucket.get_bucket_info)
    assert (info.name, info.location) == (BUCKET, f"oss-{REGION}")
    assert (await run(bucket.get_bucket_location)).location == f"oss-{REGION}"
    stat = await run(bucket.get_bucket_stat)
    assert (stat.storage_size_in_bytes, stat.object_count) == (5, 1)


async def test_counters(server: MockOss, bucket: Any) -> None:
    server.put(BUCKET, "a", b"")
    await run(bucket.head_object, "a")
    await refused(bucket.get_object, "absent")
    assert server.counters["HeadObject"] == 1
    assert server.counters["error:NoSuchKey"] == 1
