"""The handshake refuses to be called out of order, and fails for good."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import Handshake, HandshakeOrderError, KbsProtocolError, TeeKey
from kbs.handshake import HandshakeState
from kbs.payloads import RCAR_0_4_0, Challenge, HashAlgorithm
from tests.wire.kbs_sealing import make_token

CHALLENGE = json.dumps({"nonce": "bm9uY2U=", "extra-params": ""}).encode()
TOKEN = json.dumps({"token": make_token({"exp": 2_000_000_000})}).encode()
KEY = TeeKey.generate()

STEPS: dict[str, Callable[[Handshake], object]] = {
    "open": lambda handshake: handshake.open(),
    "accept_challenge": lambda handshake: handshake.accept_challenge(CHALLENGE),
    "answer": lambda handshake: handshake.answer({"quote": "QQ=="}),
    "accept_token": lambda handshake: handshake.accept_token(TOKEN),
}
ORDER = list(STEPS)


def test_the_whole_handshake() -> None:
    handshake = Handshake("tdx", KEY)
    assert json.loads(handshake.open())["tee"] == "tdx"
    digest = handshake.accept_challenge(CHALLENGE)
    expected = RCAR_0_4_0.runtime_digest(
        Challenge("bm9uY2U=", HashAlgorithm.SHA384), KEY.public_jwk()
    )
    assert digest == expected
    attestation = json.loads(handshake.answer({"quote": "QQ=="}))
    assert attestation["runtime-data"] == {"nonce": "bm9uY2U=", "tee-pubkey": KEY.public_jwk()}
    session = handshake.accept_token(TOKEN)
    assert session.tee_key is KEY
    assert session.expires_at == 2_000_000_000
    assert handshake.state is HandshakeState.DONE


@given(st.lists(st.sampled_from(ORDER), max_size=8))
def test_only_the_one_order_works(calls: list[str]) -> None:
    handshake = Handshake("tdx", KEY)
    reached = 0
    for call in calls:
        if reached < len(ORDER) and call == ORDER[reached]:
            STEPS[call](handshake)
            reached += 1
        else:
            with pytest.raises(HandshakeOrderError) as caught:
                STEPS[call](handshake)
            assert caught.value.step == call


@pytest.mark.parametrize(
    ("before", "bad_step"),
    [
        pytest.param(1, lambda h: h.accept_challenge(b"{}"), id="bad challenge"),
        pytest.param(3, lambda h: h.accept_token(b"{}"), id="bad token"),
    ],
)
def test_a_bad_message_ends_the_handshake(
    before: int, bad_step: Callable[[Handshake], object]
) -> None:
    handshake = Handshake("tdx", KEY)
    for step in ORDER[:before]:
        STEPS[step](handshake)
    with pytest.raises(KbsProtocolError):
        bad_step(handshake)
    assert handshake.state is HandshakeState.FAILED
    for call in ORDER:
        with pytest.raises(HandshakeOrderError):
            STEPS[call](handshake)


def challenged() -> Handshake:
    handshake = Handshake("tdx", KEY)
    handshake.open()
    handshake.accept_challenge(CHALLENGE)
    return handshake


@given(st.text(st.characters(codec="utf-8"), max_size=60))
def test_the_device_text_is_hashed_and_sent_as_it_is(text: str) -> None:
    handshake = challenged()
    digest = handshake.add_devices(text)
    challenge = Challenge("bm9uY2U=", HashAlgorithm.SHA384)
    assert digest == RCAR_0_4_0.runtime_digest(challenge, KEY.public_jwk(), text)
    sent = json.loads(handshake.answer({"quote": "QQ=="}))["tee-evidence"]
    assert sent["additional_evidence"] == text


def test_the_digest_of_devices_is_not_that_of_the_tee() -> None:
    handshake = challenged()
    bound = {"nonce": "bm9uY2U=", "tee-pubkey": KEY.public_jwk()}
    text = json.dumps(bound, sort_keys=True, separators=(",", ":"))
    assert handshake.device_digest() == hashlib.sha384(text.encode()).digest()
    assert handshake.device_digest() != handshake.add_devices("")


def test_devices_come_between_challenge_and_answer() -> None:
    early, late = Handshake("tdx", KEY), challenged()
    late.answer({"quote": "QQ=="})
    for handshake in (early, late):
        with pytest.raises(HandshakeOrderError, match="add_devices"):
            handshake.add_devices("")
        with pytest.raises(HandshakeOrderError, match="device_digest"):
            handshake.device_digest()
