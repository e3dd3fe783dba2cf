"""The port of everything that can take one quote, and the check they all end with.

A source makes one try, blocking, in the thread that calls it; queueing, sharing, repeating and
the caller's deadline are :class:`tdx.quote_reader.QuoteReader`'s. There are three: configfs-tsm
(:mod:`tdx.tsm_report`), the host's Quote Generation Service over a socket
(:mod:`tdx.qgs_source`) and the quote ioctl of vendor kernels (:mod:`tdx.ioctl_source`).
"""

from __future__ import annotations

from typing import Protocol

from tdx.errors import QuoteBindingError
from tdx.quote import Quote, parse_quote
from tdx.report_data import ReportData


class QuoteSource(Protocol):
    """One way to a quote."""

    def take(self, report_data: ReportData) -> Quote:
        """Take a quote bound to ``report_data`` and leave nothing behind.

        Blocks, about a second on real hosts and at most some 30 s. Raises
        :class:`~tdx.errors.TdxError`.
        """

    def describe(self) -> str:
        """Return the path or address for messages."""


def bound_quote(blob: bytes, report_data: ReportData) -> Quote:
    """Parse, and compare the report data: the only end-to-end check a guest can make itself.

    Raises :class:`~tdx.errors.QuoteFormatError` and :class:`QuoteBindingError`.
    """
    quote = parse_quote(blob)
    if quote.body.report_data != report_data.value:
        raise QuoteBindingError(expected=report_data.value, got=quote.body.report_data)
    return quote
