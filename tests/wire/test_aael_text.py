"""The text form of the agent's event log: recorded logs against recorded quotes, and refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.aael_text import MAX_EVENTS, TextLog, parse_text_log
from tdx.errors import EventLogError
from tdx.eventlog import MAX_LOG_BYTES
from tdx.quote import parse_quote

ZEROS = "0" * 96
HEAD = f"INIT sha384/{ZEROS}\n".encode()


def extended(value: bytes, line: bytes, algorithm: str = "sha384") -> bytes:
    return hashlib.new(algorithm, value + hashlib.new(algorithm, line).digest()).digest()


def test_a_recorded_log_replays_to_its_quote(shared_vectors: Path) -> None:
    log = parse_text_log((shared_vectors / "tdx/aael/text_1.txt").read_bytes())
    quote = parse_quote((shared_vectors / "tdx/quotes/trustee_v4_text_aael.bin").read_bytes())
    assert log.replay() == quote.body.rtmr3
    assert log.events[0].operation == "CreateContainer"
    assert log.events[0].content == "docker.io/library/alpine"


@pytest.mark.parametrize("name", ["text_1.txt", "text_2.txt", "text_3.txt"])
def test_recorded_logs(shared_vectors: Path, name: str) -> None:
    data = (shared_vectors / "tdx/aael" / name).read_bytes()
    log = parse_text_log(data)
    assert log == parse_text_log(data.removesuffix(b"\n"))
    assert log.start == bytes(48)
    value = log.start
    for line in data.removesuffix(b"\n").split(b"\n"):
        value = extended(value, line)
    assert log.replay() == value
    assert [data[e.offset : e.offset + len(e.line)] for e in log.events] == [
        e.line for e in log.events
    ]


def test_init_names_the_start_and_is_itself_extended() -> None:
    start = bytes(range(48))
    init = b"INIT sha384/" + start.hex().encode()
    log = parse_text_log(init + b"\nd o one two  three\n")
    assert log.start == start
    assert log.values() == (
        extended(start, init),
        extended(extended(start, init), b"d o one two  three"),
    )
    assert log.events[0].content == "one two  three"
    assert log.events[0].digest("sha384") == hashlib.sha384(b"d o one two  three").digest()


@pytest.mark.parametrize(("algorithm", "size"), [("sha256", 32), ("sha512", 64)])
def test_other_algorithms_of_other_tees(algorithm: str, size: int) -> None:
    init = f"INIT {algorithm}/{'0' * 2 * size}".encode()
    assert parse_text_log(init).values() == (extended(bytes(size), init, algorithm),)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        (b"", "first line"),
        (b"init sha384/" + ZEROS.encode(), "first line"),
        (b"INIT", "INIT algorithm"),
        (b"INIT md5/00", "INIT algorithm"),
        (f"INIT {ZEROS}/sha384".encode(), "INIT algorithm"),
        (b"INIT sha384/00", "INIT register"),
        (b"INIT sha384/" + b"zz" * 48, "INIT register"),
        (b"INIT sha384/ " + ZEROS.encode(), "INIT register"),
        (HEAD + b"domain operation\n", "line"),
        (HEAD + b" operation content\n", "line"),
        (HEAD + b"domain  content\n", "line"),
        (HEAD + b"\n", "line"),
        (HEAD + b"d o \xff\n", "line"),
        (HEAD + b"d o c\n\n", "line"),
        (bytes(MAX_LOG_BYTES + 1), "log"),
        (b"\n" * (MAX_EVENTS + 2), "log"),
    ],
)
def test_what_is_no_such_log(data: bytes, field: str) -> None:
    with pytest.raises(EventLogError) as caught:
        parse_text_log(data)
    assert caught.value.field == field


def test_the_place_of_a_bad_line_is_named() -> None:
    with pytest.raises(EventLogError) as caught:
        parse_text_log(HEAD + b"d o c\nbad\n")
    assert caught.value.offset == len(HEAD) + 6


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for candidate in (data, HEAD + data, b"INIT " + data):
        try:
            log = parse_text_log(candidate)
        except EventLogError:
            continue
        assert isinstance(log, TextLog)


WORD = st.text(st.characters(exclude_characters=" \n", exclude_categories=["Cs"]), min_size=1)
TEXT = st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(WORD, WORD, TEXT), max_size=8))
def test_what_is_written_is_read(events: list[tuple[str, str, str]]) -> None:
    lines = "".join(f"{' '.join(event)}\n" for event in events)
    log = parse_text_log(HEAD + lines.encode())
    assert [(e.domain, e.operation, e.content) for e in log.events] == events
