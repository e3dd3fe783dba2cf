"""The mock KBS's own codecs against recorded data, and on arbitrary bytes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from mocktee.kbs import encoding, jwe
from mocktee.kbs.authenticate import PlatformStatus
from mocktee.kbs.claims import tdx_claims
from mocktee.kbs.decide import (
    expected_device_digest,
    expected_digest,
    judge_binding,
    judge_event_log,
)
from mocktee.kbs.errors import (
    AuthRefusedError,
    EvidenceRefusedError,
    PluginFailedError,
    ReferenceValueError,
)
from mocktee.kbs.eventlog import EVENT_TYPES, LoggedEvent, parse_event_log, replay
from mocktee.kbs.initdata import digest_init_data
from mocktee.kbs.jws import parse_signed
from mocktee.kbs.messages import (
    Attestation,
    Binding,
    InitData,
    MessageForm,
    parse_attestation,
    parse_auth,
)
from mocktee.kbs.quote import read_quote
from mocktee.kbs.references import parse_registration
from mocktee.kbs.resources import ResourceStore
from mocktee.kbs.teekey import TeePublicKey
from mocktee.kbs.token import annotated_evidence
from mocktee.kbs.trust import read_jwk
from mocktee.kbs.verifier import Verdict
from tests.services.kbs_guest import TeeKey, open_jwe

PLATFORM = PlatformStatus("UpToDate", ())


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def private_key(vectors: Path, name: str) -> TeeKey:
    keys = load(vectors / "kbs/jwe/tee-keys.json")
    key = load_pem_private_key(keys[name]["tee_keypair_pem"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
    return key


@pytest.mark.parametrize("name", ["ec-p256", "ec-p521", "rsa-oaep-256"])
def test_the_opener_of_these_tests_opens_recorded_responses(
    shared_vectors: Path, name: str
) -> None:
    cases = {
        case["name"]: case for case in load(shared_vectors / "kbs/jwe/responses.json")["cases"]
    }
    case = cases[name]
    opened = open_jwe(private_key(shared_vectors, case["key"]), case["jwe"])
    assert opened.decode() == case["expected_plaintext"]


@pytest.mark.parametrize("plaintext", [b"", b"top secret payload", bytes(100_000)], ids=len)
@pytest.mark.parametrize("name", ["ec-p256", "ec-p521", "rsa-oaep-256"])
def test_what_the_mock_encrypts_opens_with_recorded_keys(
    shared_vectors: Path, name: str, plaintext: bytes
) -> None:
    public = load(shared_vectors / "kbs/jwe/tee-keys.json")[name]["public_jwk"]
    document: Any = jwe.encrypt(TeePublicKey.parse(public), plaintext)
    assert open_jwe(private_key(shared_vectors, name), document) == plaintext


@pytest.mark.parametrize(
    ("name", "binding", "key"),
    [
        ("early binding", Binding.NONCE_AND_KEY, "rsa"),
        ("late binding, RSA", Binding.RUNTIME_DATA, "rsa"),
        ("EC", Binding.RUNTIME_DATA, "ec"),
        ("primary evidence, no devices", Binding.RUNTIME_DATA_AND_DEVICES, "ec"),
        ("primary evidence, one device", Binding.RUNTIME_DATA_AND_DEVICES, "ec"),
    ],
)
def test_bound_digests(shared_vectors: Path, name: str, binding: Binding, key: str) -> None:
    recorded = load(shared_vectors / "kbs/rcar/report-data.json")
    cases = {case["name"]: case for case in recorded["cases"]}
    attestation = Attestation(
        nonce=recorded["nonce"],
        tee_pubkey=TeePublicKey.parse(recorded[f"tee-pubkey-{key}"] | {"kid": "dropped"}),
        primary_evidence=None,
        additional_evidence=recorded["additional-evidence"] if "one device" in name else "",
        init_data=None,
        binding=binding,
    )
    assert attestation.bound_bytes().decode() == cases[name]["hash_input_utf8"]
    assert expected_digest(attestation).hex() == cases[name]["digest"]["sha384"]
    if key == "ec":
        device = cases["device evidence"]["digest"]["sha384"]
        assert expected_device_digest(attestation).hex() == device


def test_canonical_form_check_value() -> None:
    text = encoding.canonical_json({"b": 1, "a": "test", "c": {"d": "e"}})
    assert hashlib.sha384(text).hexdigest() == (
        "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c"
        "4597480a186427c813ca941da78870c3"
    )


@pytest.mark.parametrize(
    ("version", "good"),
    [("0.4.0", True), ("0.2.0", False), ("0.1.1", False), ("0.1.0 late", False)],
)
def test_recorded_bodies(shared_vectors: Path, version: str, good: bool) -> None:
    bodies = load(shared_vectors / "kbs/rcar/bodies-by-version.json")["versions"][version]
    assert parse_auth(json.dumps(bodies["auth"]).encode()).tee == "sample"
    body = json.dumps(bodies["attest"]).encode()
    if good:
        assert parse_attestation(body).nonce == bodies["challenge"]["nonce"]
        return
    with pytest.raises(ValueError, match="field `runtime-data` is missing"):
        parse_attestation(body)


def test_stale_bodies_are_refused(shared_vectors: Path) -> None:
    body = (shared_vectors / "kbs/rcar/legacy-attest.json").read_bytes()
    with pytest.raises(ValueError, match="missing or not an object"):
        parse_attestation(body)


def test_recorded_error_text(shared_vectors: Path) -> None:
    case = load(shared_vectors / "kbs/rcar/errors.json")["cases"][0]
    error = AuthRefusedError(
        "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.2.0"
    )
    assert error.detail == case["body"]["detail"]
    assert case["body"]["type"].endswith(f"/{error.variant}")


def test_resource_names(shared_vectors: Path) -> None:
    for case in load(shared_vectors / "kbs/uris/resource-path.json"):
        store = ResourceStore()
        if case["valid"]:
            store.put(case["path"].split("/"), b"")
            continue
        with pytest.raises(PluginFailedError, match="is not of the form repository/type/tag"):
            store.put(case["path"].split("/"), b"")


def quote_names(vectors: Path) -> dict[str, Any]:
    quotes: dict[str, Any] = load(vectors / "tdx/expected.json")["quotes"]
    return quotes


def test_recorded_quotes(shared_vectors: Path) -> None:
    seen = 0
    for name, fields in quote_names(shared_vectors).items():
        raw = (shared_vectors / "tdx" / name).read_bytes()
        if fields["tee_type"] != 0x81 or fields.get("body_type") == 4:
            with pytest.raises(EvidenceRefusedError, match="quote format"):
                read_quote(raw)
            continue
        quote = read_quote(raw)
        body = {"rtmr_" + k[-1] if k[:4] == "rtmr" else k: v for k, v in fields["body"].items()}
        body["tcb_svn"] = body.pop("tee_tcb_svn")
        assert {k: v.hex() for k, v in quote.body.items()}.items() <= body.items(), name
        assert quote.version == fields["version"]
        assert quote.header["vendor_id"].hex() == fields["qe_vendor_id"]
        seen += 1
    assert seen >= 12


def test_claims_of_a_recorded_quote(shared_vectors: Path) -> None:
    expected = load(shared_vectors / "kbs/evidence/tdx_claims_expected.json")
    quote = read_quote((shared_vectors / "kbs/evidence/tdx_quote_4.dat").read_bytes())
    claims = tdx_claims(quote, PLATFORM, None)
    assert claims["quote"] == expected["quote"]
    assert claims["td_attributes"] == expected["td_attributes"]
    assert quote.debug is True
    assert quote.body["report_data"].hex() == expected["report_data"]


def test_token_has_the_members_of_a_recorded_one(shared_vectors: Path) -> None:
    recorded = load(shared_vectors / "kbs/tokens/ear-payload-example.json")
    evidence = recorded["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    verdict = Verdict("tdx", {}, "00", "00", None, {})
    assert set(annotated_evidence(verdict)) == set(evidence) - {"sgx"} | {"tdx"}


def test_recorded_event_logs(shared_vectors: Path) -> None:
    logs = load(shared_vectors / "tdx/expected.json")["event_logs"]
    for name, expected in logs.items():
        events = parse_event_log((shared_vectors / "tdx" / name).read_bytes())
        assert len(events) == expected["events_after_spec_id"], name
        if "sha384_replay_all_events" not in expected:  # a log of another TEE, with SM3 only
            with pytest.raises(EvidenceRefusedError, match="a record has no SHA-384 digest"):
                replay(events)
            continue
        recorded = [expected["sha384_replay_all_events"][str(r)] for r in range(1, 5)]
        assert [value.hex() for value in replay(events)] == recorded, name


@pytest.mark.parametrize("name", ["ovmf", "ovmf_grub", "tdshim_trimmed", "gcp_gke_trimmed"])
def test_event_claims_are_trustees(shared_vectors: Path, name: str) -> None:
    stem = name.removesuffix("_trimmed")
    recorded = load(shared_vectors / f"tdx/expected/trustee_events_{stem}.json")["uefi_event_logs"]
    quote = read_quote((shared_vectors / "kbs/evidence/tdx_quote_4.dat").read_bytes())
    events = parse_event_log((shared_vectors / f"tdx/ccel/{name}.bin").read_bytes())
    ours = tdx_claims(quote, PLATFORM, events)["uefi_event_logs"]
    members = ("index", "type_name", "digests", "event", "digest_matches_event")
    assert ours == [{member: event[member] for member in members} for event in recorded]


def test_log_and_quote_of_a_real_machine(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    quote = read_quote((folder / "quotes/gcp_v4_cos113.bin").read_bytes())
    events = parse_event_log((folder / "ccel/gcp_cos113_trimmed.bin").read_bytes())
    assert [value == quote.rtmr(i) for i, value in enumerate(replay(events))][:3] == [True] * 3
    with pytest.raises(
        EvidenceRefusedError, match=r"^event log replay: RTMR1 is [0-9a-f]{96}, log"
    ):
        judge_event_log(quote, events[:-1])


SPEC_ID = (
    struct.pack("<II20sI", 1, 3, bytes(20), 33)
    + b"Spec ID Event03\0"
    + struct.pack("<IBBBBIHHB", 0, 0, 2, 0, 2, 1, 0x0C, 48, 0)
)


def record(register: int = 4, kind: int = 6, digest: bytes = bytes(48), data: bytes = b"") -> bytes:
    head = struct.pack("<IIIH", register, kind, 1, 0x0C) + digest
    return head + struct.pack("<I", len(data)) + data


def test_runtime_record_of_the_protocol() -> None:
    data = b"LEAA" + struct.pack("<I", 24) + b"domain operation content"
    digest = hashlib.sha384(data).digest()
    events = parse_event_log(SPEC_ID + record(digest=digest, data=data) + b"\xff" * 8)
    assert replay(events)[3].hex() == (
        "82d3f7a4203f58dafe0519eb5e9f645339cda127418c62d4b0270d790ab6ff3c"
        "38783523613a7a9f610e7ba004788c26"
    )


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (b"", "first record at byte 0 runs past the end"),
        (SPEC_ID[:40], "runs past the end"),
        (struct.pack("<II", 1, 4) + SPEC_ID[8:], "first record is not EV_NO_ACTION"),
        (SPEC_ID.replace(b"\x0c\x00\x30\x00", b"\x0c\x00\x20\x00"), "algorithm 0x000c of 32 bytes"),
        (SPEC_ID.replace(b"\x0c\x00\x30\x00", b"\x99\x00\x30\x00"), "algorithm 0x0099"),
        (SPEC_ID + record(kind=0x08000001), "unknown event type 0x8000001"),
        (SPEC_ID + struct.pack("<III", 1, 4, 0xFFFFFFFF), "4294967295 digests"),
        (SPEC_ID + record().replace(b"\x0c\x00", b"\x0b\x00"), "unexpected algorithm 0x000b"),
        (SPEC_ID + record()[:-4] + b"\xff\xff\xff\x7f", "event data at byte"),
        (SPEC_ID + record() + b"\0" * 5, "runs past the end"),
        (bytes(1024 * 1024 + 1), "at most 1048576 are read"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_event_logs(log: bytes, reason: str) -> None:
    with pytest.raises(EvidenceRefusedError, match=reason):
        replay(parse_event_log(log))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.sampled_from(sorted(EVENT_TYPES)),
            st.binary(min_size=48, max_size=48),
            st.binary(max_size=64),
        ).filter(lambda row: row[:2] != (0, 0)),
        max_size=8,
    ),
    st.sampled_from([b"", b"\xff" * 8, b"\0" * 8, b"\xff" * 100]),
)
def test_event_logs_parse_to_what_was_written(
    rows: list[tuple[int, int, bytes, bytes]], end: bytes
) -> None:
    log = SPEC_ID + b"".join(record(*row) for row in rows) + end
    expected = [LoggedEvent(r, kind, ((0x0C, digest),), data) for r, kind, digest, data in rows]
    assert parse_event_log(log) == expected


PARSERS: list[tuple[str, Callable[[bytes], object], type[Exception]]] = [
    ("event log", parse_event_log, EvidenceRefusedError),
    ("event log body", lambda data: parse_event_log(SPEC_ID + data), EvidenceRefusedError),
    ("quote", read_quote, EvidenceRefusedError),
    ("auth", parse_auth, ValueError),
    ("attestation", parse_attestation, ValueError),
    ("0.1.0", lambda data: parse_attestation(data, MessageForm.EVIDENCE_TEXT), ValueError),
    ("0.2.0", lambda data: parse_attestation(data, MessageForm.EVIDENCE_VALUE), ValueError),
    ("JWK", lambda data: read_jwk(encoding.parse_object(data)), ValueError),
    ("JSON", encoding.parse_json, ValueError),
    ("reference values", parse_registration, ReferenceValueError),
    ("JWS", lambda data: parse_signed(data.decode("latin-1")), ValueError),
    ("base64", lambda data: encoding.b64_decode(data.decode("latin-1")), ValueError),
    ("base64url", lambda data: encoding.b64u_decode(data.decode("latin-1")), ValueError),
    (
        "initdata",
        lambda data: digest_init_data(InitData("toml", data.decode("latin-1"))),
        EvidenceRefusedError,
    ),
]


@pytest.mark.parametrize(
    ("parse", "error"), [row[1:] for row in PARSERS], ids=[row[0] for row in PARSERS]
)
@given(data=st.binary(max_size=200))
def test_arbitrary_bytes_never_surprise(
    parse: Callable[[bytes], object], error: type[Exception], data: bytes
) -> None:
    with contextlib.suppress(error):
        parse(data)


@given(st.binary(max_size=100))
def test_base64_round_trips(data: bytes) -> None:
    assert encoding.b64_decode(encoding.b64_encode(data)) == data
    assert encoding.b64u_decode(encoding.b64u_encode(data)) == data


@pytest.mark.parametrize("text", ["AA==", "AB", "A", "A A", "AA+A", "AAA/", "é"])
def test_base64url_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match="URL-safe base64"):
        encoding.b64u_decode(text)


@pytest.mark.parametrize("text", ["AA", "_A==", "AA==\n", "A===", "é"])
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(ValueError, match="not standard base64"):
        encoding.b64_decode(text)


@pytest.mark.parametrize("text", [b'{"a":1,"a":2}', b"NaN", b"[" * 50_000, b"\xff", b"{"])
def test_json_is_strict(text: bytes) -> None:
    with pytest.raises(ValueError, match="not valid JSON"):
        encoding.parse_json(text)


def test_sample_digest_is_that_of_the_recorded_evidence(shared_vectors: Path) -> None:
    body = load(shared_vectors / "kbs/rcar/bodies-by-version.json")["versions"]["0.4.0"]["attest"]
    attestation = parse_attestation(json.dumps(body).encode())
    evidence = body["tee-evidence"]["primary_evidence"]["report_data"]
    assert base64.b64encode(expected_digest(attestation)).decode() == evidence


def test_binding_names_both_sides(shared_vectors: Path) -> None:
    body = load(shared_vectors / "kbs/rcar/bodies-by-version.json")["versions"]["0.4.0"]["attest"]
    attestation = parse_attestation(json.dumps(body).encode())
    quote = read_quote((shared_vectors / "kbs/evidence/tdx_quote_4.dat").read_bytes())
    expected = expected_digest(attestation).hex() + "00" * 16
    with pytest.raises(EvidenceRefusedError, match=f"got 7c71fe2c[0-9a-f]+, expected {expected}"):
        judge_binding(quote, attestation)


def test_initdata_digest(shared_vectors: Path) -> None:
    text = (shared_vectors / "kbs/evidence/initdata-simple.toml").read_bytes().decode()
    digest = digest_init_data(InitData("toml", text))
    recorded = "df0973f1d4ab240854df02e467d1f30a5aef52b9c126beba333055e346065c8c"
    assert digest.digest.hex() == recorded
    assert digest.register().hex() == recorded + "00" * 16
