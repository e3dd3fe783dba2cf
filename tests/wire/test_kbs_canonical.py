"""RFC 8785 for what is hashed; strict JSON and base64url for what a peer sends."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs.canonical import Canonical, canonical_json
from kbs.peer_json import PeerTextError, decode_base64url, decode_object, encode_base64url

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
CANONICAL: st.SearchStrategy[Canonical] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def test_the_value_that_trustee_tests_its_own_hashing_with() -> None:
    bound = canonical_json({"b": 1, "a": "test", "c": {"d": "e"}})
    assert hashlib.sha384(bound).hexdigest() == (
        "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c"
        "4597480a186427c813ca941da78870c3"
    )


def test_the_sorting_example_of_rfc_8785() -> None:
    # RFC 8785 3.2.3: UTF-16 order puts the astral smiley before U+FB33.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    assert list(json.loads(canonical_json(dict.fromkeys(names)))) == [
        "\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33",
    ]  # fmt: skip


def test_the_string_example_of_rfc_8785() -> None:
    text = "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"
    assert canonical_json(text) == '"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()


@given(CANONICAL)
def test_canonical_json_is_json_and_canonical(value: Canonical) -> None:
    once = canonical_json(value)
    assert canonical_json(json.loads(once)) == once


@pytest.mark.parametrize(
    "value", [2**53, -(2**53), "\ud800", {"\udc00": 1}], ids=["big", "small", "surrogate", "name"]
)
def test_what_has_no_canonical_form_is_refused(value: Canonical) -> None:
    with pytest.raises(ValueError):
        canonical_json(value)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(b'{"a":1,"a":1}', "twice", id="duplicate member"),
        pytest.param(b'{"x":[{"a":1,"b":2,"a":3}]}', "twice", id="duplicate deep inside"),
        pytest.param(b'{"a":1,"\\u0061":2}', "twice", id="duplicate by escape"),
        pytest.param(b"[1]", "object", id="array"),
        pytest.param(b"null", "object", id="null"),
        pytest.param(b"", "not JSON", id="empty"),
        pytest.param(b'{"a":1} x', "not JSON", id="trailing text"),
        pytest.param(b'{"a":NaN}', "NaN", id="NaN"),
        pytest.param(b'{"a":-Infinity}', "NaN", id="minus infinity"),
        pytest.param(b'{"a":"\xff"}', "UTF-8", id="not UTF-8"),
        pytest.param('{"a":1}'.encode("utf-16"), "UTF-8", id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf{}", "not JSON", id="byte order mark"),
        pytest.param(b'{"a":' + b"[" * 100_000, "deep", id="deep nesting"),
        pytest.param(b'{"a":' + b"1" * 10_000 + b"}", "not JSON", id="number of 10000 digits"),
    ],
)
def test_peer_json_refuses(body: bytes, problem: str) -> None:
    with pytest.raises(PeerTextError, match=problem):
        decode_object(body)


@given(st.binary(max_size=200) | TEXT.map(str.encode))
def test_any_bytes_are_an_object_or_our_error(body: bytes) -> None:
    with suppress(PeerTextError):
        assert isinstance(decode_object(body), dict)


@given(st.binary(max_size=100))
def test_base64url_round_trip(data: bytes) -> None:
    text = encode_base64url(data)
    assert decode_base64url(text) == data
    assert text == base64.urlsafe_b64encode(data).decode().rstrip("=")


@given(st.text("ABab01-_+/= \n", max_size=8))
def test_base64url_has_one_spelling_per_value(text: str) -> None:
    with suppress(PeerTextError):
        assert encode_base64url(decode_base64url(text)) == text


@pytest.mark.parametrize("text", ["QQ==", "QQ=", "Q", "QR", "QUF", "a+b_", "a/b_", " QQ", "QQ\n"])
def test_base64url_refuses_other_spellings(text: str) -> None:
    with pytest.raises(PeerTextError):
        decode_base64url(text)
