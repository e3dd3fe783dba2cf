"""The explanation: every rule applied to one case, in the order a verifier would judge.

Each rule looks at what the bundle has and stays silent about the rest. Findings are what is so, not
what a certain KBS did: its log decides if the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator

from explain.answer import explain_answer
from explain.binding import explain_binding
from explain.case import Case
from explain.finding import Code, Finding, Severity, ranked
from explain.initdata import explain_initdata
from explain.measurements import explain_log, explain_reference_log, explain_references
from explain.platform import explain_attributes, explain_dates, explain_root
from explain.resource_policy import explain_denial
from explain.token import explain_token
from explain.verdict import explain_verdict
from kbs import PolicyDeniedError
from tdx.quote import Quote


def examine(case: Case, now: float | None = None) -> tuple[Finding, ...]:
    """Return the findings, what matters most first; never empty.

    ``now``, unix seconds, stands in for the guest's clock if the bundle does not have it. Raises
    nothing: what cannot be judged is a finding too.
    """
    findings = list(_findings(case, now))
    if all(item.severity is Severity.NOTE or item.code in _OUTCOMES for item in findings):
        findings.append(_nothing(case))
    return ranked(findings)


# What happened, without why.
_OUTCOMES = frozenset({Code.ATTESTATION_REFUSED, Code.KBS_REFUSED})


def _findings(case: Case, now: float | None) -> Iterator[Finding]:
    guest_clock = case.manifest.guest_clock
    clock, whose = (now, "now") if guest_clock is None else (guest_clock, "the guest's clock")
    if case.answer is not None:
        yield from explain_answer(case.answer)
    yield from case.unusable
    if case.quote is not None:
        yield from _about_quote(case, case.quote, clock)
    issued = None if case.token is None else case.token.issued_at
    yield from explain_dates(case.collateral, clock, issued, whose=whose)
    if case.reference_log is not None and case.references is not None:
        yield from explain_reference_log(case.references, case.reference_log)
    if case.token is not None:
        yield from explain_token(case.token, case.references, guest_clock)
        if case.answer is not None and isinstance(case.answer.refusal, PolicyDeniedError):
            yield from explain_denial(case.token, case.resource_policy)


def _about_quote(case: Case, quote: Quote, clock: float | None) -> Iterator[Finding]:
    yield from explain_attributes(quote)
    root = list(explain_root(quote, case.trusted_root))
    yield from root
    if not root:  # under another root every signature is a stranger's
        yield from explain_verdict(quote, case.collateral, case.trusted_root, clock)
    if case.request is not None:
        yield from explain_binding(quote.body.report_data, case.request, case.known)
    sent = case.request is not None and case.request.initdata is not None
    yield from explain_initdata(quote.body.mr_config_id, case.initdata, sent=sent)
    if Code.EVENT_LOG_MALFORMED not in {item.code for item in case.unusable}:
        yield from explain_log(quote, case.log, case.reference_log, case.text_value)
    if case.references is not None:
        yield from explain_references(quote, case.log, case.references, case.reference_log)


def _nothing(case: Case) -> Finding:
    needs_challenge = case.request is not None and not case.request.nonce and not case.known.nonce
    absent = [
        name
        for name, value in (
            ("the attest request (attest-request.json)", case.request),
            ("reference values (reference-values.json)", case.references),
            ("the log of a good boot (reference-eventlog.bin)", case.reference_log),
            ("collateral (collateral.json)", case.collateral),
            ("the token's claims (token-claims.json)", case.token),
            ("the KBS's challenge (challenge.json)", None if needs_challenge else ""),
        )
        if value is None
    ]
    return Finding(
        Code.NOTHING_FOUND,
        Severity.NOTE,
        "nothing in this bundle is a reason for a refusal",
        f"add {', '.join(absent)}" if absent else "ask the KBS's operator for its log",
    )
