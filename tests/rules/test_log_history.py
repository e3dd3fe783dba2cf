"""The story of a log: values after each entry, and where two logs part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mocktee.bootlog import BootInputs, BootLog, boot
from tdx.errors import EventLogError
from tdx.eventlog import SHA384, Digest, Event, encode_event
from tdx.log_history import divergences, log_history
from tdx.quote import parse_quote
from tdx.replay import extended

ZERO = bytes(48)
TEXT = f"INIT sha384/{ZERO.hex()}\nexample.com pull image\n"
RECORD = Event(4, 6, (Digest(SHA384, b"\1" * 48),), b"LEAA\5\0\0\0a b c")


def test_each_entry_has_the_value_it_made() -> None:
    log = boot()
    history = log_history(log.data_file())
    assert history.values == log.replay()
    assert history.whole and not history.problem
    assert len(history.entries) == len(log.events)
    for rtmr in range(3):
        value = ZERO
        for entry in history.of(rtmr):
            assert entry.digest is not None
            value = extended(value, entry.digest)
            assert entry.value == value
        assert value == history.values[rtmr]
    assert not history.of(3)


def test_bare_records_tell_only_of_their_registers() -> None:
    history = log_history(encode_event(RECORD))
    assert history.values[3] == extended(ZERO, b"\1" * 48)
    assert [history.tells(rtmr) for rtmr in range(4)] == [False, False, False, True]


def test_the_text_form_joins_the_boot_log() -> None:
    history = log_history(boot().data_file(), TEXT)
    assert history.values[:3] == boot().replay()[:3]
    last = history.entries[-1]
    assert (last.rtmr, last.value) == (3, history.values[3])
    assert last.description.summary == "guest event: example.com pull image"
    assert last.number == len(history.entries)
    assert [e.description.type_name for e in history.of(3)] == ["AAEL text"] * 2


def test_both_forms_for_one_register_cannot_be_replayed() -> None:
    log = BootLog(()).encode() + encode_event(RECORD)
    assert "RTMR3 has events" in log_history(log, TEXT).problem


def test_a_recorded_log_and_its_quote(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    history = log_history((folder / "ccel" / "gcp_cos113_trimmed.bin").read_bytes())
    quote = parse_quote((folder / "quotes" / "gcp_v4_cos113.bin").read_bytes())
    assert history.values == quote.body.rtmrs


def test_a_log_of_another_technology_is_told_but_not_replayed(shared_vectors: Path) -> None:
    data = (shared_vectors / "tdx" / "ccel" / "csv_sm3_not_tdx.bin").read_bytes()
    history = log_history(data)
    assert len(history.entries) == 82
    assert "SHA-384" in history.problem
    assert {entry.value for entry in history.entries} == {None}


def test_a_broken_log_is_refused() -> None:
    with pytest.raises(EventLogError):
        log_history(boot().encode()[:-1])
    assert log_history(None).entries == ()


def test_equal_logs_do_not_part() -> None:
    ours = log_history(boot().data_file())
    assert divergences(ours, log_history(boot().encode())) == ()


def test_another_kernel_shows_at_its_event() -> None:
    ours = log_history(boot(BootInputs(kernel=b"another kernel")).data_file())
    (found,) = divergences(ours, log_history(boot().data_file()))
    assert found.rtmr == 1
    assert found.ours is not None and found.reference is not None
    assert found.ours.description.summary == "EFI image kernel"
    assert found.position == ours.of(1).index(found.ours) + 1


def test_the_first_difference_of_each_register_in_the_order_of_our_log() -> None:
    other = BootInputs(initrd=b"other", firmware=b"other", command_line="other")
    found = divergences(log_history(boot(other).encode()), log_history(boot().encode()))
    assert [item.rtmr for item in found] == [0, 2]
    assert found[1].position == 1  # the command line comes before the initrd


def test_a_shorter_log_ends_before() -> None:
    whole = boot()
    cut = dataclasses.replace(whole, events=whole.events[:-1])
    (found,) = divergences(log_history(cut.encode()), log_history(whole.encode()))
    assert found.ours is None and found.reference is not None
    (found,) = divergences(log_history(whole.encode()), log_history(cut.encode()))
    assert found.ours is not None and found.reference is None
