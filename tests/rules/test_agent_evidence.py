"""What goes into evidence: the quote cut, the logs the quote covers, null when there is none."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from pathlib import Path

import pytest

from agent.attestation import AttestationAgent, ExtendResult, MeasurementSettings
from agent.errors import MeasuredEventError, RuntimeDataError
from agent.eventlog import EventLogWriter
from agent.evidence import evidence_json
from agent.log_check import first_unexplained
from agent.measured_event import MeasuredEvent
from agent.tdx_attester import TdxAttester
from tdx.ccel import NO_BOOT_LOG_HEADER, read_ccel
from tdx.errors import BootLogError, EventLogError
from tdx.eventlog import (
    SHA384,
    Digest,
    Event,
    SpecId,
    encode_event,
    encode_spec_id,
    parse_event_log,
)
from tdx.quote import parse_quote
from tdx.quote_reader import QuoteReader
from tdx.replay import replay
from tdx.tsm_report import TsmQuoteSource
from tests.ports.fake_registers import FakeRegisters
from tests.ports.fake_tsm import FakeTsm, formed_quote

END = b"\xff" * 8
BOOT_EVENTS = tuple(Event(r, 4, (Digest(SHA384, bytes([r]) * 48),), b"boot") for r in (1, 2, 3))
BOOT = encode_spec_id(SpecId(1, b"Spec ID Event03\0", {SHA384: 48}, b"")) + b"".join(
    encode_event(event) for event in BOOT_EVENTS
)
OWN = [MeasuredEvent.checked("d", "o", str(n)).record(4) for n in range(3)]


def encoded(events: list[Event]) -> bytes:
    return b"".join(encode_event(event) for event in events)


def rtmrs_after(events: list[Event]) -> tuple[bytes, ...]:
    state = replay([*BOOT_EVENTS, *events])
    return tuple(state.value(r) for r in (1, 2, 3, 4))


def log_in(evidence: bytes) -> bytes | None:
    text = json.loads(evidence)["cc_eventlog"]
    return None if text is None else base64.b64decode(text, validate=True)


def test_members_are_those_of_the_reference_and_the_text_is_compact() -> None:
    quote = parse_quote(formed_quote(bytes(64)) + b"tail")
    evidence = evidence_json(quote, None, None)
    expected = base64.b64encode(formed_quote(bytes(64))).decode()
    assert evidence == b'{"cc_eventlog":null,"quote":"%s"}' % expected.encode()


def test_the_boot_log_is_cut_at_its_mark_and_gets_one_mark() -> None:
    quote = parse_quote(formed_quote(bytes(64), rtmrs_after([])))
    for padding in (END + b"\xff" * 999, b"\0" * 512, b""):
        assert log_in(evidence_json(quote, BOOT + padding, None)) == BOOT + END


def test_without_a_boot_log_the_fixed_header_comes_first() -> None:
    quote = parse_quote(formed_quote(bytes(64), (*[bytes(48)] * 3, rtmrs_after(OWN)[3])))
    log = log_in(evidence_json(quote, None, encoded(OWN)))
    assert log == NO_BOOT_LOG_HEADER + encoded(OWN) + END
    assert len(NO_BOOT_LOG_HEADER) == 69
    assert parse_event_log(log).spec_id.algorithms == {0x0C: 48, 0x12: 32}


@pytest.mark.parametrize("covered", [0, 1, 3])
def test_events_after_the_quote_are_left_out(covered: int) -> None:
    quote = parse_quote(formed_quote(bytes(64), rtmrs_after(OWN[:covered])))
    log = log_in(evidence_json(quote, BOOT + END, encoded(OWN)))
    assert log == BOOT + encoded(OWN[:covered]) + END


def test_a_log_that_fits_no_quote_is_sent_whole() -> None:
    quote = parse_quote(formed_quote(bytes(64), (b"x" * 48,) * 4))
    log = log_in(evidence_json(quote, BOOT, encoded(OWN)))
    assert log == BOOT + encoded(OWN) + END


def test_a_boot_log_that_does_not_parse_fails_the_evidence() -> None:
    quote = parse_quote(formed_quote(bytes(64)))
    for boot in (b"", BOOT[:-1], bytes(64)):
        with pytest.raises(EventLogError):
            evidence_json(quote, boot, None)


def test_an_absent_boot_log_is_none_and_a_failing_read_is_not(tmp_path: Path) -> None:
    assert read_ccel(tmp_path / "CCEL") is None
    (tmp_path / "CCEL").mkdir()
    with pytest.raises(BootLogError, match="EISDIR"):
        read_ccel(tmp_path / "CCEL")
    (tmp_path / "file").touch()
    with pytest.raises(BootLogError, match="ENOTDIR"):
        read_ccel(tmp_path / "file" / "CCEL")


def test_a_boot_log_over_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CCEL").touch()
    os.truncate(tmp_path / "CCEL", 1024 * 1024 + 1)
    with pytest.raises(BootLogError, match="larger than"):
        read_ccel(tmp_path / "CCEL")


def agent_on(
    tsm: FakeTsm, tmp_path: Path, writer: EventLogWriter | None, *, enabled: bool = True
) -> tuple[AttestationAgent, QuoteReader]:
    reader = QuoteReader(TsmQuoteSource(tsm))
    settings = MeasurementSettings(enabled, 17, writer)
    attester = TdxAttester(reader, writer, ccel_path=tmp_path / "CCEL", quote_seconds=10)
    return AttestationAgent(attester, settings), reader


async def test_runtime_data_is_padded_and_never_cut(tmp_path: Path) -> None:
    agent, reader = agent_on(FakeTsm(), tmp_path, None, enabled=False)
    async with reader:
        for data in (b"", b"short", bytes(range(64))):
            quote = parse_quote(base64.b64decode(json.loads(await agent.evidence(data))["quote"]))
            assert quote.body.report_data == data.ljust(64, b"\0")
        with pytest.raises(RuntimeDataError, match="at most 64 bytes, got 65"):
            await agent.evidence(bytes(65))
    assert agent.status().quotes_taken == 3


async def test_results_when_events_are_not_measured(tmp_path: Path) -> None:
    off, reader = agent_on(FakeTsm(), tmp_path, None, enabled=False)
    assert await off.extend("bad domain", "o", "c") is ExtendResult.NOT_ENABLED
    await reader.aclose()
    unable, reader = agent_on(FakeTsm(), tmp_path, None)
    assert await unable.extend("d", "o", "c") is ExtendResult.NOT_SUPPORTED
    assert not unable.status().event_log_enabled
    await reader.aclose()


async def test_measured_events_are_in_the_evidence_and_counted(tmp_path: Path) -> None:
    registers = FakeRegisters()
    writer = EventLogWriter(tmp_path / "log", registers)
    writer.open()
    tsm = FakeTsm(answer=lambda inblob: formed_quote(inblob, tuple(registers.rtmrs)))
    agent, reader = agent_on(tsm, tmp_path, writer)
    async with reader:
        results = await asyncio.gather(
            *(agent.extend("d", "o", str(n), pcr) for n, pcr in enumerate([None, 0, 8, 1, 17]))
        )
        assert results == [ExtendResult.OK] * 5
        with pytest.raises(MeasuredEventError):
            await agent.extend("d", "o", "line\nfeed")
        log = log_in(await agent.evidence(b""))
    assert log is not None
    state = replay(parse_event_log(log).events)
    assert [state.value(r) for r in (1, 2, 3, 4)] == registers.rtmrs
    assert agent.status().measured_events == 5
    assert agent.status().event_log_enabled


def test_the_start_check_names_the_register_that_others_extended(tmp_path: Path) -> None:
    registers = FakeRegisters([*rtmrs_after(OWN)])
    (tmp_path / "CCEL").write_bytes(BOOT + END)
    assert first_unexplained(encoded(OWN), registers, tmp_path / "CCEL") is None
    registers.extend(3, bytes(48))
    assert first_unexplained(encoded(OWN), registers, tmp_path / "CCEL") == 3
    registers.extend(1, bytes(48))
    assert first_unexplained(encoded(OWN), registers, tmp_path / "CCEL") == 1
    # Without a boot log nothing can be said of the registers that firmware extends.
    assert first_unexplained(encoded(OWN), registers, tmp_path / "none") == 3
