"""What is fuzzed: a parser, the one error it may raise, and recorded inputs to damage."""

from __future__ import annotations

import base64
import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tdx.description import describe_quote
from tdx.errors import (
    CertificateFormatError,
    EventLogError,
    EvidenceFormatError,
    QuoteFormatError,
    ReportFormatError,
)
from tdx.eventlog import parse_event_log
from tdx.evidence_forms import recognise
from tdx.log_history import log_history
from tdx.pck import load_chain, pck_extension
from tdx.quote import parse_quote
from tdx.tdreport import parse_tdreport
from tdx.verify import CheckName, Trust, Verdict, parse_collateral, parse_root, verify_quote
from tdx.verify.errors import CollateralFormatError
from tests.conftest import ROOT

RECORDED: Final = ROOT.parent / "shared" / "vectors" / "tdx"


@dataclass(frozen=True, slots=True)
class Target:
    """``run`` may return or raise ``error``; anything else is a finding."""

    name: str
    run: Callable[[bytes], object]
    error: type[Exception]
    inputs: Callable[[], list[Path]]

    def holds(self, data: bytes) -> None:
        """Run once. Raises whatever is a finding."""
        try:
            self.run(data)
        except self.error:
            return


def _described(data: bytes) -> None:
    describe_quote(parse_quote(data))


def _told(data: bytes) -> None:
    log_history(data)


def _told_text(data: bytes) -> None:
    log_history(None, data.decode("utf-8", "surrogateescape"))


def _certificates(data: bytes) -> None:
    for certificate in load_chain(data):
        pck_extension(certificate)


def _certificate(data: bytes) -> None:
    """Damage below the text: PEM around broken DER."""
    body = base64.encodebytes(data)
    _certificates(b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n")


@functools.cache
def _trust() -> Trust:
    folder = RECORDED / "synthetic"
    collateral = parse_collateral((folder / "collateral.json").read_bytes())
    return Trust(parse_root((folder / "root_ca.der").read_bytes()), collateral)


def _judged(data: bytes) -> None:
    verdict = verify_quote(parse_quote(data), _trust(), now=datetime(2026, 6, 1, tzinfo=UTC))
    assert isinstance(verdict, Verdict)
    assert [check.name for check in verdict.checks] == list(CheckName)


def _files(pattern: str, *without: str) -> Callable[[], list[Path]]:
    return lambda: [path for path in sorted(RECORDED.glob(pattern)) if path.name not in without]


QUOTES: Final = Target(
    "quote", parse_quote, QuoteFormatError, _files("quotes/*", "sgx_v3_occlum.bin")
)
TARGETS: Final = (
    QUOTES,
    Target("synthetic quote", parse_quote, QuoteFormatError, _files("synthetic/quote_*")),
    Target("quote description", _described, QuoteFormatError, _files("quotes/*_v5_*")),
    Target("verdict", _judged, QuoteFormatError, _files("synthetic/quote_v[45]*")),
    Target("collateral", parse_collateral, CollateralFormatError, _files("collateral/phala*")),
    Target("TDREPORT", parse_tdreport, ReportFormatError, _files("tdreports/*")),
    Target("event log", parse_event_log, EventLogError, _files("ccel/[adgot]*.bin")),
    Target("event history", _told, EventLogError, _files("ccel/[adgot]*.bin")),
    Target("text log", _told_text, EventLogError, _files("aael/*")),
    Target("PCK chain", _certificates, CertificateFormatError, _files("collateral/*.pem")),
    Target("certificate", _certificate, CertificateFormatError, _files("*/*_root_ca.der")),
    Target("evidence file", recognise, EvidenceFormatError, _files("expected/dstack*.json")),
)
