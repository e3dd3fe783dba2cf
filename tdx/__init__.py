"""The TDX interfaces of the guest: quotes, measurement registers, event logs.

Gets, parses and describes. Whether a quote is to be trusted is decided in ``tdx.verify``, which no
daemon of the guest imports.
"""

from __future__ import annotations

from tdx.errors import (
    EventLogError,
    MeasurementError,
    MeasurementsAbsentError,
    QuoteBindingError,
    QuoteFormatError,
    TdxError,
    TsmError,
)
from tdx.measurements import MeasurementRegisters
from tdx.quote import Quote, parse_quote
from tdx.quote_reader import QuoteReader
from tdx.quote_source import QuoteSource
from tdx.report_data import ReportData
from tdx.tsm import LinuxTsm, TsmFilesystem
from tdx.tsm_report import TsmQuoteSource

__all__ = [
    "EventLogError",
    "LinuxTsm",
    "MeasurementError",
    "MeasurementRegisters",
    "MeasurementsAbsentError",
    "Quote",
    "QuoteBindingError",
    "QuoteFormatError",
    "QuoteReader",
    "QuoteSource",
    "ReportData",
    "TdxError",
    "TsmError",
    "TsmFilesystem",
    "TsmQuoteSource",
    "parse_quote",
]
