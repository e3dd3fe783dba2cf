"""What the local OSS server tells the public SDK of a bucket, and counts of the calls for it."""

from __future__ import annotations

from typing import Any

import oss2
import pytest

from mocktee.oss import MockOss
from tests.services import oss2_client
from tests.services.oss2_client import BUCKET, REGION, refused, run

server = oss2_client.server
bucket = oss2_client.bucket

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
