"""Evidence of Intel TDX: a quote, and the event logs that belong to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Protocol

from agent.evidence import evidence_json
from tdx.ccel import read_ccel
from tdx.quote import Quote
from tdx.report_data import ReportData

TEE_TDX: Final = "tdx"


class QuoteTaker(Protocol):
    """Somebody who takes quotes; :class:`tdx.QuoteReader` in production."""

    @property
    def quotes_taken(self) -> int:
        """How many quotes the host has made for us."""

    async def parsed_quote(self, report_data: ReportData, *, timeout_s: float) -> Quote:
        """Take a quote. Raises :class:`~tdx.errors.TdxError`."""


class MeasuredRecords(Protocol):
    """The log of runtime events; :class:`agent.eventlog.EventLogWriter` in production."""

    def records(self) -> bytes:
        """Return the records. Blocks. Raises :class:`~agent.errors.MeasurementLogError`."""


class TdxAttester:
    """Implements :class:`agent.attester.Attester`."""

    def __init__(
        self,
        quotes: QuoteTaker,
        records: MeasuredRecords | None,
        *,
        ccel_path: Path,
        quote_seconds: float,
    ) -> None:
        self._quotes = quotes
        self._records = records
        self._ccel_path = ccel_path
        self._quote_seconds = quote_seconds

    @property
    def tee(self) -> str:
        return TEE_TDX

    @property
    def quotes_taken(self) -> int:
        return self._quotes.quotes_taken

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Return evidence bound to ``runtime_data``, filled up with zeros to 64 bytes.

        Waits at most ``timeout_s``, and never longer than the configured limit for a quote.
        Cancellation leaves a running quote to its thread.
        """
        limit = self._quote_seconds if timeout_s is None else min(timeout_s, self._quote_seconds)
        quote = await self._quotes.parsed_quote(ReportData.padded(runtime_data), timeout_s=limit)
        # Logs are read after the quote, so that they hold every event the quote covers.
        return await asyncio.to_thread(self._with_logs, quote)

    def _with_logs(self, quote: Quote) -> bytes:
        records = self._records.records() if self._records is not None else None
        return evidence_json(quote, read_ccel(self._ccel_path), records)
