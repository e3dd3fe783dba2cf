"""Certification data of all seven types, on both levels of a quote."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.certification import (
    CertificateChain,
    Certification,
    LeafCertificate,
    PlatformIdentity,
    PlatformManifest,
    QeCertification,
    parse_certification,
)
from tdx.cursor import Cursor
from tdx.description import describe_quote
from tdx.errors import QuoteFormatError
from tdx.quote import parse_quote
from tests.ports.fake_tsm import formed_quote

PEM = b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n"
PLATFORM = bytes(range(16)) + b"\x0b\0" + b"\1\2"
SECTION = 636  # offset in a version 4 quote


def framed(kind: int, data: bytes) -> bytes:
    return struct.pack("<HI", kind, len(data)) + data


def with_report(inner: bytes) -> bytes:
    report = bytes(384)
    return framed(6, report + bytes(64) + struct.pack("<H", 32) + bytes(32) + inner)


def parsed(data: bytes) -> Certification:
    return parse_certification(Cursor(data, 0, len(data)))


def in_quote(certification: bytes) -> bytes:
    """A version 4 quote with this certification data."""
    base = formed_quote(bytes(64))
    section = base[SECTION : SECTION + 128] + certification
    return (base[:632] + struct.pack("<I", len(section)) + section).ljust(1100, b"\0")


KINDS = [
    pytest.param(1, b"p" * 16 + PLATFORM, PlatformIdentity, id="plain PPID"),
    pytest.param(2, b"p" * 256 + PLATFORM, PlatformIdentity, id="RSA-2048"),
    pytest.param(3, b"p" * 384 + PLATFORM, PlatformIdentity, id="RSA-3072"),
    pytest.param(4, b"leaf", LeafCertificate, id="leaf"),
    pytest.param(5, PEM + b"\0", CertificateChain, id="chain"),
    pytest.param(7, b"manifest", PlatformManifest, id="manifest"),
]


@pytest.mark.parametrize(("kind", "data", "expected"), KINDS)
def test_each_type_parses_on_both_levels(kind: int, data: bytes, expected: type) -> None:
    outer = parsed(framed(kind, data))
    assert isinstance(outer, expected)
    nested = parsed(with_report(framed(kind, data)))
    assert isinstance(nested, QeCertification)
    assert nested.nested == outer
    assert nested.kind == 6


@pytest.mark.parametrize(("kind", "data", "expected"), KINDS)
def test_each_type_is_described_inside_a_quote(kind: int, data: bytes, expected: type) -> None:
    del expected
    plain = parse_quote(in_quote(framed(kind, data)))
    assert plain.section.qe is None
    certification = describe_quote(plain)["certification"]
    assert isinstance(certification, dict)
    assert certification["type"] == kind
    quote = parse_quote(in_quote(with_report(framed(kind, data))))
    assert quote.section.qe is not None
    assert (quote.section.pem_chain is None) == (kind != 5)
    described = describe_quote(quote)["certification"]
    assert isinstance(described, dict)
    assert described["nested"] == {
        key: value
        for key, value in certification.items()
        if key not in {"signature", "attestation_key"}
    }


def test_platform_identity_fields() -> None:
    found = parsed(framed(3, b"p" * 384 + PLATFORM))
    assert found == PlatformIdentity(3, b"p" * 384, bytes(range(16)), 11, 0x0201)


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(framed(0, b""), "certification data type", id="type 0"),
        pytest.param(framed(8, b""), "certification data type", id="type 8"),
        pytest.param(framed(1, b"p" * 35), "certification data", id="short PPID"),
        pytest.param(framed(2, b"p" * 277), "certification data", id="long ciphertext"),
        pytest.param(framed(4, b""), "PCK leaf", id="no leaf"),
        pytest.param(framed(5, b"x" + PEM), "PEM chain", id="no PEM"),
        pytest.param(framed(5, PEM + b"\0\0"), "PEM chain", id="two NULs"),
        pytest.param(framed(5, PEM) + b"x", "certification data size", id="byte left"),
        pytest.param(framed(7, b"")[:-1], "certification data size", id="cut size"),
        pytest.param(with_report(with_report(framed(5, PEM))), "inner certification data type",
                     id="nested twice"),
        pytest.param(framed(6, bytes(400)), "QE report signature", id="cut report"),
    ],
)  # fmt: skip
def test_others_are_refused_by_name(data: bytes, field: str) -> None:
    with pytest.raises(QuoteFormatError) as caught:
        parsed(data)
    assert caught.value.field == field


@given(st.integers(0, 9), st.binary(max_size=600), st.booleans())
def test_arbitrary_content_raises_nothing_else(kind: int, data: bytes, nested: bool) -> None:
    whole = with_report(framed(kind, data)) if nested else framed(kind, data)
    try:
        found = parsed(whole)
    except QuoteFormatError:
        return
    assert found.kind in {kind, 6}
