"""Any bytes at a gRPC connection: no exception leaves it, no call outlives it."""

from __future__ import annotations

import asyncio
import struct
from typing import Any, cast

from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.grpc_call import MethodIndex
from serving.grpc_connection import (
    Budget,
    Calls,
    CommonBudgets,
    FrameBound,
    GrpcConnection,
    GrpcLimits,
)
from tests.services.grpc_peers import GET, Echo, payload_of


class Transport:
    """Takes what is written; nothing leaves this process."""

    def __init__(self) -> None:
        self.closing = False
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def get_extra_info(self, _name: str) -> None:
        return None

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def _session() -> bytes:
    """What a client with two calls and a ping sends."""
    client = H2Connection(H2Configuration(header_encoding="utf-8"))
    client.initiate_connection()
    for text in ("x", "refuse:no"):
        stream = client.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": GET,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            "grpc-timeout": "5S",
        }
        client.send_headers(stream, list(headers.items()))
        payload = payload_of(text)
        data = struct.pack(">BI", 0, len(payload)) + payload
        client.send_data(stream, data, end_stream=True)
    client.ping(b"12345678")
    client.close_connection()
    return client.data_to_send()


SESSION = _session()
CHANGES = st.lists(
    st.tuples(st.integers(0, len(SESSION) - 1), st.integers(0, 255)), min_size=1, max_size=6
)


async def _feed(chunks: list[bytes]) -> None:
    limits = GrpcLimits()
    transport = Transport()
    forgotten: list[GrpcConnection] = []
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        common = CommonBudgets(Budget(limits.request_bytes), Budget(limits.reply_bytes))
        calls = Calls(MethodIndex([Echo().table()]), limits, common, None, group)
        connection = GrpcConnection(calls, limits, forgotten.append)
        connection.connection_made(cast("Any", transport))
        for chunk in chunks:
            if transport.closing:
                break
            connection.data_received(chunk)
            await asyncio.sleep(0)
        connection.close()
        connection.connection_lost(None)
    assert len(calls) == 0
    assert forgotten == [connection]


@given(CHANGES, st.integers(1, len(SESSION)))
@settings(deadline=None, max_examples=300)
def test_changed_sessions(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(SESSION)
    for place, value in changes:
        data[place] = value
    asyncio.run(_feed([bytes(data[at : at + size]) for at in range(0, len(data), size)]))


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(deadline=None)
def test_any_bytes_after_the_preface(chunks: list[bytes]) -> None:
    asyncio.run(_feed([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", *chunks]))


@given(st.lists(st.integers(0, 1 << 14), max_size=4), st.integers(1, 5000))
@settings(deadline=None)
def test_frames_within_the_bound_pass_in_any_pieces(lengths: list[int], size: int) -> None:
    data = b"p" * 24 + b"".join(n.to_bytes(3, "big") + bytes(6 + n) for n in lengths)
    whole, bound = FrameBound(), FrameBound()
    assert whole.holds(data)
    assert all(bound.holds(data[at : at + size]) for at in range(0, len(data), size))
    assert not whole.holds(((1 << 14) + 1).to_bytes(3, "big") + bytes(6))
    assert not all(bound.holds(bytes([byte])) for byte in b"\xff\xff\xff\0\0\0\0\0\0")
