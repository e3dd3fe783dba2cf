"""Event log records and their replay, on recorded logs and on bytes that are none."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx.errors import EventLogError
from tdx.eventlog import (
    DIGEST_BYTES,
    END_ONES,
    END_ZEROS,
    MAX_LOG_BYTES,
    SHA384,
    Digest,
    Event,
    LogEnd,
    SpecId,
    encode_event,
    encode_spec_id,
    parse_event_log,
    parse_events,
)
from tdx.quote import parse_quote
from tdx.replay import extended, first_difference, replay

HEAD = encode_spec_id(SpecId(1, b"Spec ID Event03\0", {SHA384: 48}, b""))
EVENT = Event(1, 4, (Digest(SHA384, bytes(48)),), b"data")
ENDS = {"ff-run": LogEnd.ONES, "zero-run": LogEnd.ZEROS, "end of file": LogEnd.EXACT}


def recorded(vectors: Path) -> dict[str, Any]:
    logs = json.loads((vectors / "tdx" / "expected.json").read_text())["event_logs"]
    assert len(logs) == 13
    return dict(logs)


def test_recorded_logs_parse_and_encode_back(shared_vectors: Path) -> None:
    for name, expected in recorded(shared_vectors).items():
        data = (shared_vectors / "tdx" / name).read_bytes()
        log = parse_event_log(data)
        assert (log.used, log.end) == (expected["used"], ENDS[expected["end"]]), name
        assert len(log.events) == expected["events_after_spec_id"]
        assert log.spec_id.register == expected["spec_id_mr"]
        assert {f"{a:#06x}": n for a, n in log.spec_id.algorithms.items()} == expected["algorithms"]
        records = b"".join(encode_event(event) for event in log.events)
        assert data[: log.used].endswith(records)


def test_replay_gives_the_recorded_registers(shared_vectors: Path) -> None:
    for name, expected in recorded(shared_vectors).items():
        registers = expected.get("sha384_replay_all_events")
        if registers is None:  # the SM3 log of another technology
            continue
        result = replay(parse_event_log((shared_vectors / "tdx" / name).read_bytes()).events)
        assert {str(r): result.value(r).hex() for r in (1, 2, 3, 4)} == {
            register: value for register, value in registers.items() if register != "0"
        }, name


def test_a_recorded_log_agrees_with_its_quote(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    log = parse_event_log((folder / "ccel" / "gcp_cos113_trimmed.bin").read_bytes())
    quote = parse_quote((folder / "quotes" / "gcp_v4_cos113.bin").read_bytes())
    assert first_difference(replay(log.events), quote.body.rtmrs) is None
    other = parse_event_log((folder / "ccel" / "dstack.bin").read_bytes())
    assert first_difference(replay(other.events), quote.body.rtmrs) == 0


def test_a_log_without_sha384_cannot_be_replayed(shared_vectors: Path) -> None:
    data = (shared_vectors / "tdx" / "ccel" / "csv_sm3_not_tdx.bin").read_bytes()
    with pytest.raises(EventLogError, match="SHA-384"):
        replay(parse_event_log(data).events)


def test_replay_refuses_registers_that_do_not_exist() -> None:
    with pytest.raises(EventLogError, match="register"):
        replay([Event(5, 4, EVENT.digests, b"")])
    assert replay([Event(0, 4, EVENT.digests, b"")]).value(1) == bytes(48)


def test_extension_is_sha384_over_old_value_and_digest() -> None:
    assert extended(bytes(48), b"d" * 48) == hashlib.sha384(bytes(48) + b"d" * 48).digest()


@pytest.mark.parametrize(
    ("tail", "end"),
    [(b"", LogEnd.EXACT), (END_ONES, LogEnd.ONES), (END_ZEROS + b"rest", LogEnd.ZEROS)],
    ids=["exact", "ones", "zeros"],
)
def test_ends_of_a_log(tail: bytes, end: LogEnd) -> None:
    log = parse_event_log(HEAD + encode_event(EVENT) + tail)
    assert (log.events, log.end) == ((EVENT,), end)
    assert log.used == len(HEAD + encode_event(EVENT))


def event_bytes(count: int = 1, algorithm: int = SHA384, size: int = 4) -> bytes:
    record = struct.pack("<III", 1, 4, count)
    record += (struct.pack("<H", algorithm) + bytes(48)) * min(count, 2)
    return record + struct.pack("<I", size) + b"data"


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "register", id="empty"),
        pytest.param(bytes(32), "first record", id="zeros"),
        pytest.param(HEAD[:-1], "specification id", id="first record cut"),
        pytest.param(HEAD + b"\xff" * 7, "event type", id="seven bytes left"),
        pytest.param(HEAD + b"\0", "register", id="one byte left"),
        pytest.param(HEAD + event_bytes(count=2**32 - 1), "digest count", id="digest count"),
        pytest.param(HEAD + event_bytes(count=2), "digest count", id="two of one"),
        pytest.param(HEAD + event_bytes(algorithm=0xB), "digest algorithm", id="not named"),
        pytest.param(HEAD + event_bytes(size=5), "event data", id="beyond the end"),
        pytest.param(HEAD + event_bytes(size=2**32 - 1), "event data", id="size 2^32-1"),
        pytest.param(bytes(MAX_LOG_BYTES + 1), "log", id="over 1 MiB"),
    ],
)
def test_malformed_logs_are_refused_by_name(data: bytes, field: str) -> None:
    with pytest.raises(EventLogError) as caught:
        parse_event_log(data)
    assert caught.value.field == field


@pytest.mark.parametrize(
    "algorithms",
    [{}, {SHA384: 32}, {0x7777: 0}, {0x7777: 65}, dict.fromkeys(range(100, 109), 32)],
    ids=["none", "wrong size", "empty digest", "long digest", "too many"],
)
def test_the_first_record_must_name_sane_algorithms(algorithms: dict[int, int]) -> None:
    with pytest.raises(EventLogError):
        parse_event_log(encode_spec_id(SpecId(0, bytes(16), algorithms, b"")))


@st.composite
def events(draw: st.DrawFn) -> Event:
    algorithms = draw(st.lists(st.sampled_from(sorted(DIGEST_BYTES)), unique=True, max_size=4))
    digests = tuple(
        Digest(a, draw(st.binary(min_size=DIGEST_BYTES[a], max_size=DIGEST_BYTES[a])))
        for a in algorithms
    )
    # Type 0 of register 0 would read as the end mark.
    return Event(draw(st.integers(1, 4)), draw(st.integers(1, 17)), digests, draw(st.binary()))


@given(st.lists(events(), max_size=6))
@settings(deadline=None)
def test_encoded_events_parse_back(given_events: list[Event]) -> None:
    head = encode_spec_id(SpecId(1, bytes(16), DIGEST_BYTES, b"vendor"))
    records = b"".join(encode_event(event) for event in given_events)
    log = parse_event_log(head + records + END_ONES)
    assert list(log.events) == given_events
    assert log.spec_id.vendor == b"vendor"
    assert list(parse_events(records)) == given_events


@given(st.binary(max_size=512), st.booleans())
@settings(max_examples=300, deadline=None)
def test_arbitrary_bytes_raise_nothing_else(data: bytes, with_head: bool) -> None:
    data = HEAD + data if with_head else data
    try:
        log = parse_event_log(data)
    except EventLogError:
        return
    assert log.used <= len(data)


def test_every_flip_and_cut_of_a_recorded_log(shared_vectors: Path) -> None:
    path = shared_vectors / "tdx" / "ccel" / "go_eventlog_unpadded.bin"
    base = path.read_bytes()
    for at in range(len(base)):
        flipped = bytearray(base)
        flipped[at] ^= 0xFF
        for data in (bytes(flipped), base[:at]):
            try:
                log = parse_event_log(data)
            except EventLogError:
                continue
            assert log.used <= len(data)
