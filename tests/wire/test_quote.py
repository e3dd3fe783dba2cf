"""The quote parser on recorded quotes, on built ones, and on bytes that are none."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import dcap_qvl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdx.errors import QuoteFormatError
from tdx.quote import Quote, parse_quote
from tdx.quote_layout import BODY_10, BODY_15, BODY_15_EXTENDED, HEADER, QE_REPORT
from tests.ports.fake_tsm import formed_quote

RECORDED_V4 = "trustee_v4_debug.bin"
RECORDED_V5 = "gotdx_v5_td15.bin"
DATA = bytes(range(64))


def recorded(vectors: Path) -> dict[str, Any]:
    quotes = json.loads((vectors / "tdx" / "expected.json").read_text())["quotes"]
    assert len(quotes) == 15
    return dict(quotes)


def fields_of(quote: Quote) -> dict[str, str]:
    body = dataclasses.asdict(quote.body)
    return {name: value.hex() for name, value in body.items() if value is not None}


def test_recorded_quotes_decode_to_the_recorded_values(shared_vectors: Path) -> None:
    for name, expected in recorded(shared_vectors).items():
        data = (shared_vectors / "tdx" / name).read_bytes()
        quote = parse_quote(data)
        header, section = quote.header, quote.section
        assert header.version == expected["version"], name
        assert header.attestation_key_type == expected["attestation_key_type"]
        assert header.tee_type == expected["tee_type"]
        assert header.qe_vendor_id.hex() == expected["qe_vendor_id"]
        assert header.user_data.hex() == expected["user_data"]
        assert fields_of(quote) == expected["body"], name
        assert len(data) - len(quote.raw) == expected["trailing_bytes"]
        assert section.qe is not None and section.pem_chain is not None
        assert section.qe.auth_data.hex() == expected["qe_auth_data"]
        report = {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in dataclasses.asdict(section.qe.report).items()
        }
        assert report == expected["qe_report"]
        assert not section.qe.report.debug
        assert section.pem_chain.count(b"-----BEGIN CERTIFICATE-----") == 3
        # The chain ends as PEM text does, with or without the NUL of the file.
        assert section.pem_chain.rstrip().endswith(b"-----END CERTIFICATE-----")


def test_signatures_of_recorded_quotes_cover_the_signed_message(shared_vectors: Path) -> None:
    """An independent check that the cuts are right: the recorded signature verifies over them."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    for name in recorded(shared_vectors):
        quote = parse_quote((shared_vectors / "tdx" / name).read_bytes())
        point = b"\x04" + quote.section.attestation_key
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        r, s = (int.from_bytes(quote.section.signature[i : i + 32], "big") for i in (0, 32))
        signature = utils.encode_dss_signature(r, s)
        key.verify(signature, quote.signed_message, ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize(
    ("name", "version", "body_type"),
    [
        ("quote_v4.bin", 4, 2),
        ("quote_v5_td10.bin", 5, 2),
        ("quote_v5_td15.bin", 5, 3),
        ("quote_v5_td15ex.bin", 5, 4),
    ],
)
def test_all_known_bodies(shared_vectors: Path, name: str, version: int, body_type: int) -> None:
    quote = parse_quote((shared_vectors / "tdx" / "synthetic" / name).read_bytes())
    assert (quote.header.version, quote.body_type) == (version, body_type)
    assert quote.body.report_data == DATA
    names = [b"mock %d" % n for n in range(4, 8)]
    assert quote.body.rtmrs == tuple(hashlib.sha384(n).digest() for n in names)
    assert (quote.body.mr_servicetd is None) == (body_type == 2)
    assert (quote.body.td_id is None) == (body_type != 4)


def test_an_sgx_quote_is_refused(shared_vectors: Path) -> None:
    data = (shared_vectors / "tdx" / "quotes" / "sgx_v3_occlum.bin").read_bytes()
    with pytest.raises(QuoteFormatError, match="version"):
        parse_quote(data)


def test_the_extended_body_agrees_with_an_outside_parser(shared_vectors: Path) -> None:
    """No real quote of body type 4 is public; dcap-qvl reads the same fields of a built one."""
    data = (shared_vectors / "tdx" / "synthetic" / "quote_v5_td15ex.bin").read_bytes()
    # Make every byte of the extension differ, so that a shifted field shows.
    start = 54 + BODY_15.size
    marked = bytearray(data)
    marked[start : 54 + BODY_15_EXTENDED.size] = bytes(range(1, 1 + 237))
    ours = parse_quote(bytes(marked)).body
    theirs = dcap_qvl.parse_quote(bytes(marked)).report
    assert isinstance(theirs, dcap_qvl.TdReport15Ex)
    assert ours.vmid == bytes([theirs.vmid])
    pairs = {
        "td_id": "td_id",
        "device_info_hash": "dev_info",
        "init_servicetd_hash": "init_service_td_hash",
        "init_servicetd_attributes": "init_service_td_attributes",
        "init_cpu_svn": "init_cpu_svn",
        "init_tee_tcb_svn": "init_tee_tcb_svn",
        "init_tee_fmspc": "init_tee_fmspc",
        "current_servicetd_hash": "cur_service_td_hash",
        "current_servicetd_attributes": "cur_service_td_attributes",
    }
    assert {name: getattr(ours, name) for name in pairs} == {
        name: getattr(theirs, theirs_name) for name, theirs_name in pairs.items()
    }


def test_a_body_of_another_size_than_its_type_says_is_refused(shared_vectors: Path) -> None:
    data = (shared_vectors / "tdx" / "synthetic" / "quote_v5_td15.bin").read_bytes()
    with pytest.raises(QuoteFormatError, match="body size at byte 50: expected 885, got 648"):
        parse_quote(data[:48] + b"\4" + data[49:])
    with pytest.raises(QuoteFormatError, match=r"body type at byte 48: .* got 5"):
        parse_quote(data[:48] + b"\5" + data[49:])


def test_layout_sizes_are_those_of_the_headers() -> None:
    assert (HEADER.size, BODY_10.size, BODY_15.size, QE_REPORT.size) == (48, 584, 648, 384)
    assert BODY_15_EXTENDED.size == 885
    assert {name: at for name, at, _ in BODY_10.offsets()}["report_data"] == 520


def test_a_built_quote_parses_and_its_tail_is_cut() -> None:
    quote = parse_quote(formed_quote(DATA) + b"tail")
    assert quote.raw == formed_quote(DATA)
    assert quote.body.report_data == DATA
    assert quote.body_type == 2
    assert not quote.body.debug


def patched(at: int, value: int, size: int) -> bytes:
    data = bytearray(formed_quote(DATA))
    data[at : at + size] = value.to_bytes(size, "little")
    return bytes(data)


SECTION = 636
OUTER = SECTION + 134
INNER_SIZE_AT = OUTER + 384 + 64 + 2 + 32 + 2


@pytest.mark.parametrize(
    ("data", "field"),
    [
        pytest.param(b"", "header", id="empty"),
        pytest.param(patched(0, 3, 2), "version", id="SGX version"),
        pytest.param(patched(0, 6, 2), "version", id="unknown version"),
        pytest.param(patched(2, 3, 2), "attestation key type", id="P-384"),
        pytest.param(patched(4, 0, 4), "TEE type", id="SGX"),
        pytest.param(formed_quote(DATA)[:700], "quote", id="cut"),
        pytest.param(patched(632, 2**32 - 1, 4), "signature data", id="section beyond end"),
        pytest.param(patched(632, 200, 4), "certification data size", id="section too small"),
        pytest.param(patched(SECTION + 128, 8, 2), "certification data type", id="outer type"),
        pytest.param(patched(SECTION + 128, 5, 2), "PEM chain", id="a chain that is none"),
        pytest.param(patched(SECTION + 130, 1, 4), "certification data size", id="outer size"),
        pytest.param(patched(OUTER + 448, 65535, 2), "QE authentication data", id="auth data"),
        pytest.param(
            patched(OUTER + 448, 30, 2), "inner certification data type", id="auth data shorter"
        ),
        pytest.param(
            patched(INNER_SIZE_AT - 2, 8, 2), "inner certification data type", id="inner type"
        ),
        pytest.param(
            patched(INNER_SIZE_AT - 2, 6, 2), "inner certification data type", id="nested twice"
        ),
        pytest.param(
            patched(INNER_SIZE_AT, 7, 4), "inner certification data size", id="inner size"
        ),
        pytest.param(patched(INNER_SIZE_AT + 4, 0, 1), "PEM chain", id="no PEM"),
    ],
)
def test_lying_fields_are_refused_by_name(data: bytes, field: str) -> None:
    with pytest.raises(QuoteFormatError) as caught:
        parse_quote(data)
    assert caught.value.field == field


def only_format_errors(data: bytes) -> None:
    try:
        quote = parse_quote(data)
    except QuoteFormatError:
        return
    assert data.startswith(quote.raw)
    assert quote.raw.startswith(quote.signed_message)


@given(st.binary(max_size=2048))
@settings(deadline=None)
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    only_format_errors(data)


@given(
    st.sampled_from([formed_quote(DATA)]),
    st.lists(st.tuples(st.integers(0, 1700), st.integers(0, 255)), max_size=8),
    st.integers(0, 1800),
)
@settings(max_examples=300, deadline=None)
def test_mutated_and_cut_quotes_raise_nothing_else(
    base: bytes, patches: list[tuple[int, int]], size: int
) -> None:
    data = bytearray(base)
    for at, value in patches:
        data[at % len(data)] = value
    only_format_errors(bytes(data))
    only_format_errors(bytes(data[:size]))


@pytest.mark.parametrize("name", [RECORDED_V4, RECORDED_V5])
def test_every_flipped_byte_and_every_cut_of_a_recorded_quote(
    shared_vectors: Path, name: str
) -> None:
    base = (shared_vectors / "tdx" / "quotes" / name).read_bytes()
    whole = len(parse_quote(base).raw)
    for at in range(whole):
        data = bytearray(base)
        data[at] ^= 0x80
        only_format_errors(bytes(data))
    for size in range(0, whole, 7):
        with pytest.raises(QuoteFormatError):
            parse_quote(base[:size])
