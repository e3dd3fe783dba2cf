"""Bundles: names, limits, no secrets; and nothing raises on bytes that somebody attached."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from explain import Bundle, BundleError, Part, SecretInBundleError, examine, read_case
from explain.attest_request import parse_attest_request
from explain.boot_measurements import BootFiles, boot_reference
from explain.bundle import LIMITS
from explain.errors import ExplainError
from explain.token import claims_of_token
from kbs import TeeKey
from tdx.event_description import describe_event
from tdx.eventlog import Digest, Event
from tests.bundles import KEY, Guest

GOOD = Guest().parts()


def test_a_name_that_is_no_part_is_refused_with_the_names() -> None:
    with pytest.raises(BundleError, match=r"evidence\.json"):
        Bundle.of({"../../etc/passwd": b""})


def test_every_part_has_a_limit() -> None:
    assert set(LIMITS) == set(Part)
    with pytest.raises(BundleError, match="at most"):
        Bundle.of({Part.MANIFEST: bytes(LIMITS[Part.MANIFEST] + 1)})


HEADER = b"eyJhbGciOiJFUzI1NiJ9"
PAYLOAD = b"eyJpYXQiOjEyMzQ1fQ"
SIGNATURE = b"c2lnbmF0dXJl"
TOKEN = b".".join((HEADER, PAYLOAD, SIGNATURE))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(TeeKey.generate().to_pem().reveal(), "private key", id="pem"),
        pytest.param(json.dumps({"a": [KEY | {"d": "x"}]}).encode(), "private JWK", id="jwk"),
        pytest.param(b'{"token":"x","tee_keypair":"y"}', "TEE key pair", id="agent reply"),
        pytest.param(b'{"t":"' + TOKEN + b'"}', "bearer token", id="token"),
    ],
)
@pytest.mark.parametrize("part", list(Part))
def test_no_part_holds_a_secret(part: Part, content: bytes, what: str) -> None:
    with pytest.raises(SecretInBundleError, match=what) as caught:
        Bundle.of({part: content})
    assert content.decode() not in str(caught.value)


def test_a_public_key_is_no_secret() -> None:
    Bundle.of(GOOD)
    Bundle.of({Part.HANDSHAKES: json.dumps([{"tee-pubkey": KEY}]).encode()})


def test_of_a_token_the_claims_are_taken() -> None:
    claims = claims_of_token(TOKEN + b"\n")
    assert claims == b'{"iat":12345}'
    for bad in (b"", b"a.b", b"a.!.c", b"\xff.\xff.\xff"):
        with pytest.raises(BundleError):
            claims_of_token(bad)


def test_claims_of_recorded_tokens(shared_vectors: Path) -> None:
    token = (shared_vectors / "kbs/tokens/test-provider-es256.jwt").read_bytes()
    assert json.loads(claims_of_token(token))


@given(st.dictionaries(st.sampled_from(list(Part)), st.binary(max_size=300)))
def test_arbitrary_parts_become_findings(parts: dict[Part, bytes]) -> None:
    try:
        bundle = Bundle.of({str(part): data for part, data in parts.items()})
    except SecretInBundleError:  # arbitrary bytes can look like one
        return
    assert examine(read_case(bundle))


@pytest.mark.parametrize("part", list(Part))
@pytest.mark.parametrize("start", [b"[", b'{"kty":', b'{"payload":'], ids=["lists", "keys", "maps"])
def test_depth_is_no_defect(part: Part, start: bytes) -> None:
    content = start * (LIMITS[part] // len(start) // 2)
    assert examine(read_case(Bundle.of({str(part): content})))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["nonce", "tee-pubkey", "runtime-data", "tee-evidence", "primary_evidence", "submods",
             "cpu0", "ear.trustworthiness-vector", "quote", "cc_eventlog", "exp", "iat", "kty",
             "ear.veraison.annotated-evidence", "tdx", "outcome", "type", "detail", "version",
             "guest_clock_unix", "name", "value", "payload", "extra-params", "init-data", "body"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@given(st.sampled_from(list(Part)), JSON)
def test_arbitrary_json_in_a_good_bundle_becomes_findings(part: Part, value: object) -> None:
    try:
        bundle = Bundle.of(GOOD | {str(part): json.dumps(value).encode()})
    except SecretInBundleError:
        return
    findings = examine(read_case(bundle))
    assert findings
    assert all(len(item.got) < 20_000 for item in findings)


@given(st.binary(max_size=400))
def test_requests_raise_our_error_only(data: bytes) -> None:
    try:
        parse_attest_request(data)
    except ExplainError:
        return


@given(
    st.lists(
        st.builds(
            Event,
            st.integers(0, 4),
            st.sampled_from([3, 4, 6, 0xD, 0x80000001, 0x80000003, 0x12345]),
            st.just((Digest(0xC, bytes(48)),)),
            st.binary(max_size=120),
        ),
        max_size=8,
    ),
    st.binary(max_size=200),
)
def test_events_are_described_in_one_printable_line(log: list[Event], kernel: bytes) -> None:
    for event in log:
        line = describe_event(event).summary
        assert line.isprintable()
        assert len(line) < 200
    try:
        boot_reference(log=log, files=BootFiles(kernel, kernel, "x"))
    except ExplainError:
        return
