"""Whatever is sent: keywrap answers with the right bytes or with an error of its own."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keywrap import (
    KeywrapError,
    parse_older_unwrap_request,
    parse_packet,
    parse_unwrap_request,
    unwrap_reply,
)
from secrecy import Secret
from tests.wire.keywrap_samples import (
    KEK,
    OPTIONS,
    b64,
    ctr_packet,
    gcm_packet,
    older_request_for,
    reply_options,
    request_for,
    unwrapped,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    ["kid", "wrapped_data", "iv", "wrap_type", "version", "provider", "provider_settings"]
)
WRAPPED = 12 + len(OPTIONS) + 16


@given(st.binary(max_size=400))
def test_parsers_raise_nothing_foreign(data: bytes) -> None:
    for parse in (parse_unwrap_request, parse_older_unwrap_request, parse_packet):
        with pytest.raises(KeywrapError):
            parse(data)


@given(MEMBERS, JSON)
def test_any_value_of_any_member_of_a_packet(member: str, value: Any) -> None:
    with suppress(KeywrapError):
        assert unwrapped(gcm_packet() | {member: value}) == OPTIONS


@given(st.sampled_from(["op", "keywrapparams", "keyunwrapparams"]), JSON)
def test_any_value_of_any_member_of_a_request(member: str, value: Any) -> None:
    packet = gcm_packet()
    for parse, request in (
        (parse_unwrap_request, request_for(packet, **{member: value})),
        (
            parse_older_unwrap_request,
            json.dumps(json.loads(older_request_for(packet)) | {member: value}).encode(),
        ),
    ):
        with suppress(KeywrapError):
            parse(request)


@given(st.integers(0, WRAPPED - 1), st.integers(1, 255))
def test_a_changed_byte_never_opens(place: int, change: int) -> None:
    """One byte of vector, ciphertext or tag, authenticated as they are."""
    iv = bytearray(b"i" * 12)
    packet = gcm_packet(iv=bytes(iv))
    wrapped = bytearray(base64.b64decode(packet["wrapped_data"]))
    target, index = (iv, place) if place < 12 else (wrapped, place - 12)
    target[index] ^= change
    packet |= {"iv": b64(bytes(iv)), "wrapped_data": b64(bytes(wrapped))}
    with pytest.raises(KeywrapError):
        unwrapped(packet)


@given(st.integers(0, WRAPPED - 12))
def test_a_shortened_ciphertext_never_opens(cut: int) -> None:
    packet = gcm_packet()
    wrapped = base64.b64decode(packet["wrapped_data"])
    packet["wrapped_data"] = b64(wrapped[: len(wrapped) - 1 - cut % len(wrapped)])
    with pytest.raises(KeywrapError):
        unwrapped(packet)


@given(st.binary(min_size=32, max_size=32).filter(lambda key: key != KEK))
def test_another_key_never_opens(key: bytes) -> None:
    for packet in (gcm_packet(kek=key), ctr_packet(kek=key)):
        with pytest.raises(KeywrapError) as caught:
            unwrapped(packet)
        assert caught.value.__cause__ is None


@given(st.binary(max_size=600))
def test_what_was_wrapped_comes_back(options: bytes) -> None:
    opened = unwrapped(gcm_packet(options))
    assert reply_options(unwrap_reply(Secret(opened)).reveal()) == options
