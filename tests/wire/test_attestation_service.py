"""What is asked of an attestation service, and what its answer may be."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import KbsProtocolError
from kbs.attestation_service import encode_evaluation, read_answer_token
from tests.wire.kbs_sealing import make_token


@given(st.binary(max_size=200))
def test_the_request_in_full(evidence: bytes) -> None:
    text = base64.urlsafe_b64encode(evidence).rstrip(b"=").decode()
    assert json.loads(encode_evaluation("tdx", evidence)) == {
        "verification_requests": [{"tee": "tdx", "evidence": text}],
        "policy_ids": [],
    }


def test_the_answer_is_the_token_itself() -> None:
    token = make_token({"exp": 5})
    for body in (token, f"{token}\n"):
        grant = read_answer_token(body.encode())
        assert (grant.token.reveal_text(), grant.expires_at) == (token, 5.0)


@pytest.mark.parametrize("body", [b"", b"\xff", b'{"token":"e30.e30.QQ"}', b"<html>", b"a.b"])
def test_other_answers_are_refused(body: bytes) -> None:
    with pytest.raises(KbsProtocolError):
        read_answer_token(body)
