"""The finer points of each rule: which of several near causes is named."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from explain import Bundle, Code, Finding, examine, parse_reference_values, read_case
from explain.answer import explain_answer, parse_answer
from explain.errors import ReferenceValuesError
from explain.trust_vector import Tier, tier, words
from mocktee.pki import MockPki
from mocktee.platform import Platform
from mocktee.td import TdState
from tests.bundles import (
    DENIED,
    END_OF_LOG,
    INITDATA,
    KEY,
    NONCE,
    NOW,
    OTHER_NONCE,
    Guest,
    bound,
    claims,
    cut_log,
    digest48,
    other_boot,
    report_data,
    tampered,
    token_claims,
    with_mrconfigid,
)


def explained(parts: dict[str, bytes]) -> dict[Code, Finding]:
    return {item.code: item for item in examine(read_case(Bundle.of(parts)))}


# -- report data --


def test_a_member_that_a_kbs_drops_breaks_the_binding() -> None:
    key = KEY | {"kid": "guest-1"}
    guest = Guest(report_data=report_data(key=key))
    found = explained(guest.parts(attest_request=guest.request(key=key)))
    assert "kid" in found[Code.REPORT_DATA_MEMBERS].found


def test_zero_report_data_is_a_quote_for_no_handshake() -> None:
    assert Code.REPORT_DATA_ZERO in explained(Guest(report_data=bytes(64)).parts())


def test_what_no_guess_explains_is_not_guessed() -> None:
    found = explained(Guest(report_data=b"\x11" * 64).parts())[Code.REPORT_DATA_UNBOUND]
    assert found.got == "11" * 64
    assert found.expected == report_data().hex()


def test_a_request_with_another_nonce_than_the_challenge() -> None:
    challenge = {"nonce": NONCE, "extra-params": ""}
    guest = Guest()  # its quote answers the challenge
    found = explained(guest.parts(attest_request=guest.request(OTHER_NONCE), challenge=challenge))
    assert found[Code.REPORT_DATA_NONCE].got == OTHER_NONCE


def test_the_algorithm_that_the_challenge_selects_is_the_expected_one() -> None:
    challenge = {"nonce": NONCE, "extra-params": {"selected-hash-algorithm": "SHA512"}}
    good = Guest(report_data=report_data(algorithm="sha512"))
    assert Code.REPORT_DATA_HASH not in explained(good.parts(challenge=challenge))
    found = explained(Guest().parts(challenge=challenge))[Code.REPORT_DATA_HASH]
    assert (found.expected, found.got) == ("sha512", "sha384")


def test_older_bodies_are_read_and_need_the_nonce_from_elsewhere() -> None:
    guest = Guest(report_data=bound({"nonce": NONCE, "tee-pubkey": KEY}))
    old = {"tee-pubkey": KEY, "tee-evidence": guest.evidence()}
    for body in (old, old | {"tee-evidence": json.dumps(guest.evidence())}):
        good = guest.parts(attest_request=body, challenge={"nonce": NONCE, "extra-params": ""})
        assert not [code for code in explained(good) if code.value.startswith("report-data")]
        bad = guest.parts(attest_request=body, challenge={"nonce": OTHER_NONCE, "extra-params": ""},
                          handshakes=[{"nonce": NONCE}])  # fmt: skip
        assert Code.REPORT_DATA_NONCE in explained(bad)


def test_recorded_hashes_of_every_protocol_are_recognised(shared_vectors: Path) -> None:
    vectors = json.loads((shared_vectors / "kbs/rcar/report-data.json").read_text())
    keys = {"RSA": vectors["tee-pubkey-rsa"], "EC": vectors["tee-pubkey-ec"]}
    other = {"early binding": "RSA", "late binding, RSA": "RSA"}
    for case in vectors["cases"][:3]:
        key = keys[other.get(case["name"], "EC")]
        guest = Guest(report_data=bytes.fromhex(case["report_data_64_hex"]))
        found = explained(guest.parts(attest_request=guest.request(vectors["nonce"], key)))
        assert Code.REPORT_DATA_PROTOCOL in found, case["name"]
        assert Code.REPORT_DATA_HASH not in found


def test_an_older_body_without_a_challenge_asks_for_it() -> None:
    guest = Guest()
    body = {"tee-pubkey": KEY, "tee-evidence": guest.evidence()}
    found = explained(guest.parts(attest_request=body, kbs_answer=None))
    assert "challenge.json" in found[Code.NOTHING_FOUND].advice


def test_a_clock_at_zero_is_a_clock() -> None:
    assert Code.CLOCK_WRONG in explained(Guest(clock=0.0).parts())


def test_under_another_root_signatures_are_not_judged_too() -> None:
    other = Guest().root()
    found = explained(Guest().parts(trusted_root=other, kbs_answer=None))
    assert found.keys() == {Code.ROOT_UNKNOWN}


def test_a_changed_quote_is_not_genuine() -> None:
    guest = Guest()
    request = guest.request()
    quote = bytearray(guest.quote())
    quote[100] ^= 1  # in mr_seam
    evidence = request["tee-evidence"]["primary_evidence"]
    evidence["quote"] = base64.b64encode(bytes(quote)).decode()
    found = explained(guest.parts(attest_request=request, kbs_answer=None))
    assert found.keys() == {Code.QUOTE_NOT_GENUINE}
    assert "changed after they were signed" in found[Code.QUOTE_NOT_GENUINE].found


def test_collateral_of_another_platform() -> None:
    guest = Guest()
    collateral = MockPki.create(now=NOW, platform=Platform(fmspc=bytes(6))).collateral()
    found = explained(guest.parts(collateral=collateral, kbs_answer=None))
    assert Code.COLLATERAL_PLATFORM in found


# -- initdata --


@pytest.mark.parametrize(
    ("register", "code", "says"),
    [
        pytest.param(digest48("sha512"), Code.INITDATA_ALGORITHM, "sha512", id="algorithm"),
        pytest.param(
            hashlib.sha384(INITDATA).digest()[::-1], Code.INITDATA_PADDING, "reversed", id="order"
        ),
        pytest.param(
            hashlib.sha384(INITDATA).hexdigest().encode()[:48], Code.INITDATA_PADDING,
            "hexadecimal", id="text",
        ),
        pytest.param(
            digest48("sha384", INITDATA.rstrip()), Code.INITDATA_BYTES, "final line end", id="end"
        ),
        pytest.param(
            digest48("sha384", INITDATA.replace(b"\n", b"\r\n")), Code.INITDATA_BYTES, "CRLF",
            id="line ends",
        ),
        pytest.param(b"\x22" * 48, Code.INITDATA_MISMATCH, "another initdata", id="other"),
    ],
)  # fmt: skip
def test_why_mrconfigid_differs(register: bytes, code: Code, says: str) -> None:
    found = explained(Guest(td=with_mrconfigid(register), initdata=INITDATA).parts())
    assert says in found[code].found
    assert found[code].got == register.hex()


def test_a_short_digest_belongs_on_the_left() -> None:
    document = INITDATA.replace(b"sha384", b"sha256")
    register = hashlib.sha256(document).digest().rjust(48, b"\0")
    found = explained(Guest(td=with_mrconfigid(register), initdata=document).parts())
    assert "zeros on the left" in found[Code.INITDATA_PADDING].found


def test_a_document_that_was_not_sent_is_only_worth_a_note() -> None:
    td = with_mrconfigid(digest48("sha384"))
    assert Code.INITDATA_NOT_SENT in explained(Guest(td=td).parts())
    assert Code.INITDATA_NOT_SENT in explained(Guest(td=td).parts(initdata=INITDATA))
    assert Code.INITDATA_NOT_SENT not in explained(Guest(td=td, initdata=INITDATA).parts())


# -- measurements --


def test_a_log_that_is_ahead_of_the_quote() -> None:
    later = other_boot()
    event = later.boot_log.events[-1].encode()
    log = later.boot_log.encode() + event + END_OF_LOG
    assert "1 more events of RTMR2" in explained(Guest(log=log).parts())[Code.EVENT_LOG_AHEAD].found


def test_a_log_that_does_not_parse_is_refused_and_not_replayed() -> None:
    found = explained(Guest(log=TdState.booted().boot_log.encode()[:-5]).parts())
    assert Code.EVENT_LOG_MALFORMED in found
    assert Code.EVENT_LOG_REPLAY not in found


def test_events_in_the_old_text_form_are_named_as_the_cause() -> None:
    lines = ["INIT sha384/" + "00" * 48, "example.com Started x"]
    td = TdState.booted()
    for line in lines:
        td.extend(3, hashlib.sha384(line.encode()).digest())
    guest = Guest(td=td)
    request = guest.request()
    evidence = request["tee-evidence"]["primary_evidence"]
    evidence["aa_eventlog"] = "\n".join(lines) + "\n"
    found = explained(guest.parts(attest_request=request))[Code.EVENT_LOG_REPLAY]
    assert "aa_eventlog" in found.found
    evidence["aa_eventlog"] = "INIT of something else"
    found = explained(guest.parts(attest_request=request))[Code.EVENT_LOG_REPLAY]
    assert "does not write to this log" in found.found


def test_a_log_without_its_first_record_is_no_log_for_a_kbs() -> None:
    log = b"".join(event.encode() for event in TdState.booted().boot_log.events)
    assert Code.EVENT_LOG_MALFORMED in explained(Guest(log=log).parts())


def test_no_log_is_a_warning() -> None:
    found = explained(Guest(log=b"").parts())
    assert "RTMR0, RTMR1, RTMR2" in found[Code.EVENT_LOG_ABSENT].found


def test_a_changed_boot_event_without_a_reference_log() -> None:
    found = explained(Guest(td=tampered("rtmr1")).parts(reference_eventlog=None))
    assert "RTMR1" in found[Code.EVENT_LOG_REPLAY].found
    assert "does not replay either" in found[Code.RTMR_DIFFERS].found


def test_a_differing_register_asks_for_a_reference_log() -> None:
    guest = Guest(td=other_boot(kernel=b"other kernel"))
    found = explained(guest.parts(reference_eventlog=None))[Code.RTMR_DIFFERS]
    assert "add the event log of a good boot" in found.found
    found = explained(guest.parts())[Code.RTMR_DIFFERS]
    assert "first difference at its event 3" in found.found
    assert "EFI image kernel" in found.found


def test_a_cut_log_without_a_reference_log_is_still_said_to_be_wrong() -> None:
    guest = Guest(log=cut_log(TdState.booted(), drop=1))
    assert Code.EVENT_LOG_REPLAY in explained(guest.parts(reference_eventlog=None))


def test_a_reference_log_of_another_boot_is_named() -> None:
    log = other_boot(initrd=b"older").boot_log.encode() + END_OF_LOG
    found = explained(Guest().parts(reference_eventlog=log))
    assert "RTMR2" in found[Code.REFERENCE_LOG_STALE].found


def test_other_fields_are_compared_under_their_names() -> None:
    found = explained(Guest().parts(reference_values={"xfam": ["00" * 8]}))
    assert found[Code.REFERENCE_VALUE].got == "e702060000000000"


# -- reference values --

VALUES = {"rtmr_1": ("aa",), "mr_td": ("bb", "cc")}


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"rtmr_1": ["AA"], "mr_td": ["bb", "cc"]}, id="map"),
        pytest.param({"rt_mr1": "aa", "mr_td": ["bb", "cc"]}, id="names of the specification"),
        pytest.param(
            {
                "version": "0.1.0",
                "type": "sample",
                "payload": base64.b64encode(b'{"rtmr_1":"aa","mr_td":["bb","cc"]}').decode(),
            },
            id="message",
        ),
        pytest.param(
            [{"name": "rtmr_1", "value": ["aa"]}, {"name": "mr_td", "value": ["bb", "cc"]}],
            id="stored",
        ),
        pytest.param(
            [
                {"name": "rtmr_1", "hash-value": [{"alg": "sha384", "value": "aa"}]},
                {"name": "mr_td", "hash-value": [{"value": "bb"}, {"value": "cc"}]},
            ],
            id="stored, older",
        ),
    ],
)
def test_every_form_of_reference_values(form: object) -> None:
    read = parse_reference_values(json.dumps(form).encode())
    assert read.values == VALUES
    assert parse_reference_values(read.message()).values == VALUES


@pytest.mark.parametrize(
    "text",
    ["", "3", '"x"', "[1]", '[{"value":1}]', '{"payload":"?"}', '[{"name":"a","hash-value":3}]'],
)
def test_what_is_no_reference_values(text: str) -> None:
    with pytest.raises(ReferenceValuesError):
        parse_reference_values(text.encode())


# -- tokens and answers --


@pytest.mark.parametrize(
    ("value", "expected"),
    [(-128, Tier.CONTRAINDICATED), (-97, Tier.CONTRAINDICATED), (-96, Tier.WARNING),
     (-33, Tier.WARNING), (-32, Tier.AFFIRMING), (-1, Tier.NONE), (0, Tier.NONE), (1, Tier.NONE),
     (2, Tier.AFFIRMING), (31, Tier.AFFIRMING), (32, Tier.WARNING), (95, Tier.WARNING),
     (96, Tier.CONTRAINDICATED), (127, Tier.CONTRAINDICATED), (5000, Tier.CONTRAINDICATED)],
)  # fmt: skip
def test_tiers_of_the_draft(value: int, expected: Tier) -> None:
    assert tier(value) is expected


def test_numbers_become_words() -> None:
    assert words("executables", 33) == "executables that are not recognised"
    assert words("hardware", 97) == "hardware or firmware not recognised"
    assert words("anything", 99) == "cryptographic validation failed"
    assert words("file-system", 55) == "a value of the tier warning without a name"


def test_the_recorded_token_is_read(shared_vectors: Path) -> None:
    payload = (shared_vectors / "kbs/tokens/ear-payload-example.json").read_bytes()
    found = [
        item
        for item in examine(read_case(Bundle.of({"token-claims.json": payload})))
        if item.code is Code.TRUST_VECTOR
    ]
    assert len(found) == 3
    assert "configuration is 36, warning" in found[0].found


def test_a_token_that_has_ended() -> None:
    payload = token_claims({"hardware": 2}, claims(TdState.booted()))
    late = Guest(clock=Guest().clock + 600).parts(kbs_answer=None, token_claims=payload)
    assert Code.TOKEN_EXPIRED in explained(late)
    early = Guest(clock=Guest().clock - 86400 / 2).parts(kbs_answer=None, token_claims=payload)
    assert "token was issued after it" in explained(early)[Code.CLOCK_WRONG].found


def test_a_denial_without_the_policy_shows_what_policies_look_at() -> None:
    payload = token_claims({"hardware": 97}, claims(TdState.booted(), "OutOfDate"))
    parts = Guest().parts(attest_request=None, kbs_answer=DENIED, token_claims=payload)
    notes = [
        item.got
        for item in examine(read_case(Bundle.of(parts)))
        if item.code is Code.POLICY_DENIED and item.got.startswith("ear.status")
    ]
    assert "tcb_status = OutOfDate" in notes[0]
    assert "td_attributes.debug = false" in notes[0]


def test_a_version_in_the_reason_is_not_the_protocol_version() -> None:
    detail = "Attestation error: RCAR handshake Attest failed (quote: version 3 is not TDX)"
    body = {"type": "https://x/errors/AttestationError", "detail": detail}
    (found,) = explain_answer(parse_answer(json.dumps(body).encode()))
    assert found.code is Code.ATTESTATION_REFUSED


CODES = {
    "version refused": Code.PROTOCOL_VERSION,
    "evidence refused; no cause given": Code.ATTESTATION_REFUSED,
    "resource policy said no": Code.POLICY_DENIED,
}


def test_recorded_error_documents_have_their_codes(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    seen = set()
    for case in cases:
        (found,) = explain_answer(parse_answer(json.dumps(case["body"]).encode()))
        if (code := CODES.get(case["meaning"])) is not None:
            assert found.code is code, case
            seen.add(code)
    assert seen == set(CODES.values())


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("timeout", Code.KBS_TIMEOUT), ("protocol", Code.KBS_PROTOCOL),
     ("evidence", Code.EVIDENCE_FAILED), ("something new", Code.EVIDENCE_FAILED)],
)  # fmt: skip
def test_an_outage_is_no_refusal(outcome: str, code: Code) -> None:
    answer = parse_answer(json.dumps({"outcome": outcome, "message": "m"}).encode())
    (found,) = explain_answer(answer)
    assert (found.code, found.severity, found.got) == (code, "outage", "m")


def test_a_root_that_did_not_sign_itself_is_not_given_to_the_verifier() -> None:
    guest = Guest()
    intermediate = guest.pki.certificates["platform-ca"].public_bytes(Encoding.PEM)
    found = explained(guest.parts(trusted_root=intermediate))
    assert "not self-signed" in found[Code.PART_UNUSABLE].found
    assert Code.ROOT_UNKNOWN in found
