"""What the server answers to what should not have been sent: codes and texts of ttrpc-rust 0.9.

After each case the connection must still answer.
"""

from __future__ import annotations

import random

import pytest

from protos.api_pb2 import GetResourceResponse as Answer
from tests.services.ttrpc.rig import SERVICE, Reply, Rig, call, log_lines
from ttrpc.envelope_pb2 import Request

LIMIT = 4 * 1024 * 1024
CLOSED = "Stream id 5: data close message connot include data"  # codespell:ignore - the source's


def envelope(service: str, method: str, payload: bytes = b"") -> bytes:
    return Request(service=service, method=method, payload=payload).SerializeToString()


@pytest.mark.parametrize(
    ("frame", "code", "text"),
    [
        pytest.param(
            (5, 1, 0, envelope("no.Such", "M")), 3, "no.Such service does not exist",
            id="unknown-service",
        ),
        pytest.param(
            (5, 1, 0, envelope("s" * 5000, "M")), 3, "s" * 200 + " service does not exist",
            id="unknown-service-bounded",
        ),
        pytest.param((5, 1, 0, envelope(SERVICE, "Nope")), 12, "Nope method", id="unknown-method"),
        pytest.param(
            (5, 1, 0, envelope(SERVICE, "Absent")), 5, "/test.Held/Absent is not supported",
            id="method-not-served",
        ),
        pytest.param(
            (5, 1, 0, b"\xff\xff\xff"), 3,
            "3 bytes received as ttrpc.Request are not such a message",
            id="garbage-envelope",
        ),
        pytest.param(
            (5, 1, 0, b"\x0a\x01\xff"), 3,
            "3 bytes received as ttrpc.Request are not such a message",
            id="service-is-not-utf-8",
        ),
        pytest.param((5, 1, 0, b""), 3, " service does not exist", id="empty-envelope"),
        pytest.param(
            (5, 1, 0, envelope(SERVICE, "Echo", b"\xff")), 2,
            "ttrpc err: 1 bytes received as api.GetResourceRequest are not such a message",
            id="garbage-payload",
        ),
        pytest.param(
            (5, 1, 0, bytes(LIMIT + 1)), 3,
            "message length 4194305 exceed maximum message size of 4194304",
            id="oversized",
        ),
        pytest.param(
            (6, 3, 0, bytes(LIMIT + 1)), 3,
            "message length 4194305 exceed maximum message size of 4194304",
            id="oversized-of-any-kind",
        ),
        pytest.param((0, 1, 0, b""), 3, "stream id must be odd", id="id-0"),
        pytest.param((4, 1, 0, envelope(SERVICE, "Echo")), 3, "stream id must be odd", id="even"),
        pytest.param((4, 3, 0, b""), 3, "stream id must be odd", id="even-data"),
        pytest.param((4, 9, 0, b""), 3, "stream id must be odd", id="even-unknown-type"),
        pytest.param((5, 3, 0, b"x"), 3, "Stream is no longer active", id="data"),
        pytest.param((5, 3, 5, b""), 3, "Stream is no longer active", id="data-half-close"),
        pytest.param((5, 3, 1, b"x"), 3, CLOSED, id="data-close-with-body"),
    ],
)  # fmt: skip
async def test_bad_frame(
    rig: Rig, frame: tuple[int, int, int, bytes], code: int, text: str
) -> None:
    async with rig.peer() as peer:
        peer.send(*frame)
        assert await peer.reply() == Reply(frame[0], code, text, b"")
        assert await peer.is_alive()


@pytest.mark.parametrize("frame_type", [0, 2, 4, 255])
async def test_frames_of_other_types_are_ignored(rig: Rig, frame_type: int) -> None:
    async with rig.peer() as peer:
        peer.send(5, frame_type, 0, b"whatever")
        assert await peer.is_alive()


