"""Finding a KBS's protocol version from its refusals, recorded and made up, in bounded tries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import KbsRefusedError, ProtocolVersion
from kbs.handshake import RcarWire
from kbs.negotiation import CANDIDATES, Negotiation, name_of
from kbs.older_payloads import RCAR_0_1_0_EARLY, RCAR_0_1_0_LATE, RCAR_0_1_1, RCAR_0_2_0
from kbs.payloads import RCAR_0_4_0
from kbs.problem import is_version_refusal, read_refusal

URI = "https://github.com/confidential-containers/kbs/errors/"


def refusal(status: int, kind: str, detail: str) -> KbsRefusedError:
    body = json.dumps({"type": URI + kind, "detail": detail}).encode()
    return read_refusal(status, body, attempted="", client_version="", retry_after=None)


def plain(status: int, text: bytes) -> KbsRefusedError:
    return read_refusal(status, text, attempted="", client_version="", retry_after=None)


def modern(expected: str) -> KbsRefusedError:
    return refusal(
        401,
        "AttestationError",
        "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version Mismatch: "
        f"expect ={expected} while the request is 0.4.0",
    )


V0_10 = refusal(
    401,
    "ProtocolVersion",
    "KBS Client Protocol Version Mismatch: expected version: =0.1.1, requested version: 0.4.0",
)
V0_9 = refusal(
    401, "FailedAuthentication", "Authentication failed: Session: Invalid Request version 0.1.1"
)
V0_9_JSON = plain(400, b"Json deserialize error: invalid type: map, expected a string at line 1")
EVIDENCE = refusal(401, "AttestationError", "Attestation error: RCAR handshake Attest failed")


def test_recorded_refusals(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    found = 0
    for case in cases:
        error = plain(case["status"], json.dumps(case["body"]).encode())
        assert is_version_refusal(error) == (case["meaning"] == "version refused")
        found += is_version_refusal(error)
    assert found == 3


def test_the_version_that_is_named_is_next() -> None:
    for error, wire in ((modern("0.2.0"), RCAR_0_2_0), (V0_10, RCAR_0_1_1)):
        attempts = Negotiation().attempts()
        assert attempts.wire.version == "0.4.0"
        assert attempts.after_auth(error)
        assert attempts.wire is wire
        assert not attempts.after_auth(error)  # it lied: nothing else is tried


def test_a_version_that_nobody_here_speaks_ends_it() -> None:
    assert not Negotiation().attempts().after_auth(modern("0.5.0"))


def test_without_a_name_the_next_lower_one_is_tried() -> None:
    attempts = Negotiation().attempts()
    tried = [attempts.wire]
    for error in (V0_9_JSON, V0_9_JSON, V0_9):
        assert attempts.after_auth(error)
        tried.append(attempts.wire)
    assert tried == [RCAR_0_4_0, RCAR_0_2_0, RCAR_0_1_1, RCAR_0_1_0_LATE]
    # Refused by number, the other binding of the same number need not be tried.
    assert not attempts.after_auth(V0_9)


def test_the_other_binding_is_tried_once_after_refused_evidence() -> None:
    attempts = Negotiation(ProtocolVersion.V0_1_0).attempts()
    assert attempts.after_attest(EVIDENCE)
    assert attempts.wire is RCAR_0_1_0_EARLY
    assert not attempts.after_attest(EVIDENCE)


@pytest.mark.parametrize("wire", [RCAR_0_4_0, RCAR_0_2_0, RCAR_0_1_1])
def test_refused_evidence_is_final_elsewhere(wire: RcarWire) -> None:
    attempts = Negotiation().attempts()
    while attempts.wire is not wire:
        assert attempts.after_auth(V0_9_JSON)
    assert not attempts.after_attest(EVIDENCE)


def test_what_has_worked_is_remembered_and_its_binding_never_doubted() -> None:
    negotiation = Negotiation()
    assert negotiation.settled is None
    negotiation.settle(RCAR_0_1_0_LATE)
    attempts = negotiation.attempts()
    assert attempts.wire == RCAR_0_1_0_LATE
    assert not attempts.after_attest(EVIDENCE)


def test_a_kbs_that_was_upgraded_is_found_again() -> None:
    negotiation = Negotiation()
    negotiation.settle(RCAR_0_1_1)
    attempts = negotiation.attempts()
    assert attempts.after_auth(modern("0.4.0"))
    assert attempts.wire is RCAR_0_4_0


@pytest.mark.parametrize("version", set(ProtocolVersion) - {ProtocolVersion.AUTO})
def test_a_configured_version_is_never_left(version: ProtocolVersion) -> None:
    attempts = Negotiation(version).attempts()
    assert attempts.wire.version == version.value.partition("-")[0]
    for error in (modern("0.4.0"), modern("0.2.0"), V0_10, V0_9, V0_9_JSON):
        assert not Negotiation(version).attempts().after_auth(error)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(EVIDENCE, id="evidence"),
        pytest.param(plain(500, b""), id="500"),
        pytest.param(plain(404, b""), id="404"),
        pytest.param(refusal(400, "SerdeError", ""), id="400 of a known kind"),
        pytest.param(refusal(401, "PolicyDeny", "Protocol Version Mismatch"), id="other kind"),
    ],
)
def test_other_refusals_of_auth_change_nothing(error: KbsRefusedError) -> None:
    attempts = Negotiation().attempts()
    assert not attempts.after_auth(error)
    assert attempts.wire is RCAR_0_4_0


@pytest.mark.parametrize("wire", CANDIDATES[ProtocolVersion.AUTO], ids=name_of)
def test_every_version_has_the_name_that_configures_it(wire: RcarWire) -> None:
    assert CANDIDATES[ProtocolVersion(name_of(wire))] == (wire,)


def test_what_is_spoken_is_said() -> None:
    assert Negotiation().spoken == "0.1.0 to 0.4.0"
    assert Negotiation(ProtocolVersion.V0_1_0).spoken == "0.1.0"


ERRORS = st.sampled_from([modern("0.2.0"), modern("0.1.0"), V0_10, V0_9, V0_9_JSON, EVIDENCE])


@given(
    st.sampled_from(ProtocolVersion),
    st.none() | st.sampled_from(CANDIDATES[ProtocolVersion.AUTO]),
    st.lists(st.tuples(st.booleans(), ERRORS), min_size=6, max_size=12),
)
def test_tries_are_bounded_and_never_repeated(
    version: ProtocolVersion,
    settled: RcarWire | None,
    refusals: list[tuple[bool, KbsRefusedError]],
) -> None:
    negotiation = Negotiation(version)
    if settled in CANDIDATES[version]:
        negotiation.settle(settled)
    attempts = negotiation.attempts()
    tried = [attempts.wire]
    for at_auth, error in refusals:
        if not (attempts.after_auth(error) if at_auth else attempts.after_attest(error)):
            break
        tried.append(attempts.wire)
    else:
        pytest.fail("never came to an end")
    assert len({id(wire) for wire in tried}) == len(tried) <= len(CANDIDATES[version])
