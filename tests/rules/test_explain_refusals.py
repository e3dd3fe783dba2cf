"""Each kind of refusal is found, said in words, and not mixed with findings that are not so."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from explain import Bundle, Code, Finding, Severity, examine, read_case
from tests.bundles import NOW, Guest
from tests.refusals import REFUSALS, Refusal

OUTCOMES = {"attestation-refused", "nothing-found"}


def explained(parts: dict[str, bytes], now: float | None = None) -> tuple[Finding, ...]:
    return examine(read_case(Bundle.of(parts)), now)


def words(findings: tuple[Finding, ...]) -> str:
    return "\n".join(
        f"{item.found}\n{item.expected}\n{item.got}\n{item.advice}" for item in findings
    )


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda item: item.code + ": " + item.title)
def test_a_refusal_is_explained(refusal: Refusal) -> None:
    findings = explained(refusal.make())
    codes = {item.code.value for item in findings}
    assert refusal.code in codes
    for text in refusal.says:
        assert text in words(findings)
    # One fault, one cause.
    assert codes - OUTCOMES - refusal.also == {refusal.code}
    assert all(item.found and item.advice for item in findings)


def test_a_good_guest_has_nothing_to_explain() -> None:
    findings = explained(Guest().parts(kbs_answer=None))
    assert [item.code for item in findings] == [Code.NOTHING_FOUND]
    assert findings[0].severity is Severity.NOTE


def test_a_refusal_without_a_cause_in_the_bundle_says_what_to_add() -> None:
    findings = explained(Guest().parts(reference_values=None, reference_eventlog=None))
    assert {item.code for item in findings} == {Code.ATTESTATION_REFUSED, Code.NOTHING_FOUND}
    assert "reference-values.json" in words(findings)


def test_now_stands_in_for_a_clock_the_bundle_does_not_have() -> None:
    parts = Guest().parts(bundle=None, kbs_answer=None)
    assert [f.code for f in explained(parts, NOW.timestamp())] == [Code.NOTHING_FOUND]
    late = explained(parts, NOW.timestamp() + 400 * 86400)
    assert {f.code for f in late} == {Code.COLLATERAL_EXPIRED}
    assert "days before now" in words(late)


def test_what_matters_most_comes_first() -> None:
    parts = Guest().parts(attest_request={"runtime-data": 1}, reference_values={"mr_td": ["00"]})
    severities = [item.severity for item in explained(parts)]
    assert severities == sorted(severities, key=list(Severity).index)


def test_a_recorded_platform_without_a_level(shared_vectors: Path) -> None:
    vectors = shared_vectors / "tdx"
    quote = (vectors / "quotes/phala_v5_td15_outdated.bin").read_bytes()
    evidence = {"quote": base64.b64encode(quote).decode(), "cc_eventlog": None}
    parts = {
        "evidence.json": json.dumps(evidence).encode(),
        "collateral.json": (vectors / "collateral/phala_v5_outdated_collateral.json").read_bytes(),
    }
    found = explained(parts)
    assert {item.code for item in found} == {Code.TCB_STATUS, Code.EVENT_LOG_ABSENT}
    assert "No matching TCB level" in found[0].got


def test_a_recorded_good_quote_has_nothing_to_explain(shared_vectors: Path) -> None:
    vectors = shared_vectors / "tdx"
    quote = (vectors / "quotes/phala_v4.bin").read_bytes()
    evidence = {"quote": base64.b64encode(quote).decode(), "cc_eventlog": None}
    parts = {
        "evidence.json": json.dumps(evidence).encode(),
        "collateral.json": (vectors / "collateral/phala_v4_collateral.json").read_bytes(),
    }
    assert {item.code for item in explained(parts, 1_750_346_163.0)} == {Code.EVENT_LOG_ABSENT}