@pytest.mark.parametrize("flags", [1, 2, 4, 6, 7, 0xF8])
async def test_flags_of_a_unary_request_mean_nothing(rig: Rig, flags: int) -> None:
    async with rig.peer() as peer:
        peer.request(5, "Echo", "x", flags=flags)
        expected = Answer(Resource=b"x").SerializeToString()
        assert await peer.reply() == Reply(5, 0, "", expected)


async def test_ids_may_come_in_any_order_and_again(rig: Rig) -> None:
    async with rig.peer() as peer:
        for stream_id in (9, 3, 9, 1, 0xFFFF_FFFF):
            peer.request(stream_id, "Echo", str(stream_id))
            expected = Answer(Resource=str(stream_id).encode()).SerializeToString()
            assert await peer.reply() == Reply(stream_id, 0, "", expected)


async def test_a_reply_is_written_as_rust_writes_it(rig: Rig) -> None:
    async with rig.peer() as peer:
        peer.request(1, "Echo", "tdx")
        expected = bytes.fromhex("00000009 00000001 02 00 0a00 1205 0a03 746478")
        assert await peer.exactly(len(expected)) == expected


async def test_a_failure_tells_neither_peer_nor_log_its_content(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rig.peer() as peer:
        peer.request(1, "Crash", "s3cr3t")
        assert await peer.reply() == Reply(1, 2, "/test.Held/Crash failed unexpectedly", b"")
        captured = capsys.readouterr().err
        (line,) = [line for line in log_lines(captured) if line["event"] == "handler failed"]
        assert (line["error"], line["method"]) == ("KeyError", "/test.Held/Crash")
        assert "crash" in str(line["place"])
        assert "hunter2" not in captured
        assert "s3cr3t" not in captured


@pytest.mark.parametrize(
    ("method", "code", "text"),
    [
        pytest.param("WrongType", 2, "/test.Held/WrongType failed unexpectedly", id="wrong-type"),
        pytest.param("Lapse", 1, "the call was cancelled", id="inner-cancellation"),
    ],
)
async def test_a_misbehaving_handler_is_answered_for(
    rig: Rig, method: str, code: int, text: str
) -> None:
    async with rig.peer() as peer:
        peer.request(1, method)
        assert await peer.reply() == Reply(1, code, text, b"")
        assert await peer.is_alive()


async def test_others_are_served_while_one_sends_garbage(rig: Rig) -> None:
    async with rig.peer() as vandal, await rig.client() as client:
        for number in range(20):
            for _ in range(500):
                vandal.send(2, 7, 255, b"\xff" * 20)
            assert await call(client, "Echo", str(number)) == str(number).encode()


async def test_header_and_data_may_come_apart(rig: Rig) -> None:
    async with rig.peer() as peer:
        whole = Request(service=SERVICE, method="Echo").SerializeToString()
        header = len(whole).to_bytes(4, "big") + (1).to_bytes(4, "big") + b"\x01\x00"
        for piece in (header[:3], header[3:], whole[:1], whole[1:]):
            peer.writer.write(piece)
            await peer.writer.drain()
        assert (await peer.reply()).code == 0


@pytest.mark.parametrize("seed", range(8))
async def test_random_frames_never_end_a_connection(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    last = 0x7FFF_FFFF
    async with rig.peer() as peer:
        for _ in range(500):
            data = rng.randbytes(rng.choice([0, 1, 5, 40, 3000]))
            if rng.random() < 0.3:
                method = rng.choice(["Echo", "Crash", "Absent", "Lapse", "Nope"])
                data = envelope(SERVICE, method, data)
            peer.send(
                rng.randrange(last), rng.choice([0, 1, 1, 1, 2, 3, 77]), rng.randrange(8), data
            )
        peer.request(last, "Echo", "alive")
        replies = [await peer.reply()]
        while replies[-1].stream_id != last:
            replies.append(await peer.reply())
        assert replies[-1].code == 0
        assert {reply.code for reply in replies} <= {0, 1, 2, 3, 5, 12}
