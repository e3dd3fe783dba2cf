"""The local OSS server as a process: TLS, control calls, and its end."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import pytest

from mocktee.certs import provide_tls
from mocktee.oss import AccessKey
from mocktee.oss.errors import OssProcessError
from mocktee.oss.process import OssProcess

ROOT = Path(__file__).resolve().parents[2]
KEY = AccessKey("LTAItest", "secret-of-the-test")
LIMIT_SECONDS = 30.0

pytestmark = pytest.mark.real


@pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
async def test_large_object_comes_back_as_it_was(tmp_path: Path, encrypted: bool) -> None:
    tls = provide_tls(tmp_path / "tls") if encrypted else None
    data = bytes(range(256)) * (16 << 10)  # 4 MiB: more than goes out with the headers
    async with (
        OssProcess.start(tmp_path / "oss", tls=tls, buckets=["test-bucket"], keys=[KEY]) as oss,
        aiohttp.ClientSession() as session,
    ):
        await oss.put_objects("test-bucket", {"dir/a b": data})
        assert await oss.object_bytes("test-bucket", "dir/a b") == data
        trust = tls.client_context() if tls else True
        url = oss.presigned_url(KEY, "test-bucket", "dir/a b")
        async with session.get(url, ssl=trust) as response:
            assert response.status == 200
            assert await response.read() == data
        stored = await oss.stored("test-bucket", "dir/a b")
        assert (stored["size"], stored["type"]) == (len(data), "Normal")
        assert (await oss.state())["requests"] == {"GetObject": 1}


async def test_control_calls(tmp_path: Path) -> None:
    async with OssProcess.start(tmp_path, keys=[KEY]) as oss, aiohttp.ClientSession() as session:
        await oss.add_bucket("test-bucket")
        await oss.add_key("LTAIother", "other-secret")
        await oss.put_objects("test-bucket", {"a": b"1"})
        other = AccessKey("LTAIother", "other-secret")
        await oss.add_faults({"kind": "status", "code": "InternalError"})
        statuses = []
        for _ in range(2):
            async with session.get(oss.presigned_url(other, "test-bucket", "a")) as response:
                statuses.append(response.status)
        assert statuses == [500, 200]
        await oss.clear_faults()
        with pytest.raises(OssProcessError, match="NoSuchKey"):
            await oss.object_bytes("test-bucket", "absent")
        with pytest.raises(OssProcessError, match="not a usable bucket name"):
            await oss.add_bucket("mock")


@pytest.mark.parametrize(
    ("seed", "message"),
    [("{", "not JSON"), ('{"bucket": 1}', "unknown members"), ('{"access_keys": [1]}', "access")],
    ids=["no JSON", "unknown member", "no access key"],
)
async def test_unusable_seed(tmp_path: Path, seed: str, message: str) -> None:
    (tmp_path / "oss.json").write_text(seed)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mocktee.oss", "--state", str(tmp_path)),
        cwd=ROOT, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT_SECONDS):
        out, err = await child.communicate()
    assert (child.returncode, out) == (1, b"")
    assert message in err.decode()


async def test_end_of_the_lifeline_ends_it(tmp_path: Path) -> None:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mocktee.oss", "--state", str(tmp_path), "--lifeline-fd", "0"),
        cwd=ROOT, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert child.stdin is not None
    assert child.stdout is not None
    async with asyncio.timeout(LIMIT_SECONDS):
        assert json.loads(await child.stdout.readline())["ready"] is True
        child.stdin.close()
        assert await child.wait() == 0
        await child.communicate()
