"""The attestation agent without a transport: evidence and measured events of this TD."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Protocol

from agent.errors import RuntimeDataError
from agent.eventlog import EventLogWriter
from agent.evidence import evidence_json
from agent.measured_event import MeasuredEvent, cc_register_of
from tdx.ccel import read_ccel
from tdx.quote import Quote
from tdx.report_data import REPORT_DATA_BYTES, ReportData

TEE_TDX: Final = "tdx"


class ExtendResult(IntEnum):
    """Outcome of an extension, numbered as in ``RuntimeMeasurementResult``."""

    OK = 0
    NOT_SUPPORTED = 1
    NOT_ENABLED = 2


class QuoteTaker(Protocol):
    """Somebody who takes quotes; :class:`tdx.QuoteReader` in production."""

    @property
    def quotes_taken(self) -> int:
        """How many quotes the host has made for us."""

    async def parsed_quote(self, report_data: ReportData, *, timeout_s: float) -> Quote:
        """Take a quote. Raises :class:`~tdx.errors.TdxError`."""


@dataclass(frozen=True, slots=True)
class MeasurementSettings:
    """Whether events are measured, and where to."""

    enabled: bool
    default_pcr: int
    writer: EventLogWriter | None  # None: this kernel has no registers to extend


@dataclass(frozen=True, slots=True)
class AgentStatus:
    """What this agent has done so far."""

    tee: str
    quotes_taken: int
    event_log_enabled: bool
    measured_events: int


class AttestationAgent:
    """Takes quotes, adds the logs, and extends registers. Keeps no session and no secret."""

    def __init__(
        self,
        quotes: QuoteTaker,
        measurement: MeasurementSettings,
        *,
        ccel_path: Path,
        quote_seconds: float,
    ) -> None:
        self._quotes = quotes
        self._measurement = measurement
        self._ccel_path = ccel_path
        self._quote_seconds = quote_seconds

    def tee_type(self) -> str:
        """Return the TEE's name in the KBS protocol."""
        return TEE_TDX

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Return evidence JSON bound to at most 64 bytes, filled up with zeros.

        Not hashed here: the caller hashes. Waits at most ``timeout_s``, and never longer than
        the configured limit for a quote. Raises :class:`RuntimeDataError` and
        :class:`~tdx.errors.TdxError`. Cancellation leaves a running quote to its thread.
        """
        if len(runtime_data) > REPORT_DATA_BYTES:
            raise RuntimeDataError(len(runtime_data), REPORT_DATA_BYTES)
        limit = self._quote_seconds if timeout_s is None else min(timeout_s, self._quote_seconds)
        quote = await self._quotes.parsed_quote(ReportData.padded(runtime_data), timeout_s=limit)
        # Logs are read after the quote, so that they hold every event the quote covers.
        return await asyncio.to_thread(self._with_logs, quote)

    def _with_logs(self, quote: Quote) -> bytes:
        writer = self._measurement.writer
        records = writer.records() if writer is not None else None
        return evidence_json(quote, read_ccel(self._ccel_path), records)

    async def extend(
        self, domain: str, operation: str, content: str, register_index: int | None = None
    ) -> ExtendResult:
        """Measure an event into the register of a PCR number (default: configured).

        The register that is logged is the one that is extended. Raises
        :class:`~agent.errors.MeasuredEventError` for fields that break the rules,
        :class:`~agent.errors.MeasurementLogError` and :class:`~tdx.errors.MeasurementError`.
        A cancelled caller does not interrupt an extension that has begun.
        """
        if not self._measurement.enabled:
            return ExtendResult.NOT_ENABLED
        writer = self._measurement.writer
        if writer is None:
            return ExtendResult.NOT_SUPPORTED
        event = MeasuredEvent.checked(domain, operation, content)
        pcr = self._measurement.default_pcr if register_index is None else register_index
        await asyncio.to_thread(writer.append, event, cc_register_of(pcr))
        return ExtendResult.OK

    def status(self) -> AgentStatus:
        """Return counters. Reads own state only: never waits for the host."""
        writer = self._measurement.writer
        return AgentStatus(
            tee=self.tee_type(),
            quotes_taken=self._quotes.quotes_taken,
            event_log_enabled=self._measurement.enabled and writer is not None,
            measured_events=writer.events if writer is not None else 0,
        )
