"""From a parsed quote to a verdict: signatures, collateral, judge, policy, contents, in that order.

Every check is made even after one failed: who is refused wants to know all the reasons at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tdx.errors import CertificateFormatError
from tdx.pck import load_chain, pck_extension
from tdx.quote import Quote
from tdx.verify.collateral import Collateral, utc
from tdx.verify.contents import check_contents
from tdx.verify.judge import DcapJudge, Judgement, QuoteJudge, Refusal
from tdx.verify.policy import Expectations, Policy
from tdx.verify.verdict import Check, CheckName, Verdict, failed, not_checked, passed


@dataclass(frozen=True, slots=True)
class Trust:
    """The one root that is trusted, and collateral that need not be."""

    root_der: bytes
    collateral: Collateral


def verify_quote(
    quote: Quote,
    trust: Trust,
    *,
    now: datetime,
    policy: Policy | None = None,
    expected: Expectations | None = None,
    judge: QuoteJudge | None = None,
) -> Verdict:
    """Judge a quote at a time (with a zone). Blocks for some milliseconds; no I/O.

    Raises :class:`~tdx.verify.errors.VerificationError` if it cannot be judged at all, and
    ``ValueError`` for a time without a zone. A bad quote is no error: its verdict says so.
    """
    from tdx.verify.signatures import check_signatures  # late: imports cryptography

    if now.tzinfo is None:
        raise ValueError("the time of verification needs a zone")
    rules = policy or Policy()
    judged = (judge or DcapJudge()).judge(quote.raw, trust.collateral, trust.root_der, now)
    checks = (
        *check_signatures(quote, trust.root_der, now),
        _platform(quote, trust.collateral),
        _collateral_time(trust.collateral, now),
        *_judged(judged, rules),
        *check_contents(quote, rules, expected or Expectations()),
    )
    if isinstance(judged, Judgement):
        return Verdict(judged.level, judged.advisories, judged.expires, checks)
    return Verdict(None, (), trust.collateral.expires, checks)


def _platform(quote: Quote, collateral: Collateral) -> Check:
    name = CheckName.COLLATERAL_PLATFORM
    try:
        chain = load_chain(quote.section.pem_chain or b"")
        found = pck_extension(chain[0])
    except CertificateFormatError as error:
        return failed(name, error.problem)
    if (found.fmspc, found.pce_id) != (collateral.fmspc, collateral.pce_id):
        reason = (
            f"it is for FMSPC {collateral.fmspc.hex()[:32]}, the quote is from {found.fmspc.hex()}"
        )
        return failed(name, reason, f"fetch collateral for FMSPC {found.fmspc.hex()}")
    return passed(name, f"FMSPC {found.fmspc.hex()}, PCE id {found.pce_id.hex()}")


def _collateral_time(collateral: Collateral, now: datetime) -> Check:
    name = CheckName.COLLATERAL_TIME
    for window in collateral.windows:
        if now < window.issued:
            reason = f"{window.document} was issued {utc(window.issued)}, after {utc(now)}"
            return failed(name, reason, "the clock, or --at, is behind")
        if now > window.expires:
            reason = f"{window.document} expired {utc(window.expires)}, before {utc(now)}"
            return failed(name, reason, "fetch new collateral, or see that the clock is right")
    return passed(name, f"in force until {utc(collateral.expires)}")


def _judged(judged: Judgement | Refusal, policy: Policy) -> Iterator[Check]:
    if isinstance(judged, Refusal):
        yield failed(CheckName.DCAP, f"dcap-qvl: {judged.text}")
        yield not_checked(CheckName.TCB_LEVEL, "no level was established")
        yield not_checked(CheckName.ADVISORIES, "no level was established")
        return
    yield passed(CheckName.DCAP, "dcap-qvl verified signatures, revocation, QE and TCB level")
    if judged.level in policy.accepted_levels:
        yield passed(CheckName.TCB_LEVEL, f"{judged.level}, which the policy accepts")
    else:
        accepted = ", ".join(sorted(policy.accepted_levels))
        hint = "the host's firmware or TDX module has to be updated"
        yield failed(CheckName.TCB_LEVEL, f"{judged.level}, accepted are: {accepted}", hint)
    rejected = sorted(policy.rejected_advisories & set(judged.advisories))
    if rejected:
        yield failed(CheckName.ADVISORIES, f"rejected by the policy: {', '.join(rejected)}")
    else:
        yield passed(CheckName.ADVISORIES, f"{len(judged.advisories)} open, none rejected")
