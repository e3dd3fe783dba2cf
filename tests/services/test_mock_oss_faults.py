"""Faults of the local OSS server, over the control interface and as clients meet them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path

import aiohttp
import pytest

from mocktee.oss import FaultKind, MockOss, MockOssSettingsError
from mocktee.oss.faults import Fault, FaultSwitch
from mocktee.oss.request import OssRequest
from mocktee.oss.signature import v1_signature, v1_string_to_sign

KEY_ID, SECRET, BUCKET = "LTAItest", "secret-of-the-test", "test-bucket"
DATA = bytes(range(256)) * 16


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[MockOss]:
    async with MockOss.start(tmp_path) as started:
        started.add_bucket(BUCKET)
        started.add_key(KEY_ID, SECRET)
        started.put(BUCKET, "a", DATA)
        yield started


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


def signed(method: str, key: str, **headers: str) -> dict[str, str]:
    date = formatdate(usegmt=True)
    sent = {name.lower(): value for name, value in headers.items()}
    text = v1_string_to_sign(OssRequest(method, BUCKET, key, {}, sent), date)
    return sent | {"date": date, "authorization": f"OSS {KEY_ID}:{v1_signature(SECRET, text)}"}


async def fetch(
    server: MockOss, session: aiohttp.ClientSession, **headers: str
) -> tuple[int, bytes, str]:
    url = f"{server.endpoint}/{BUCKET}/a"
    async with session.get(url, headers=signed("GET", "a", **headers)) as response:
        return response.status, await response.read(), response.headers["x-oss-hash-crc64ecma"]


async def put(server: MockOss, session: aiohttp.ClientSession, data: bytes) -> int:
    url = f"{server.endpoint}/{BUCKET}/new"
    headers = signed("PUT", "new", **{"Content-Type": "text/plain"})
    async with session.put(url, data=data, headers=headers) as response:
        return response.status


async def test_status_for_a_number_of_requests(
    server: MockOss, session: aiohttp.ClientSession
) -> None:
    fault = server.faults.add("status", code="ServiceUnavailable", count=2, skip=1)
    url = f"{server.endpoint}/{BUCKET}/a"
    statuses = []
    for _ in range(4):
        async with session.get(url, headers=signed("GET", "a")) as response:
            statuses.append(response.status)
            body = await response.read()
            assert response.status == 200 or b"<Code>ServiceUnavailable</Code>" in body
    assert statuses == [200, 503, 503, 200]
    assert fault.struck == 2


async def test_cut_body(server: MockOss, session: aiohttp.ClientSession) -> None:
    server.faults.add("cut", at=100)
    with pytest.raises(aiohttp.ClientPayloadError):
        await fetch(server, session)
    assert (await fetch(server, session))[1] == DATA


@pytest.mark.parametrize(("delta", "size"), [(-1, 4095), (5, 4101)])
async def test_wrong_length(
    server: MockOss, session: aiohttp.ClientSession, delta: int, size: int
) -> None:
    server.faults.add("wrong-length", delta=delta)
    assert len((await fetch(server, session))[1]) == size


async def test_wrong_crc(server: MockOss, session: aiohttp.ClientSession) -> None:
    right = (await fetch(server, session))[2]
    server.faults.add("wrong-crc")
    status, body, crc = await fetch(server, session)
    assert (status, body) == (200, DATA)
    assert int(crc) == int(right) ^ 1


async def test_corrupt_byte(server: MockOss, session: aiohttp.ClientSession) -> None:
    server.faults.add("corrupt", at=10)
    _, body, _ = await fetch(server, session)
    assert [i for i in range(len(DATA)) if body[i] != DATA[i]] == [10]


async def test_bandwidth_and_slow_do_not_change_the_answer(
    server: MockOss, session: aiohttp.ClientSession
) -> None:
    server.faults.add("bandwidth", bytes_per_second=1 << 22, count=2)
    server.faults.add("slow", seconds=0.01)
    assert (await fetch(server, session))[1] == DATA
    assert await put(server, session, DATA) == 200


async def test_lost_answer_leaves_the_work_done(
    server: MockOss, session: aiohttp.ClientSession
) -> None:
    # Twice: aiohttp repeats an idempotent request once when the connection ends without an answer.
    server.faults.add("lost-answer", methods=["PUT"], count=2)
    with pytest.raises(aiohttp.ClientError):
        await put(server, session, b"kept")
    assert server.get(BUCKET, "new") == b"kept"


async def test_filters() -> None:
    switch = FaultSwitch()
    switch.add("slow", count=None, methods=["GET"], operations=["GetObject"], key_prefix="dir/")
    assert not switch.take("GetObject", "GET", "other")
    assert not switch.take("HeadObject", "GET", "dir/a")
    assert not switch.take("GetObject", "HEAD", "dir/a")
    for _ in range(3):
        assert [fault.kind for fault in switch.take("GetObject", "GET", "dir/a")] == [
            FaultKind.SLOW
        ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        {"kind": "unknown"},
        {"kind": "slow", "extra": 1},
        {"kind": "slow", "count": 0},
        {"kind": "slow", "count": True},
        {"kind": "slow", "seconds": "1"},
        {"kind": "slow", "methods": "GET"},
        {"kind": "status", "code": 1},
        {"kind": "bandwidth", "bytes_per_second": 0},
        {"kind": "slow", "struck": 1},
    ],
    ids=str,
)
def test_unusable_fault(value: object) -> None:
    with pytest.raises(MockOssSettingsError):
        Fault.from_json(value)


async def test_control_interface(server: MockOss, session: aiohttp.ClientSession) -> None:
    base = server.endpoint + "/mock"
    async with session.get(base + "/state") as response:
        assert response.status == 403
    token = {"x-mock-token": server.control_token}
    fault = {"kind": "status", "code": "InternalError", "count": None}
    async with session.post(base + "/faults", json=fault, headers=token) as response:
        assert response.status == 200
    async with session.get(f"{server.endpoint}/{BUCKET}/a", headers=signed("GET", "a")) as response:
        assert response.status == 500
    async with session.delete(base + "/faults", headers=token) as response:
        assert response.status == 200
    assert (await fetch(server, session))[0] == 200
    async with session.post(base + "/buckets", json={"name": "b c"}, headers=token) as response:
        assert response.status == 400
    async with session.get(base + "/state", headers=token) as response:
        state = await response.json()
    assert state["requests"]["GetObject"] == 2
    assert state["buckets"][BUCKET]["objects"] == {"a": len(DATA)}


async def test_virtual_host(server: MockOss, session: aiohttp.ClientSession) -> None:
    headers = signed("GET", "a") | {"Host": f"{BUCKET}.localhost:{server.port}"}
    async with session.get(f"{server.endpoint}/a", headers=headers) as response:
        assert (response.status, await response.read()) == (200, DATA)


async def test_text_is_compressed_for_clients_that_ask(
    server: MockOss, session: aiohttp.ClientSession
) -> None:
    server.put(BUCKET, "a", b"text " * 1000, {"Content-Type": "text/plain"})
    url = f"{server.endpoint}/{BUCKET}/a"
    for accepted, compressed in (("gzip", True), ("identity", False)):
        headers = signed("GET", "a") | {"Accept-Encoding": accepted}
        async with session.get(url, headers=headers) as response:
            assert await response.read() == b"text " * 1000
            assert ("ETag" not in response.headers) == compressed
            assert ("Content-Length" not in response.headers) == compressed


async def test_expect_continue(server: MockOss) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    fields = signed("PUT", "new") | {"host": "127.0.0.1", "content-length": "3"}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"PUT /{BUCKET}/new HTTP/1.1\r\n{head}Expect: 100-continue\r\n\r\n"
    writer.write(request.encode())
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"abc")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()
    assert server.get(BUCKET, "new") == b"abc"


async def test_upload_that_breaks_off_changes_nothing(tmp_path: Path) -> None:
    async with MockOss.start(tmp_path) as server:
        server.add_bucket(BUCKET)
        server.add_key(KEY_ID, SECRET)
        server.put(BUCKET, "a", DATA)
        before = sorted((tmp_path / "objects").iterdir())
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        fields = signed("PUT", "a") | {"host": "127.0.0.1", "content-length": "4000000"}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        writer.write(f"PUT /{BUCKET}/a HTTP/1.1\r\n{head}\r\n".encode() + bytes(3_000_000))
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    assert server.get(BUCKET, "a") == DATA
    assert sorted((tmp_path / "objects").iterdir()) == before


async def test_only_loopback(tmp_path: Path) -> None:
    with pytest.raises(MockOssSettingsError):
        async with MockOss.start(tmp_path, host="0.0.0.0"):
            pytest.fail("listened on every interface")


async def test_fast_etags_keep_everything_but_the_md5(
    tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with MockOss.start(tmp_path, fast_etags=True) as server:
        server.add_bucket(BUCKET)
        server.add_key(KEY_ID, SECRET)
        assert await put(server, session, b"123456789") == 200
        stored = server.stored(BUCKET, "new")
        assert (stored.size, stored.crc64) == (9, 11051210869376104954)
        assert len(stored.etag) == 32
        assert stored.etag != hashlib.md5(b"123456789").hexdigest().upper()
