"""Frames in any split of the bytes, at every size that matters, and never an error."""

from __future__ import annotations

import itertools
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrpc.errors import MessageTooLargeError
from ttrpc.frames import (
    MAX_DATA_BYTES,
    Frame,
    FrameDecoder,
    FrameType,
    OversizedFrame,
    encode_frame,
)


def raw_frame(stream_id: int, frame_type: int, flags: int, data: bytes) -> bytes:
    """Written from the layout in the protocol text, not with the code under test."""
    return struct.pack(">IIBB", len(data), stream_id, frame_type, flags) + data


def decode_all(decoder: FrameDecoder, pieces: list[bytes]) -> list[Frame | OversizedFrame]:
    found: list[Frame | OversizedFrame] = []
    for piece in pieces:
        decoder.feed(piece)
        while (frame := decoder.next_frame()) is not None:
            found.append(frame)
    return found


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


frames = st.builds(
    Frame,
    stream_id=st.integers(0, 2**32 - 1),
    type=st.integers(0, 255),
    flags=st.integers(0, 255),
    data=st.binary(max_size=300),
)


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(raw_frame(f.stream_id, f.type, f.flags, f.data) for f in sent)
    assert decode_all(FrameDecoder(), split(stream, cuts)) == sent


@given(st.lists(frames, min_size=1, max_size=3))
def test_byte_by_byte(sent: list[Frame]) -> None:
    stream = b"".join(raw_frame(f.stream_id, f.type, f.flags, f.data) for f in sent)
    assert decode_all(FrameDecoder(), [bytes([byte]) for byte in stream]) == sent


@given(st.binary(max_size=2000), st.lists(st.integers(0, 4000), max_size=6))
def test_arbitrary_bytes_are_frames_or_the_beginning_of_one(stream: bytes, cuts: list[int]) -> None:
    whole = decode_all(FrameDecoder(), [stream])
    assert decode_all(FrameDecoder(), split(stream, cuts)) == whole


@given(st.integers(0, 2**32 - 1), st.binary(max_size=100), st.integers(0, 255))
def test_encoding_is_the_layout(stream_id: int, data: bytes, flags: int) -> None:
    assert encode_frame(stream_id, FrameType.RESPONSE, data) == raw_frame(stream_id, 2, 0, data)
    assert encode_frame(stream_id, FrameType.DATA, data, flags) == raw_frame(
        stream_id, 3, flags, data
    )


@given(st.lists(frames, max_size=4), st.binary(max_size=9))
def test_a_decoder_says_what_it_holds_of_the_next_frame(sent: list[Frame], part: bytes) -> None:
    decoder = FrameDecoder()
    stream = b"".join(raw_frame(f.stream_id, f.type, f.flags, f.data) for f in sent)
    assert decode_all(decoder, [stream, part]) == sent
    assert (decoder.held, decoder.is_inside_frame) == (len(part), bool(part))


def test_an_oversized_frame_holds_nothing_and_is_yet_unfinished() -> None:
    decoder = FrameDecoder()
    decode_all(decoder, [struct.pack(">IIBB", 2**32 - 1, 1, 1, 0), bytes(10_000)])
    assert (decoder.held, decoder.is_inside_frame) == (0, True)


@pytest.mark.parametrize(
    ("extra", "whole"),
    [
        pytest.param(-1, True, id="one-less"),
        pytest.param(0, True, id="exactly-4-MiB"),
        pytest.param(1, False, id="one-more"),
    ],
)
def test_the_limit_is_exactly_4_mib(extra: int, *, whole: bool) -> None:
    data = bytes(MAX_DATA_BYTES + extra)
    after = raw_frame(3, 1, 0, b"next")
    got = decode_all(FrameDecoder(), [raw_frame(1, 1, 0, data) + after])
    first = Frame(1, 1, 0, data) if whole else OversizedFrame(1, 1, len(data))
    assert got == [first, Frame(3, 1, 0, b"next")]


@given(st.integers(1, 300), st.lists(st.integers(0, MAX_DATA_BYTES + 400), max_size=5), frames)
def test_an_oversized_frame_is_skipped_in_any_split(
    excess: int, cuts: list[int], following: Frame
) -> None:
    length = MAX_DATA_BYTES + excess
    f = following
    stream = raw_frame(7, 3, 5, bytes(length)) + raw_frame(f.stream_id, f.type, f.flags, f.data)
    got = decode_all(FrameDecoder(), split(stream, cuts))
    assert got == [OversizedFrame(7, 3, length), following]


def test_an_announced_length_is_reported_only_after_its_data() -> None:
    decoder = FrameDecoder()
    assert decode_all(decoder, [struct.pack(">IIBB", 2**32 - 1, 1, 1, 0), bytes(10_000)]) == []


def test_skipped_data_is_not_stored() -> None:
    decoder = FrameDecoder()
    decode_all(decoder, [struct.pack(">IIBB", 2**32 - 1, 1, 1, 0)])
    for _ in range(64):
        decode_all(decoder, [bytes(65_536)])
    assert len(decoder._buffer) <= 65_536


def test_given_out_data_is_forgotten() -> None:
    decoder = FrameDecoder()
    for _ in range(1000):
        assert len(decode_all(decoder, [raw_frame(1, 1, 0, bytes(1000))])) == 1
    assert len(decoder._buffer) == 0


def test_encoding_too_much_is_refused_with_the_length() -> None:
    with pytest.raises(MessageTooLargeError) as caught:
        encode_frame(1, FrameType.REQUEST, bytes(MAX_DATA_BYTES + 1))
    assert (caught.value.length, caught.value.limit) == (4194305, 4194304)
    assert str(caught.value) == "message length 4194305 exceed maximum message size of 4194304"
