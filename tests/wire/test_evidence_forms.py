"""The forms in which evidence reaches a person are told apart, and others are refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.td import TdState
from tdx.errors import EvidenceFormatError
from tdx.eventlog import SHA384, Digest, Event, encode_event
from tdx.evidence_forms import Form, recognise
from tests.ports.fake_tsm import formed_quote

QUOTE = formed_quote(bytes(range(64)))
LOG = TdState.booted().boot_log.data_file()
RECORD = encode_event(Event(4, 6, (Digest(SHA384, bytes(48)),), b"data"))
REPORT = b"\x81" + bytes(1023)
TEXT_LOG = "INIT sha384/" + "00" * 48 + "\ndomain operation content\n"
EVIDENCE = {
    "quote": base64.b64encode(QUOTE).decode(),
    "cc_eventlog": base64.b64encode(LOG).decode(),
    "aa_eventlog": None,
}
KEY = {"kty": "EC"}


def body_0_4_0(evidence: object, init_data: object = None) -> bytes:
    return json.dumps(
        {
            "init-data": init_data,
            "runtime-data": {"nonce": "n", "tee-pubkey": KEY},
            "tee-evidence": {"primary_evidence": evidence, "additional_evidence": ""},
        }
    ).encode()


def older_body(evidence: object) -> bytes:
    return json.dumps({"tee-pubkey": KEY, "tee-evidence": evidence}).encode()


def wrapped(data: bytes) -> bytes:
    return base64.encodebytes(data)


def url_safe(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.mark.parametrize(
    "encode",
    [bytes, bytes.hex, wrapped, base64.b64encode, url_safe, lambda d: "0x" + d.hex() + "\n"],
    ids=["bytes", "hex", "wrapped base64", "base64", "base64url", "0x"],
)
@pytest.mark.parametrize(
    ("content", "form"),
    [(QUOTE, Form.QUOTE), (REPORT, Form.TDREPORT), (LOG, Form.EVENT_LOG), (RECORD, Form.EVENT_LOG)],
    ids=["quote", "report", "log", "record"],
)
def test_bytes_and_their_text_forms(
    content: bytes, form: Form, encode: Callable[[bytes], bytes | str]
) -> None:
    encoded = encode(content)
    file = recognise(encoded.encode() if isinstance(encoded, str) else encoded)
    assert file.form is form
    parts = {Form.QUOTE: file.quote, Form.TDREPORT: file.tdreport, Form.EVENT_LOG: file.event_log}
    assert parts.pop(form) == content
    assert set(parts.values()) == {None}


@pytest.mark.parametrize(
    ("content", "form"),
    [
        pytest.param(json.dumps(EVIDENCE).encode(), Form.EVIDENCE, id="evidence"),
        pytest.param(json.dumps(json.dumps(EVIDENCE)).encode(), Form.EVIDENCE, id="string"),
        pytest.param(url_safe(json.dumps(EVIDENCE).encode()), Form.EVIDENCE, id="base64url"),
        pytest.param(json.dumps({"primary_evidence": EVIDENCE}).encode(), Form.EVIDENCE,
                     id="primary"),
        pytest.param(body_0_4_0(EVIDENCE), Form.ATTESTATION, id="0.4.0"),
        pytest.param(body_0_4_0(json.dumps(EVIDENCE)), Form.ATTESTATION, id="0.4.0 string"),
        pytest.param(older_body(EVIDENCE), Form.ATTESTATION, id="0.2.0"),
        pytest.param(older_body(json.dumps(EVIDENCE)), Form.ATTESTATION, id="0.1.0"),
    ],
)  # fmt: skip
def test_evidence_and_requests(content: bytes, form: Form) -> None:
    file = recognise(content)
    assert file.form is form
    assert (file.quote, file.event_log, file.agent_log) == (QUOTE, LOG, None)


def test_the_rest_of_a_request_is_found() -> None:
    old = EVIDENCE | {"cc_eventlog": None, "aa_eventlog": TEXT_LOG}
    file = recognise(body_0_4_0(old, {"format": "toml", "body": "algorithm = 'sha384'"}))
    assert file.agent_log == TEXT_LOG
    assert file.event_log is None
    assert file.init_data == "algorithm = 'sha384'"
    assert recognise(TEXT_LOG.encode()).agent_log == TEXT_LOG


def nested(depth: int) -> bytes:
    content = json.dumps(EVIDENCE)
    for _ in range(depth):
        content = json.dumps(content)
    return content.encode()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="white space"),
        pytest.param(b"hello, world", id="prose"),
        pytest.param(b"\xff" * 64, id="bytes"),
        pytest.param(b"{", id="broken JSON"),
        pytest.param(b'{"quote":"\xfe"}', id="no UTF-8"),
        pytest.param(b"[" * 100_000, id="deep array"),
        pytest.param(b'{"a":' * 100_000, id="deep object"),
        pytest.param(b"{}", id="no member"),
        pytest.param(b'{"quote":1}', id="number"),
        pytest.param(b'{"quote":""}', id="empty quote"),
        pytest.param(b'{"quote":"!"}', id="no base64"),
        pytest.param(b'{"quote":"AAAA","cc_eventlog":1}', id="log is a number"),
        pytest.param(b'{"quote":"AAAA","aa_eventlog":1}', id="text log is a number"),
        pytest.param(b'{"tee-evidence":1}', id="evidence is a number"),
        pytest.param(b'{"tee-evidence":{"svn":"1"}}', id="evidence of another TEE"),
        pytest.param(body_0_4_0(EVIDENCE, {"format": "toml"}), id="initdata without body"),
        pytest.param(body_0_4_0(EVIDENCE, 1), id="initdata is a number"),
        pytest.param(nested(5), id="text in text"),
        pytest.param(b"A" * (4 * 1024 * 1024 + 1), id="too large"),
    ],
)
def test_others_are_refused(content: bytes) -> None:
    with pytest.raises(EvidenceFormatError):
        recognise(content)


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_arbitrary_bytes_raise_nothing_else(content: bytes) -> None:
    try:
        file = recognise(content)
    except EvidenceFormatError:
        return
    assert file.form in Form


def test_recorded_files_are_recognised(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    expected = {"quotes/*": Form.QUOTE, "ccel/[!t]*.bin": Form.EVENT_LOG, "aael/*": Form.EVENT_LOG,
                "tdreports/[!n]*": Form.TDREPORT, "expected/dstack*": Form.EVIDENCE}  # fmt: skip
    for pattern, form in expected.items():
        paths = list(folder.glob(pattern))
        assert paths, pattern
        for path in paths:
            assert recognise(path.read_bytes()).form is form, path.name
