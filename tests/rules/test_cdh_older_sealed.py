"""Sealed secrets as tools and agents of past releases wrote and passed them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import SealedFormatError
from cdh.sealed.textual import decode_section
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri
from secrecy import Secret

# "~~~???" takes characters 62 and 63 of the alphabet, which are those that differ.
NAME = "kbs:///default/type/tag"
PAYLOAD = json.dumps(
    {
        "version": "0.1.0",
        "type": "vault",
        "name": NAME,
        "provider": "kbs",
        "provider_settings": {},
        "annotations": {"note": "~~~???>>>"},
    }
).encode()


@dataclass
class Resources:
    """Stands for the key broker."""

    asked: list[str] = field(default_factory=list)

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked.append(str(uri))
        return Secret(b"the value")


def _standard(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("encode", [_standard, _url])
@pytest.mark.parametrize("prefix", ["", "sealed.", "sealed.sealed."])
@pytest.mark.parametrize("end", ["", "\n"])
async def test_both_alphabets_with_and_without_prefix(
    encode: Callable[[bytes], str], prefix: str, end: str
) -> None:
    text = f"{prefix}fakejwsheader.{encode(PAYLOAD)}.fakesignature{end}"
    resources = Resources()
    opened = await Unsealer(resources, None).unseal(text.encode())
    assert opened.reveal() == b"the value"
    assert resources.asked == [NAME]


def test_the_sample_needs_both_alphabets() -> None:
    assert {"+", "/", "="} & set(_standard(PAYLOAD)) and _standard(PAYLOAD) != _url(PAYLOAD)


@given(st.binary(max_size=64))
def test_a_payload_in_either_alphabet_is_the_same(data: bytes) -> None:
    assert decode_section("payload", _standard(data)) == data
    assert decode_section("payload", _url(data)) == data


@pytest.mark.parametrize(
    "text", ["YQ=", "YQ===", "YR==", "+", "a+_=", "YWI=\n", " YWI=", "=", "Y=Q=", "+/8", "\u00e9="]
)
def test_lax_texts_are_refused(text: str) -> None:
    with pytest.raises(SealedFormatError):
        decode_section("payload", text)


@pytest.mark.parametrize("part", ["header", "signature"])
@pytest.mark.parametrize("text", ["YQ==", "+/+/"])
def test_header_and_signature_have_one_text_only(part: str, text: str) -> None:
    with pytest.raises(SealedFormatError):
        decode_section(part, text)
