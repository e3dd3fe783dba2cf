"""Any sequence of frames of any number of streams, in any pieces, against a model of the rules.

The model is written from the protocol page. It is asked with the loop at rest after each frame, so
that every handler has answered; and, without that, for what holds in any interleaving.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.api_pb2 import GetResourceRequest as Asked
from protos.api_pb2 import GetResourceResponse as Answer
from ttrpc import CallContext, ClientStreamMethod, DuplexMethod, Limits, Method, Receiver, Sender
from ttrpc.budget import CommonBudget, CommonBudgets
from ttrpc.connection import Connection
from ttrpc.dispatch import Dispatcher
from ttrpc.envelope_pb2 import Request, Response
from ttrpc.methods import ServiceTable

HEADER: Final = struct.Struct(">IIBB")
REQUEST, RESPONSE, DATA = 1, 2, 3
REST_TURNS: Final = 12  # of the loop, more than any handler here needs to answer


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame of the client."""

    stream_id: int
    type: int
    flags: int
    method: str  # of a request
    text: bytes  # of its message or of a data frame

    def encode(self) -> bytes:
        data = message(self.text)
        if self.type == REQUEST:
            request = Request(service="s", method=self.method, payload=data)
            data = request.SerializeToString()
        return HEADER.pack(len(data), self.stream_id, self.type, self.flags) + data


Got = tuple[int, int, int, bytes | int]  # id, type, flags, and the message or the status code


def message(text: bytes) -> bytes:
    return Asked(ResourcePath=text.decode()).SerializeToString()


async def echo(messages: Receiver[Asked], sender: Sender[Answer], context: CallContext) -> None:
    async for each in messages:
        await sender.send(Answer(Resource=each.ResourcePath.encode()))


async def join(messages: Receiver[Asked], context: CallContext) -> Answer:
    return Answer(Resource=b"".join([each.ResourcePath.encode() async for each in messages]))


async def unary(request: Asked, context: CallContext) -> Answer:
    return Answer(Resource=request.ResourcePath.encode())


TABLE: Final = ServiceTable(
    "s",
    {
        "Echo": DuplexMethod(Asked, Answer, echo),
        "Join": ClientStreamMethod(Asked, Answer, join),
        "Unary": Method(Asked, Answer, unary),
    },
)


