"""Who gets in to the local OSS server: secrets, temporary keys, presigned URLs of the SDK."""

from __future__ import annotations

from typing import Any

import oss2
import pytest

from mocktee.oss import MockOss
from tests.services import oss2_client
from tests.services.oss2_client import BUCKET, REGION, refused, run, sdk_bucket

server = oss2_client.server
bucket = oss2_client.bucket


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
