"""The mock's quotes, judged from outside by dcap-qvl under the mock root and under Intel's."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dcap_qvl
import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from mocktee.der import integer, object_identifier
from mocktee.errors import PkiStateError
from mocktee.pki import MockPki
from mocktee.platform import SGX_EXTENSION_OID, Platform
from mocktee.quotes import (
    BODY_15_FIELDS,
    BODY_FIELDS,
    HEADER_FIELDS,
    build_quote_v4,
    build_quote_v5,
)
from mocktee.td import DEBUG, SEPT_VE_DISABLE, TdState

REPORT_DATA = bytes(range(64))
NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKI = MockPki.create(now=NOW)

# Offsets in a version 4 quote, from Intel's sgx_quote_4.h.
HEADER, BODY, SIGNATURE, KEY, CERTIFICATION = 0, 48, 636, 700, 764
QE_REPORT, QE_SIGNATURE, QE_AUTH = 770, 1154, 1220
PEM = 1258

Build = Callable[[MockPki, bytes, TdState], bytes]


def verify(
    quote: bytes,
    *,
    pki: MockPki = PKI,
    collateral: dict[str, str] | None = None,
    root: bytes | None = None,
    now: datetime = NOW,
) -> str:
    documents = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(collateral or pki.collateral()))
    moment = int(now.timestamp())
    verdict = dcap_qvl.verify_with_root_ca(quote, documents, root or pki.root_ca_der, moment)
    return str(verdict.status)


def flipped(quote: bytes, offset: int) -> bytes:
    changed = bytearray(quote)
    changed[offset] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("build", [build_quote_v4, build_quote_v5])
def test_quote_is_up_to_date_under_the_mock_root(build: Build) -> None:
    assert verify(build(PKI, REPORT_DATA, TdState.booted())) == "UpToDate"


def test_fields_are_where_a_standard_parser_looks() -> None:
    td = TdState.booted(mrconfigid=b"\x07" * 48)
    td.extend(3, b"\x01" * 48)
    quote = build_quote_v4(PKI, REPORT_DATA, td)
    parsed = dcap_qvl.parse_quote(quote)
    report = parsed.report
    assert isinstance(report, dcap_qvl.TdReport10)
    assert report.report_data == REPORT_DATA
    assert (report.mr_td, report.mr_config_id) == (td.mrtd, td.mrconfigid)
    assert [report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3] == td.rtmrs
    assert parsed.header.version == 4
    assert parsed.fmspc() == Platform().fmspc.hex().upper()
    (length,) = struct.unpack_from("<I", quote, 632)
    assert 636 + length == len(quote)


@pytest.mark.parametrize("build", [build_quote_v4, build_quote_v5])
def test_default_root_refuses(build: Build) -> None:
    quote = build(PKI, REPORT_DATA, TdState.booted())
    documents = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(PKI.collateral()))
    with pytest.raises(ValueError):
        dcap_qvl.verify(quote, documents, int(NOW.timestamp()))


@pytest.mark.parametrize(
    "offset",
    [
        pytest.param(HEADER + 28, id="header"),
        pytest.param(BODY + 136, id="mrtd"),
        pytest.param(BODY + 328, id="rtmr0"),
        pytest.param(BODY + 520, id="report-data"),
        pytest.param(SIGNATURE + 5, id="signature-r"),
        pytest.param(SIGNATURE + 40, id="signature-s"),
        pytest.param(KEY + 3, id="attestation-key"),
        pytest.param(CERTIFICATION + 2, id="certification-size"),
        pytest.param(QE_REPORT + 64, id="qe-mrenclave"),
        pytest.param(QE_REPORT + 320, id="qe-report-data"),
        pytest.param(QE_SIGNATURE + 9, id="qe-signature"),
        pytest.param(QE_AUTH, id="qe-auth-data"),
        pytest.param(PEM + 100, id="leaf-certificate"),
    ],
)
def test_each_signed_part_is_covered(offset: int) -> None:
    quote = build_quote_v4(PKI, REPORT_DATA, TdState.booted())
    with pytest.raises(ValueError):
        verify(flipped(quote, offset))


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(SEPT_VE_DISABLE | DEBUG, id="debug"),
        pytest.param(0, id="without-sept-ve-disable"),
    ],
)
def test_soundly_signed_but_untrusted_attributes_are_refused(attributes: int) -> None:
    td = TdState.booted()
    td.attributes = attributes
    with pytest.raises(ValueError):
        verify(build_quote_v4(PKI, REPORT_DATA, td))


def test_another_mock_authority_is_not_trusted() -> None:
    other = MockPki.create(now=NOW)
    quote = build_quote_v4(other, REPORT_DATA, TdState.booted())
    with pytest.raises(ValueError):
        verify(quote, root=PKI.root_ca_der)


@pytest.mark.parametrize("status", ["OutOfDate", "SWHardeningNeeded"])
def test_tcb_status_is_what_the_collateral_says(status: str) -> None:
    pki = MockPki.create(now=NOW, tcb_status=status)
    assert verify(build_quote_v4(pki, REPORT_DATA, TdState.booted()), pki=pki) == status


@pytest.mark.parametrize("document", ["tcb_info", "qe_identity"])
def test_collateral_signature_covers_the_exact_text(document: str) -> None:
    collateral = PKI.collateral()
    collateral[document] = collateral[document].replace(":", ": ", 1)
    with pytest.raises(ValueError):
        verify(build_quote_v4(PKI, REPORT_DATA, TdState.booted()), collateral=collateral)


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(NOW - timedelta(days=2), id="before"),
        pytest.param(NOW + timedelta(days=31), id="after"),
    ],
)
def test_collateral_has_a_window(moment: datetime) -> None:
    with pytest.raises(ValueError):
        verify(build_quote_v4(PKI, REPORT_DATA, TdState.booted()), now=moment)


def test_report_data_of_another_length_is_misuse() -> None:
    with pytest.raises(ValueError, match="report_data"):
        build_quote_v4(PKI, bytes(63), TdState.booted())


def test_leaf_has_six_extensions_in_the_usual_order() -> None:
    leaf = PKI.certificates["pck"]
    oids = [extension.oid.dotted_string for extension in leaf.extensions]
    assert oids == [
        "2.5.29.35",
        "2.5.29.31",
        "2.5.29.14",
        "2.5.29.15",
        "2.5.29.19",
        SGX_EXTENSION_OID,
    ]
    assert len(Platform().sgx_extension()) == 554  # bytes, as in real leaves
    names = leaf.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
    assert [name.value for name in names] == ["Mock TEE"]


def test_saved_authority_loads_and_keeps_its_keys_private(tmp_path: Path) -> None:
    PKI.save(tmp_path / "pki")
    loaded = MockPki.load(tmp_path / "pki")
    assert loaded.root_ca_der == PKI.root_ca_der
    assert loaded.collateral() == PKI.collateral()
    assert verify(build_quote_v4(loaded, REPORT_DATA, TdState.booted())) == "UpToDate"
    keys = list((tmp_path / "pki").glob("*.key"))
    assert len(keys) == 5
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


@pytest.mark.parametrize("damage", ["root-ca.key", "pck.der", "collateral.json"])
def test_damaged_authority_is_refused(tmp_path: Path, damage: str) -> None:
    PKI.save(tmp_path)
    (tmp_path / damage).write_bytes(b"\xff not it")
    with pytest.raises(PkiStateError):
        MockPki.load(tmp_path)
    (tmp_path / damage).unlink()
    with pytest.raises(PkiStateError):
        MockPki.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "build", "prefix", "table"),
    [
        ("quote_v4.bin", build_quote_v4, 0, BODY_FIELDS),
        ("quote_v5_td15.bin", build_quote_v5, 6, BODY_15_FIELDS),
    ],
)
def test_layout_agrees_with_recorded_synthetic_quotes(
    shared_vectors: Path, name: str, build: Build, prefix: int, table: dict[str, int]
) -> None:
    """Same header, descriptor and lengths as quotes that two verifiers accept."""
    recorded = (shared_vectors / "tdx" / "synthetic" / name).read_bytes()
    ours = build(PKI, REPORT_DATA, TdState.booted())
    header = sum(HEADER_FIELDS.values())
    body = header + prefix + sum(table.values())
    assert ours[:12] == recorded[:12]
    assert ours[header : header + prefix] == recorded[header : header + prefix]
    for quote in (ours, recorded):
        key = quote[body + 68 : body + 132]
        outer, size = struct.unpack_from("<HI", quote, body + 132)
        qe_report = quote[body + 138 : body + 522]
        auth = quote[body + 588 : body + 620]
        assert outer == 6
        assert struct.unpack_from("<I", quote, body)[0] == 134 + size
        assert qe_report[320:352] == hashlib.sha256(key + auth).digest()


@given(st.integers(min_value=0, max_value=1 << 64))
def test_der_integers_read_back(value: int) -> None:
    encoded = integer(value)
    assert encoded[0] == 2 and encoded[1] == len(encoded) - 2
    assert int.from_bytes(encoded[2:], "big", signed=True) == value


@given(st.lists(st.integers(min_value=0, max_value=1 << 40), max_size=8))
def test_der_object_identifiers_read_back(arcs: list[int]) -> None:
    dotted = ".".join(str(arc) for arc in (1, 2, *arcs))
    content = object_identifier(dotted)[2:]
    values, current = [], 0
    for octet in content[1:]:
        current = current << 7 | octet & 0x7F
        if not octet & 0x80:
            values.append(current)
            current = 0
    assert content[0] == 42 and values == arcs
