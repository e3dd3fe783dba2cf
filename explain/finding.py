"""What an explanation consists of: findings with a stable code, and how they rank.

Codes are for scripts and tickets: they keep their meaning, and docs/attestation.md has a line for
each of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How much a finding says about a refusal."""

    REFUSAL = "refusal"  # a KBS refuses for this, or did
    OUTAGE = "outage"  # nobody judged the evidence, so nothing is wrong with it
    WARNING = "warning"  # some policies refuse for this
    NOTE = "note"  # true, and worth knowing


@enum.unique
class Code(StrEnum):
    """Every finding there is."""

    # The KBS's answer, or why there was none.
    KBS_UNREACHABLE = "kbs-unreachable"
    KBS_TLS = "kbs-tls"
    KBS_TIMEOUT = "kbs-timeout"
    KBS_PROTOCOL = "kbs-protocol"
    EVIDENCE_FAILED = "evidence-failed"
    PROTOCOL_VERSION = "protocol-version"
    ATTESTATION_REFUSED = "attestation-refused"
    POLICY_DENIED = "policy-denied"
    RESOURCE_MISSING = "resource-missing"
    TOKEN_REFUSED = "token-refused"  # noqa: S105 - a code
    KBS_REFUSED = "kbs-refused"
    # The quote itself.
    QUOTE_MALFORMED = "quote-malformed"
    DEBUG_TD = "debug-td"
    TD_ATTRIBUTES = "td-attributes"
    SERVICE_TD = "service-td"
    QUOTE_NOT_GENUINE = "quote-not-genuine"
    ROOT_UNKNOWN = "root-unknown"
    # What the quote is bound to.
    REPORT_DATA_ZERO = "report-data-zero"
    REPORT_DATA_NONCE = "report-data-nonce"
    REPORT_DATA_KEY = "report-data-key"
    REPORT_DATA_HASH = "report-data-hash"
    REPORT_DATA_PROTOCOL = "report-data-protocol"
    REPORT_DATA_MEMBERS = "report-data-members"
    REPORT_DATA_UNBOUND = "report-data-unbound"
    # initdata.
    INITDATA_MISMATCH = "initdata-mismatch"
    INITDATA_ALGORITHM = "initdata-algorithm"
    INITDATA_PADDING = "initdata-padding"
    INITDATA_BYTES = "initdata-bytes"
    INITDATA_ZERO = "initdata-zero"
    INITDATA_NOT_SENT = "initdata-not-sent"
    # Measurements.
    EVENT_LOG_MALFORMED = "event-log-malformed"
    EVENT_LOG_ABSENT = "event-log-absent"
    EVENT_LOG_BEHIND = "event-log-behind"
    EVENT_LOG_AHEAD = "event-log-ahead"
    EVENT_LOG_REPLAY = "event-log-replay"
    MR_TD_UNKNOWN = "mr-td-unknown"
    RTMR_DIFFERS = "rtmr-differs"
    REFERENCE_VALUE = "reference-value"
    REFERENCE_LOG_STALE = "reference-log-stale"
    # The platform.
    TCB_STATUS = "tcb-status"
    COLLATERAL_EXPIRED = "collateral-expired"
    COLLATERAL_PLATFORM = "collateral-platform"
    PLATFORM_NOT_JUDGED = "platform-not-judged"
    CLOCK_WRONG = "clock-wrong"
    # The token.
    TRUST_VECTOR = "trust-vector"
    TOKEN_EXPIRED = "token-expired"  # noqa: S105 - a code
    # The bundle.
    PART_UNUSABLE = "part-unusable"
    NOTHING_FOUND = "nothing-found"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so. ``expected`` and ``got`` are empty where nothing was compared."""

    code: Code
    severity: Severity
    found: str
    advice: str
    expected: str = ""
    got: str = ""


_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def ranked(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings, what matters most first, otherwise in the order of the checks."""
    return tuple(sorted(findings, key=lambda item: _RANK[item.severity]))


def worst(findings: Sequence[Finding]) -> Severity:
    """Return the severity that decides; :attr:`Severity.NOTE` if there is nothing."""
    return min((item.severity for item in findings), key=_RANK.__getitem__, default=Severity.NOTE)
