"""The agent's events in both forms."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.measured_event import MeasuredEvent
from tdx.aael import GuestEvent, guest_event, parse_text_log
from tdx.errors import EventLogError
from tdx.eventlog import SHA384, Digest, Event
from tdx.quote import parse_quote

ZERO = "00" * 48
WORDS = st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]), min_size=1)


def test_recorded_text_logs_give_the_recorded_register(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    for name, expected in json.loads((folder / "expected.json").read_text())["text_aael"].items():
        log = parse_text_log((folder / name).read_text())
        assert log.value.hex() == expected["register_after_replay"]
        assert len(log.lines) == expected["lines"]
    quote = parse_quote((folder / "quotes" / "trustee_v4_text_aael.bin").read_bytes())
    assert parse_text_log((folder / "aael" / "text_1.txt").read_text()).value == quote.body.rtmr3


def test_lines_are_events() -> None:
    log = parse_text_log(f'INIT sha256/{"00" * 32}\nexample.com pull {{"a": "b c"}}\n')
    first, second = log.lines
    assert first.event is None
    assert second.event == GuestEvent("example.com", "pull", '{"a": "b c"}')
    digest = hashlib.sha256(b'example.com pull {"a": "b c"}').digest()
    assert second.digest == digest + bytes(16)
    assert log.start == bytes(48)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("hello", id="prose"),
        pytest.param(f"INIT sm3/{ZERO}", id="algorithm"),
        pytest.param("INIT sha384/xy", id="no hex"),
        pytest.param(f"INIT sha384/{ZERO}00", id="long start"),
        pytest.param(f"INIT sha384/{ZERO}\na b", id="two parts"),
        pytest.param(f"INIT sha384/{ZERO}\n\na b c", id="empty line"),
        pytest.param("I" * (1024 * 1024 + 1), id="too large"),
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(EventLogError):
        parse_text_log(text)


@given(st.text(max_size=100), st.booleans())
def test_arbitrary_text_raises_nothing_else(text: str, started: bool) -> None:
    try:
        log = parse_text_log(f"INIT sha384/{ZERO}\n{text}" if started else text)
    except EventLogError:
        return
    assert len(log.value) == 48


@given(WORDS, WORDS, st.text(st.characters(codec="utf-8", exclude_characters="\n")))
def test_what_the_agent_writes_reads_back(domain: str, operation: str, content: str) -> None:
    event = MeasuredEvent.checked(domain, operation, content).record(4)
    assert guest_event(event) == GuestEvent(domain, operation, content)


@pytest.mark.parametrize(
    "data",
    [b"", b"LEAA", b"LEAA\5\0\0\0a b", b"LEAA\3\0\0\0a b", b"LEAA\2\0\0\0\xff\xff",
     b"XEAA\5\0\0\0a b c"],
    ids=["empty", "no length", "length", "two parts", "no UTF-8", "another tag"],
)  # fmt: skip
def test_other_tagged_events_are_no_guest_events(data: bytes) -> None:
    assert guest_event(Event(4, 6, (Digest(SHA384, bytes(48)),), data)) is None
