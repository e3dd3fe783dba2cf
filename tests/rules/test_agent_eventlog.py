"""Log and register never part: order, crashes at each point, recovery, rivals."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import LogDivergedError, MeasuredEventError, MeasurementLogError
from agent.eventlog import INTENT_NAME, LOG_NAME, EventLogWriter
from agent.intent import Intent
from agent.measured_event import MAX_CONTENT_BYTES, MeasuredEvent, cc_register_of
from tdx.errors import MeasurementError
from tdx.eventlog import encode_event, parse_events
from tdx.replay import replay
from tests.ports.fake_registers import Crash, FakeRegisters, busy, crash

EVENT = MeasuredEvent.checked("domain", "operation", "content")
OTHER = MeasuredEvent.checked("domain", "operation", "other")
# The published vector of the TCG2 form.
RECORD = bytes.fromhex(
    "04000000 06000000 01000000 0c00"
    "dad5f0e226318ffa9839b75a472c6aa7fdb5834949d0a0a22990cf04d5692440"
    "fb00f3aa0609db7e49cd8d793f670d02 20000000"
    "4c454141 18000000 646f6d61696e206f7065726174696f6e20636f6e74656e74"
)
EXTENDED = bytes.fromhex(
    "82d3f7a4203f58dafe0519eb5e9f645339cda127418c62d4b0270d790ab6ff3c"
    "38783523613a7a9f610e7ba004788c26"
)


def opened(directory: Path, registers: FakeRegisters) -> EventLogWriter:
    writer = EventLogWriter(directory, registers, sleep=lambda _seconds: None)
    writer.open()
    return writer


def log_of(directory: Path) -> bytes:
    return (directory / LOG_NAME).read_bytes()


def assert_agree(directory: Path, registers: FakeRegisters) -> None:
    """The whole log replays to the registers, and no intent is left."""
    state = replay(parse_events(log_of(directory)))
    assert [state.value(r) for r in (1, 2, 3, 4)] == registers.rtmrs
    assert sorted(os.listdir(directory)) == [LOG_NAME]


def test_the_published_vector(tmp_path: Path) -> None:
    registers = FakeRegisters()
    opened(tmp_path, registers).append(EVENT, cc_register_of(17))
    assert log_of(tmp_path) == RECORD
    assert registers.rtmrs[3] == EXTENDED
    assert_agree(tmp_path, registers)


def test_files_are_private(tmp_path: Path) -> None:
    opened(tmp_path / "new", FakeRegisters()).append(EVENT, 4)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "new" / LOG_NAME).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("pcr", "register"),
    [(0, 4), (1, 1), (2, 2), (6, 2), (7, 1), (8, 3), (15, 3), (16, 4), (17, 4), (2**64 - 1, 4)],
)
def test_pcr_to_register(pcr: int, register: int, tmp_path: Path) -> None:
    assert cc_register_of(pcr) == register
    registers = FakeRegisters()
    opened(tmp_path, registers).append(EVENT, cc_register_of(pcr))
    # The register that is logged is the one that moved.
    assert [value != bytes(48) for value in registers.rtmrs].index(True) == register - 1
    assert_agree(tmp_path, registers)


def test_the_log_is_kept_across_restarts(tmp_path: Path) -> None:
    registers = FakeRegisters()
    first = opened(tmp_path, registers)
    first.append(EVENT, 4)
    first.close()
    second = opened(tmp_path, registers)
    assert second.events == 1
    second.append(OTHER, 2)
    assert second.records() == log_of(tmp_path)
    assert second.events == 2
    assert_agree(tmp_path, registers)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    first = opened(tmp_path, FakeRegisters())
    with pytest.raises(MeasurementLogError, match="another process writes"):
        opened(tmp_path, FakeRegisters())
    first.close()
    opened(tmp_path, FakeRegisters()).close()


def test_a_busy_register_leaves_nothing_behind(tmp_path: Path) -> None:
    registers = FakeRegisters(before_extend=busy)
    writer = opened(tmp_path, registers)
    with pytest.raises(MeasurementError, match="EBUSY"):
        writer.append(EVENT, 4)
    assert log_of(tmp_path) == b""
    assert_agree(tmp_path, registers)
    registers.before_extend = lambda: None
    writer.append(EVENT, 4)
    assert_agree(tmp_path, registers)


def test_a_register_that_is_busy_for_a_moment_is_asked_again(tmp_path: Path) -> None:
    tries: list[int] = []

    def busy_twice() -> None:
        tries.append(len(tries))
        if len(tries) <= 2:
            busy()

    registers = FakeRegisters(before_extend=busy_twice)
    opened(tmp_path, registers).append(EVENT, 4)
    assert len(tries) == 3
    assert_agree(tmp_path, registers)


def test_an_extension_whose_answer_is_an_error_counts_when_the_register_moved(
    tmp_path: Path,
) -> None:
    registers = FakeRegisters(after_extend=busy)
    opened(tmp_path, registers).append(EVENT, 4)
    assert_agree(tmp_path, registers)


def test_an_extension_without_effect_is_an_error(tmp_path: Path) -> None:
    registers = FakeRegisters(ignored=True)
    with pytest.raises(MeasurementLogError, match="no effect"):
        opened(tmp_path, registers).append(EVENT, 4)
    assert_agree(tmp_path, registers)


@pytest.mark.parametrize("point", ["before_extend", "after_extend"])
@pytest.mark.parametrize("torn", [b"", RECORD[:17], RECORD], ids=["none", "part", "whole"])
def test_a_crash_is_finished_at_the_next_start(tmp_path: Path, point: str, torn: bytes) -> None:
    registers = FakeRegisters()
    first = opened(tmp_path, registers)
    first.append(OTHER, 4)
    setattr(registers, point, crash)
    with pytest.raises(Crash):
        first.append(EVENT, 4)
    first.close()
    setattr(registers, point, lambda: None)
    with (tmp_path / LOG_NAME).open("ab") as file:
        file.write(torn)
    second = opened(tmp_path, registers)
    assert second.events == 2
    assert log_of(tmp_path).endswith(RECORD)
    assert_agree(tmp_path, registers)


def test_a_crash_while_writing_the_intent_is_as_if_nothing_had_happened(tmp_path: Path) -> None:
    (tmp_path / INTENT_NAME).with_suffix(".new").write_bytes(b'{"vers')
    registers = FakeRegisters()
    assert opened(tmp_path, registers).events == 0
    assert_agree(tmp_path, registers)


def test_recovery_uses_the_register_of_the_intent(tmp_path: Path) -> None:
    registers = FakeRegisters(before_extend=crash)
    first = opened(tmp_path, registers)
    with pytest.raises(Crash):
        first.append(EVENT, cc_register_of(8))
    first.close()
    registers.before_extend = lambda: None
    opened(tmp_path, registers)
    assert registers.rtmrs[2] == EXTENDED
    assert_agree(tmp_path, registers)


def test_a_full_disk_after_the_extension_is_finished_by_the_next_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registers = FakeRegisters()
    writer = opened(tmp_path, registers)

    def no_space(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.ftruncate", no_space)
        with pytest.raises(MeasurementLogError, match="ENOSPC"):
            writer.append(EVENT, 4)
    assert registers.rtmrs[3] == EXTENDED
    writer.append(OTHER, 4)
    assert len(parse_events(log_of(tmp_path))) == 2
    assert_agree(tmp_path, registers)


def test_a_foreign_extension_during_ours_is_fatal(tmp_path: Path) -> None:
    registers = FakeRegisters()

    def rival() -> None:
        registers.after_extend = lambda: None
        registers.extend(3, bytes(48))

    registers.after_extend = rival
    writer = opened(tmp_path, registers)
    with pytest.raises(LogDivergedError, match="RTMR3: expected 82d3f7a4"):
        writer.append(EVENT, 4)
    writer.close()
    with pytest.raises(LogDivergedError):
        opened(tmp_path, registers)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"{}", b"\xff" * 8, b"x" * (256 * 1024 + 1)],
    ids=["empty", "cut", "array", "no members", "no text", "too long"],
)
def test_an_unreadable_intent_is_fatal_not_ignored(tmp_path: Path, text: bytes) -> None:
    (tmp_path / INTENT_NAME).write_bytes(text)
    with pytest.raises(MeasurementLogError, match="not an intent"):
        opened(tmp_path, FakeRegisters())


def test_a_log_shorter_than_the_intent_says_is_fatal(tmp_path: Path) -> None:
    intent = Intent.planned(EVENT.record(4), bytes(48), offset=9)
    (tmp_path / INTENT_NAME).write_bytes(intent.encode())
    with pytest.raises(MeasurementLogError, match="at least 9 bytes, got 0"):
        opened(tmp_path, FakeRegisters())


def test_a_damaged_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).write_bytes(RECORD[:-1])
    with pytest.raises(MeasurementLogError, match="event data"):
        opened(tmp_path, FakeRegisters())


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / LOG_NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MeasurementLogError, match="ELOOP"):
        opened(tmp_path, FakeRegisters())


def test_the_log_is_bounded(tmp_path: Path) -> None:
    registers = FakeRegisters()
    writer = opened(tmp_path, registers)
    large = MeasuredEvent.checked("d", "o", "x" * MAX_CONTENT_BYTES)
    for _ in range(7):
        writer.append(large, 4)
    with pytest.raises(MeasurementLogError, match="would exceed"):
        writer.append(large, 4)
    assert_agree(tmp_path, registers)


@pytest.mark.parametrize(
    ("domain", "operation", "content", "field"),
    [
        ("", "o", "c", "domain"),
        ("two words", "o", "c", "domain"),
        ("d\tx", "o", "c", "domain"),
        ("d\x00", "o", "c", "domain"),
        ("d\u00a0x", "o", "c", "domain"),
        ("d", "", "c", "operation"),
        ("d", "o\n", "c", "operation"),
        ("d", "o" * 1025, "c", "operation"),
        ("d", "o", "line\nfeed", "content"),
        ("d", "o", "x" * (MAX_CONTENT_BYTES + 1), "content"),
    ],
)
def test_fields_that_break_the_rules(domain: str, operation: str, content: str, field: str) -> None:
    with pytest.raises(MeasuredEventError) as caught:
        MeasuredEvent.checked(domain, operation, content)
    assert caught.value.field == field


def test_content_may_hold_spaces_json_and_nothing() -> None:
    for content in ("", '{"image": "a b", "digest": "sha256:0"}', "ünï"):
        event = MeasuredEvent.checked("github.com/x", "PullImage", content).record(4)
        assert event.data[8:].decode() == f"github.com/x PullImage {content}"
        assert event.digest() == hashlib.sha384(event.data).digest()


@settings(deadline=None)
@given(st.integers(1, 4), st.binary(min_size=48, max_size=48), st.integers(0, 2**40))
def test_intents_round_trip(register: int, before: bytes, offset: int) -> None:
    intent = Intent.planned(EVENT.record(register), before, offset)
    assert Intent.decode(intent.encode()) == intent
    assert intent.record == encode_event(EVENT.record(register))


@settings(deadline=None)
@given(st.binary(max_size=256))
def test_arbitrary_bytes_are_no_intent(data: bytes) -> None:
    with pytest.raises(ValueError):
        Intent.decode(data)


# Each step is synced to disk, whose speed is not the subject.
@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.sampled_from(["good", "busy", "late error", "crash before", "crash after"]), max_size=8
    )
)
def test_any_run_of_faults_leaves_log_and_registers_agreeing(
    tmp_path_factory: pytest.TempPathFactory, faults: list[str]
) -> None:
    directory = tmp_path_factory.mktemp("log")
    registers = FakeRegisters()
    writer = opened(directory, registers)
    for number, fault in enumerate(faults):
        registers.before_extend = {"busy": busy, "crash before": crash}.get(fault, lambda: None)
        registers.after_extend = {"late error": busy, "crash after": crash}.get(fault, lambda: None)
        event = MeasuredEvent.checked("d", "o", str(number))
        try:
            writer.append(event, cc_register_of(number))
        except MeasurementError:
            pass
        except Crash:
            registers.before_extend = registers.after_extend = lambda: None
            writer.close()
            writer = opened(directory, registers)
    writer.close()
    assert_agree(directory, registers)
