"""The public SDK (oss2, in threads) on a local OSS server: buckets, calls and their refusals."""

from __future__ import annotations

import asyncio
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