class CollectingTransport:
    """Keeps what is written; never slow."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.written = b""
        self.closing = False

    def write(self, data: bytes) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        if not self.closing:
            self.closing = True
            asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)

    abort = close

    def frames(self) -> Iterator[Got]:
        at = 0
        while at < len(self.written):
            length, stream_id, frame_type, flags = HEADER.unpack_from(self.written, at)
            data = self.written[at + HEADER.size : at + HEADER.size + length]
            at += HEADER.size + length
            if frame_type == DATA:
                yield stream_id, DATA, flags, Answer.FromString(data).Resource
            else:
                response = Response.FromString(data)
                ok = Answer.FromString(response.payload).Resource
                yield stream_id, RESPONSE, flags, response.status.code or ok


async def rest() -> None:
    for _ in range(REST_TURNS):
        await asyncio.sleep(0)


async def played(pieces: list[bytes], *, at_rest: bool) -> list[Got]:
    """Return what the server answers to ``pieces``, and see that nothing is left of the streams."""
    budgets = CommonBudgets(CommonBudget(1 << 20), CommonBudget(1 << 20))
    connection = Connection(Dispatcher([TABLE]), Limits(), None, budgets, lambda *_: None)
    transport = CollectingTransport(connection)
    connection.connection_made(cast("asyncio.Transport", transport))
    async with asyncio.TaskGroup() as group:
        group.create_task(connection.run())
        await rest()
        for piece in pieces:
            connection.data_received(piece)
            if at_rest:
                await rest()
        while connection._backlog or connection._calls:
            await rest()
        await rest()
        frames = list(transport.frames())
        connection.end()
    assert len(connection._streams) == 0
    assert connection._budget.held == 0
    return frames


@dataclass(slots=True)
class Model:
    """What the protocol page says, with handlers that answer at once."""

    open: dict[int, list[bytes]] = field(default_factory=dict)  # what Join has; Echo: empty
    joins: set[int] = field(default_factory=set)

    def answers(self, sent: Sent) -> list[Got]:
        if sent.stream_id % 2 == 0:
            return [self._failure(sent, 3)]
        if sent.type == REQUEST:
            return self._request(sent)
        if sent.type == DATA:
            return self._data(sent)
        return []

    def _failure(self, sent: Sent, code: int) -> Got:
        self.open.pop(sent.stream_id, None)
        return sent.stream_id, RESPONSE, 0, code

    def _request(self, sent: Sent) -> list[Got]:
        if sent.stream_id in self.open:
            return [self._failure(sent, 3)]
        if sent.method == "Unary":
            return [(sent.stream_id, RESPONSE, 0, sent.text)]
        if sent.method == "Nope":
            return [self._failure(sent, 12)]
        self.open[sent.stream_id] = []
        self.joins.discard(sent.stream_id)
        if sent.method == "Join":
            self.joins.add(sent.stream_id)
        more = bool(sent.flags & 2)
        has_message = not sent.flags & 4 and (bool(sent.text) or not more)
        return self._take(sent, has_message=has_message, ends=not more)

    def _data(self, sent: Sent) -> list[Got]:
        if sent.stream_id not in self.open or (sent.flags & 1 and sent.text):
            return [self._failure(sent, 3)]
        return self._take(sent, has_message=not sent.flags & 4, ends=bool(sent.flags & 1))

    def _take(self, sent: Sent, *, has_message: bool, ends: bool) -> list[Got]:
        stream_id = sent.stream_id
        joins = stream_id in self.joins
        answers: list[Got] = []
        if has_message and joins:
            self.open[stream_id].append(sent.text)
        elif has_message:
            answers.append((stream_id, DATA, 0, sent.text))
        if ends:
            joined = b"".join(self.open.pop(stream_id))
            end = (stream_id, RESPONSE, 0, joined) if joins else (stream_id, DATA, 5, b"")
            answers.append(cast("Got", end))
        return answers


sequences = st.lists(
    st.builds(
        Sent,
        stream_id=st.sampled_from([1, 1, 1, 3, 3, 5, 4]),
        type=st.sampled_from([REQUEST, REQUEST, DATA, DATA, DATA, DATA, RESPONSE, 9]),
        flags=st.sampled_from([0, 0, 0, 1, 2, 4, 5, 6, 6, 7]),
        method=st.sampled_from(["Echo", "Echo", "Join", "Join", "Unary", "Nope"]),
        text=st.sampled_from([b"", b"a", b"b", b"c" * 200]),
    ),
    max_size=40,
)


@given(sequences)
def test_every_frame_is_answered_as_the_page_says(frames: list[Sent]) -> None:
    model = Model()
    expected = [answer for frame in frames for answer in model.answers(frame)]
    assert asyncio.run(played([frame.encode() for frame in frames], at_rest=True)) == expected


@given(sequences, st.lists(st.integers(0, 5000), max_size=10))
def test_in_any_pieces_each_stream_keeps_its_form(frames: list[Sent], cuts: list[int]) -> None:
    whole = b"".join(frame.encode() for frame in frames)
    edges = [0, *sorted(cut % (len(whole) + 1) for cut in cuts), len(whole)]
    pieces = [whole[start:end] for start, end in itertools.pairwise(edges)]
    answers = asyncio.run(played(pieces, at_rest=False))
    requests: dict[int, int] = {}
    others: dict[int, int] = {}
    for frame in frames:
        counted = requests if frame.type == REQUEST else others
        counted[frame.stream_id] = counted.get(frame.stream_id, 0) + 1
    for stream_id in {answer[0] for answer in answers}:
        of_stream = [answer for answer in answers if answer[0] == stream_id]
        ends = [answer for answer in of_stream if answer[1:3] in ((RESPONSE, 0), (DATA, 5))]
        # No frame has more than one end, and there is nothing but messages beside ends.
        assert len(ends) <= requests.get(stream_id, 0) + others.get(stream_id, 0)
        assert all(answer[1:3] == (DATA, 0) for answer in of_stream if answer not in ends)


@given(st.lists(st.sampled_from([b"", b"a", b"bc"]), max_size=30), st.data())
def test_streams_do_not_mix(words: list[bytes], data: st.DataObject) -> None:
    """Two proper streams in any interleaving give what each gives alone, whatever the pieces."""
    scripts = [
        [
            Sent(stream_id, REQUEST, 6, "Echo", b""),
            *[Sent(stream_id, DATA, 0, "", word) for word in words],
            Sent(stream_id, DATA, 5, "", b""),
        ]
        for stream_id in (1, 3)
    ]
    whole = b""
    while any(scripts):
        script = data.draw(st.sampled_from([script for script in scripts if script]))
        whole += script.pop(0).encode()
    step = data.draw(st.integers(1, len(whole)))
    pieces = [whole[at : at + step] for at in range(0, len(whole), step)]
    answers = asyncio.run(played(pieces, at_rest=False))
    for stream_id in (1, 3):
        expected = [(stream_id, DATA, 0, word) for word in words] + [(stream_id, DATA, 5, b"")]
        assert [answer for answer in answers if answer[0] == stream_id] == expected


@pytest.mark.parametrize("flags", range(8))
@pytest.mark.parametrize("method", ["Echo", "Join", "Unary"])
@pytest.mark.parametrize("text", [b"", b"x"])
def test_every_form_of_opening(flags: int, method: str, text: bytes) -> None:
    frame = Sent(1, REQUEST, flags, method, text)
    expected = Model().answers(frame)
    assert asyncio.run(played([frame.encode()], at_rest=True)) == expected
