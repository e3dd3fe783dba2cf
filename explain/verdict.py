"""The verdict of ``tdx.verify`` on the quote, as findings. Verifies only what a bundle allows.

Times are judged by ``platform.py``. Here the verification is made at a time at which the collateral
is in force, so that an expired document does not hide what else is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from explain.finding import Code, Finding, Severity
from explain.platform import INTEL_ROOT_KEY, key_hash
from tdx.errors import CertificateFormatError, TdxError
from tdx.pck import load_chain
from tdx.quote import Quote
from tdx.verify import Check, CheckName, Collateral, Trust, Verdict, verify_quote
from tdx.verify.errors import VerifierUnavailableError

# A failed check of these says what is wrong; the judge's refusal then says it once more.
_CAUSES: Final = frozenset(CheckName) - {CheckName.DCAP, CheckName.TCB_LEVEL}
_UPDATE: Final = "update firmware, microcode or TDX module of the host"
_FORGED: Final = {
    CheckName.QUOTE_SIGNATURE: "header or body of the quote were changed after they were signed",
    CheckName.QE_BINDING: "the quote was signed by a key that the quoting enclave did not make",
    CheckName.QE_SIGNATURE: "the report of the quoting enclave is not signed by this platform",
    CheckName.PCK_CHAIN: "the platform's certificate chain is not good",
}


def explain_verdict(
    quote: Quote, collateral: Collateral | None, root: bytes | None, clock: float | None
) -> Iterator[Finding]:
    """Yield what verification finds. ``root`` is DER; Intel's from the quote if it is None."""
    trusted = root if root is not None else _intel_root(quote)
    if collateral is None or trusted is None:
        return
    try:
        verdict = verify_quote(quote, Trust(trusted, collateral), now=_moment(collateral, clock))
    except VerifierUnavailableError as error:
        yield _not_judged(error)
        return
    except TdxError as error:
        yield _not_judged(error)
        return
    yield from _findings(verdict)


def _intel_root(quote: Quote) -> bytes | None:
    """The last certificate of the quote's chain, if its key is that of Intel's root."""
    try:
        last = load_chain(quote.section.pem_chain or b"")[-1]
    except (CertificateFormatError, IndexError):
        return None
    return last.public_bytes(Encoding.DER) if key_hash(last) == INTEL_ROOT_KEY else None


def _moment(collateral: Collateral, clock: float | None) -> datetime:
    begins = max(window.issued for window in collateral.windows)
    now = begins if clock is None else datetime.fromtimestamp(clock, UTC)
    return now if begins <= now <= collateral.expires else begins


def _findings(verdict: Verdict) -> Iterator[Finding]:
    failed = {check.name: check for check in verdict.failed}
    for name, what in _FORGED.items():
        if (check := failed.get(name)) is not None:
            yield _not_genuine(what, check)
    if CheckName.DCAP in failed and not failed.keys() & _CAUSES:
        yield _dcap(failed[CheckName.DCAP])
    if (check := failed.get(CheckName.COLLATERAL_PLATFORM)) is not None:
        yield _other_platform(check)
    if CheckName.TCB_LEVEL in failed:
        yield _level(verdict)
    for name in (CheckName.TD_ATTRIBUTES, CheckName.SERVICE_TD):
        if (check := failed.get(name)) is not None:
            yield _attributes(check)


def _not_genuine(what: str, check: Check) -> Finding:
    return Finding(
        Code.QUOTE_NOT_GENUINE,
        Severity.REFUSAL,
        f"the quote is not genuine: {what}",
        check.hint or "take another quote; if it repeats, look at the host's quoting service",
        got=check.reason,
    )


def _dcap(check: Check) -> Finding:
    """The judge refuses where every signature holds: in most cases for the platform's level."""
    if "TCB" not in check.reason:
        return _not_genuine("DCAP verification fails", check)
    return Finding(
        Code.TCB_STATUS,
        Severity.REFUSAL,
        "the platform has no TCB level that can be accepted: it is older than all levels of the "
        "collateral, or revoked",
        _UPDATE,
        got=check.reason,
    )


def _other_platform(check: Check) -> Finding:
    return Finding(
        Code.COLLATERAL_PLATFORM,
        Severity.REFUSAL,
        "the collateral is for another platform than the quote's",
        check.hint or "fetch the collateral of this platform",
        got=check.reason,
    )


def _level(verdict: Verdict) -> Finding:
    level = "unknown" if verdict.level is None else verdict.level.value
    advisories = ", ".join(verdict.advisories[:8])
    return Finding(
        Code.TCB_STATUS,
        Severity.REFUSAL,
        f"the platform is {level}" + (f", with advisories {advisories}" if advisories else ""),
        f"{_UPDATE}; or, if the risk is accepted, let the policy name this status",
        expected="UpToDate",
        got=level,
    )


def _attributes(check: Check) -> Finding:
    code = Code.TD_ATTRIBUTES if check.name is CheckName.TD_ATTRIBUTES else Code.SERVICE_TD
    return Finding(
        code,
        Severity.WARNING,
        f"a careful verifier refuses this TD, Trustee does not: {check.reason}",
        check.hint or "see whether the TD is meant to be started like this",
    )


def _not_judged(error: TdxError) -> Finding:
    return Finding(
        Code.PLATFORM_NOT_JUDGED,
        Severity.NOTE,
        f"signatures and TCB status were not judged: {error.problem}",
        error.hint or "verify where the verifier is installed",
    )
