"""Collateral and root files, and verdicts on recorded quotes under Intel's root."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from mocktee.pki import MockPki
from tdx.quote import parse_quote
from tdx.verify import CheckName, State, TcbLevel, Trust, parse_collateral, parse_root, verify_quote
from tdx.verify.errors import CollateralFormatError, RootFormatError

PKI = MockPki.create(now=datetime(2026, 6, 1, tzinfo=UTC))
GOOD = PKI.collateral()


def changed(**members: object) -> bytes:
    return json.dumps(GOOD | members).encode()


def info(**members: object) -> str:
    return json.dumps(json.loads(GOOD["tcb_info"]) | members)


def test_platform_and_windows_are_read() -> None:
    found = parse_collateral(json.dumps(GOOD).encode())
    assert found.fmspc.hex() == "b0c06f000000"
    assert [window.document for window in found.windows] == [
        "TCB info", "QE identity", "root CA CRL", "PCK CRL",
    ]  # fmt: skip
    assert found.expires == datetime(2026, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        pytest.param(b"", "file", id="empty"),
        pytest.param(b"\xff", "file", id="no UTF-8"),
        pytest.param(b"[]", "file", id="array"),
        pytest.param(b"[" * 100_000, "file", id="deep"),
        pytest.param(b" " * (1024 * 1024 + 1), "file", id="too large"),
        pytest.param(b"{}", "file", id="no members"),
        pytest.param(changed(tcb_info="{"), "tcb_info", id="TCB info is no JSON"),
        pytest.param(changed(tcb_info="\ud800"), "file", id="lone surrogate"),
        pytest.param(changed(tcb_info=info(issueDate="never")), "tcb_info", id="no date"),
        pytest.param(changed(tcb_info=info(issueDate="2026-01-01T00:00:00")), "tcb_info",
                     id="no zone"),
        pytest.param(changed(tcb_info=info(fmspc="xy")), "tcb_info.fmspc", id="FMSPC"),
        pytest.param(changed(root_ca_crl="00"), "root_ca_crl", id="no CRL"),
        pytest.param(changed(pck_crl="zz"), "pck_crl", id="no hex"),
    ],
)  # fmt: skip
def test_other_collateral_is_refused(content: bytes, part: str) -> None:
    with pytest.raises(CollateralFormatError) as caught:
        parse_collateral(content)
    assert caught.value.part == part
    assert caught.value.hint


@given(st.binary(max_size=64))
def test_arbitrary_bytes_raise_nothing_else(content: bytes) -> None:
    with pytest.raises(CollateralFormatError):
        parse_collateral(content)
    with pytest.raises(RootFormatError):
        parse_root(content)


def test_a_root_is_pem_or_der() -> None:
    root = x509.load_der_x509_certificate(PKI.root_ca_der)
    pem = root.public_bytes(Encoding.PEM)
    assert parse_root(PKI.root_ca_der) == PKI.root_ca_der
    assert parse_root(pem) == PKI.root_ca_der
    with pytest.raises(RootFormatError, match="2 certificates"):
        parse_root(pem * 2)
    with pytest.raises(RootFormatError, match="larger"):
        parse_root(b"\0" * 20_000)


@pytest.mark.parametrize(
    ("name", "collateral", "seconds", "level", "broken"),
    [
        pytest.param("phala_v4", "phala_v4_collateral", 1750346163, TcbLevel.UP_TO_DATE, set(),
                     id="in force"),
        pytest.param("phala_v4", "phala_v4_collateral", 1752919236, None,
                     {CheckName.COLLATERAL_TIME, CheckName.DCAP}, id="a second late"),
        pytest.param("phala_v5_td15_outdated", "phala_v5_outdated_collateral", 1771430331, None,
                     {CheckName.DCAP}, id="no level matches"),
        pytest.param("trustee_v4_debug", "phala_v4_collateral", 1750346163, None,
                     {CheckName.DEBUG, CheckName.COLLATERAL_PLATFORM, CheckName.DCAP}, id="debug"),
        pytest.param("cctrusted_v4_preprod", "phala_v4_collateral", 1750346163, None,
                     {CheckName.PCK_CHAIN, CheckName.COLLATERAL_PLATFORM, CheckName.DCAP},
                     id="root of the same name"),
    ],
)  # fmt: skip
def test_recorded_quotes_under_intels_root(
    shared_vectors: Path,
    *,
    name: str,
    collateral: str,
    seconds: int,
    level: TcbLevel | None,
    broken: set[CheckName],
) -> None:
    folder = shared_vectors / "tdx"
    trust = Trust(
        parse_root((folder / "collateral" / "intel_sgx_root_ca.der").read_bytes()),
        parse_collateral((folder / "collateral" / f"{collateral}.json").read_bytes()),
    )
    quote = parse_quote((folder / "quotes" / f"{name}.bin").read_bytes())
    verdict = verify_quote(quote, trust, now=datetime.fromtimestamp(seconds, UTC))
    assert verdict.level is level
    assert {check.name for check in verdict.failed} == broken


def test_signatures_of_recorded_quotes_agree_with_the_record(shared_vectors: Path) -> None:
    """Link by link, on every real quote, against what was established when it was recorded."""
    folder = shared_vectors / "tdx"
    root = parse_root((folder / "collateral" / "intel_sgx_root_ca.der").read_bytes())
    collateral = parse_collateral((folder / "collateral/phala_v4_collateral.json").read_bytes())
    recorded = json.loads((folder / "expected.json").read_text())["quotes"]
    for name, expected in recorded.items():
        quote = parse_quote((folder / name).read_bytes())
        now = datetime(2026, 6, 1, tzinfo=UTC)
        verdict = verify_quote(quote, Trust(root, collateral), now=now)
        links = {
            "quote_signature": CheckName.QUOTE_SIGNATURE,
            "qe_report_data": CheckName.QE_BINDING,
            "qe_report_signature": CheckName.QE_SIGNATURE,
        }
        for key, check in links.items():
            assert (verdict.check(check).state is State.PASSED) == expected["checks"][key], name
        passed = verdict.check(CheckName.PCK_CHAIN).state is State.PASSED
        assert passed == ("preprod" not in name), verdict.check(CheckName.PCK_CHAIN)


def test_a_certificate_that_is_no_root_is_refused_before_it_reaches_the_verifier() -> None:
    leaf = PKI.pck_chain_pem().split(b"-----END CERTIFICATE-----")[0] + b"-----END CERTIFICATE-----"
    with pytest.raises(RootFormatError, match="not self-signed"):
        parse_root(leaf)
