"""The outside judge: Intel's DCAP verification as ``dcap-qvl`` carries it out.

The library is an extra (``confidential-guest[verify]``): a guest never judges its own quotes, so
its 6 MB are for workstations and verifiers. Its failures are text only and are shown as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

import msgspec

from tdx.verify.collateral import Collateral
from tdx.verify.errors import CollateralFormatError, VerifierUnavailableError
from tdx.verify.verdict import TcbLevel

MAX_TEXT: Final = 300  # characters of the library's own words
PREFIX: Final = "Verification failed: "


@dataclass(frozen=True, slots=True)
class Judgement:
    """What DCAP verification established. The level may still be one a policy refuses."""

    level: TcbLevel
    advisories: tuple[str, ...]
    expires: datetime  # the earliest end of any document or certificate


@dataclass(frozen=True, slots=True)
class Refusal:
    """DCAP verification failed; ``text`` are the judge's words."""

    text: str


class QuoteJudge(Protocol):
    """Verifies signatures, chains, revocation, QE identity and TCB level of a quote."""

    def judge(
        self, quote: bytes, collateral: Collateral, root_der: bytes, now: datetime
    ) -> Judgement | Refusal:
        """Blocks for milliseconds. Raises ``VerificationError`` if it cannot judge at all."""
        ...


class _Tcb(msgspec.Struct, frozen=True):
    status: TcbLevel
    advisory_ids: tuple[str, ...]


class _Claims(msgspec.Struct, frozen=True):
    tcb: _Tcb
    earliest_expiration_date: int
    qe_iden_earliest_expiration_date: int


class DcapJudge:
    """The judge on ``dcap-qvl``, with its policy that refuses no platform setting."""

    def judge(
        self, quote: bytes, collateral: Collateral, root_der: bytes, now: datetime
    ) -> Judgement | Refusal:
        try:
            import dcap_qvl  # late: an extra, and 60 ms
        except ImportError as error:
            raise VerifierUnavailableError from error
        seconds = int(now.timestamp())
        try:
            documents = dcap_qvl.QuoteCollateralV3.from_json(collateral.text)
        except ValueError as error:
            raise CollateralFormatError("file", str(error)) from error
        verifier = dcap_qvl.QuoteVerifier(root_der)
        policy = dcap_qvl.QuotePolicy.claims_only(seconds)
        try:
            claims = verifier.verify_with_policy(quote, documents, seconds, policy).to_json()
            found = msgspec.json.decode(claims, type=_Claims)
        except (ValueError, msgspec.DecodeError) as error:
            text = " ".join(str(error).removeprefix(PREFIX).split())
            return Refusal(text[:MAX_TEXT])
        ends = (found.earliest_expiration_date, found.qe_iden_earliest_expiration_date)
        return Judgement(
            found.tcb.status,
            tuple(found.tcb.advisory_ids),
            datetime.fromtimestamp(min(ends), UTC),
        )
