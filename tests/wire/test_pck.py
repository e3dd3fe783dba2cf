"""The SGX extension of PCK leaves: recorded ones, the mock's, and bytes that are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.der import integer, object_identifier, octet_string, sequence
from mocktee.platform import SGX_EXTENSION_OID, Platform
from tdx import der
from tdx.errors import CertificateFormatError
from tdx.pck import load_chain, parse_pck_extension, pck_extension
from tdx.quote import parse_quote


def test_recorded_leaves_decode_to_the_recorded_values(shared_vectors: Path) -> None:
    quotes = json.loads((shared_vectors / "tdx" / "expected.json").read_text())["quotes"]
    for name, expected in quotes.items():
        pem = parse_quote((shared_vectors / "tdx" / name).read_bytes()).section.pem_chain
        assert pem is not None
        leaf, _, root = load_chain(pem)
        found = pck_extension(leaf)
        pck = expected["pck"]
        assert found.ppid.hex() == pck["ppid"], name
        assert found.cpu_svn.hex() == pck["cpu_svn"]
        assert found.pce_svn == pck["pce_svn"]
        assert found.pce_id.hex() == pck["pce_id"]
        assert found.fmspc.hex() == pck["fmspc"]
        assert found.sgx_type == pck["sgx_type"]
        assert found.platform_instance_id is not None
        assert found.platform_instance_id.hex() == pck["platform_instance_id"]
        assert bytes(found.components) == found.cpu_svn
        assert f"{root.serial_number:x}" == pck["root_serial"]


def test_the_mock_platform_reads_back() -> None:
    platform = Platform(dynamic_platform=True, components=bytes([255] * 16))
    found = parse_pck_extension(platform.sgx_extension())
    assert (found.ppid, found.fmspc, found.pce_svn) == (platform.ppid, platform.fmspc, 13)
    assert found.components == (255,) * 16
    assert (found.dynamic_platform, found.cached_keys, found.smt_enabled) == (True, False, False)


def member(suffix: str, value: bytes) -> bytes:
    return sequence(object_identifier(f"{SGX_EXTENSION_OID}.{suffix}"), value)


WHOLE = Platform().sgx_extension()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(WHOLE[:-1], id="cut"),
        pytest.param(WHOLE + b"\0\0", id="more"),
        pytest.param(sequence(member("1", octet_string(bytes(16)))), id="members missing"),
        pytest.param(sequence(member("1", octet_string(b""))), id="empty PPID"),
        pytest.param(sequence(integer(1)), id="no pairs"),
        pytest.param(sequence(sequence(integer(1), integer(2))), id="no names"),
        pytest.param(sequence(*[member("1", octet_string(bytes(16)))] * 2), id="twice"),
        pytest.param(sequence(member("1.2.3", integer(1))), id="too deep"),
        pytest.param(b"\x30\x80\0\0", id="indefinite length"),
        pytest.param(b"\x30\x84\xff\xff\xff\xff", id="length of 4 GiB"),
    ],
)
def test_other_extensions_are_refused(data: bytes) -> None:
    with pytest.raises(CertificateFormatError):
        parse_pck_extension(data)


@given(st.binary(max_size=128))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    with pytest.raises(CertificateFormatError):
        parse_pck_extension(data)


@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_damaged_extensions_raise_nothing_else(at: int, value: int) -> None:
    data = bytearray(WHOLE)
    data[at] = value
    try:
        parse_pck_extension(bytes(data))
    except CertificateFormatError:
        return


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_elements_read_what_the_mock_writes(values: list[bytes]) -> None:
    written = b"".join(octet_string(value) for value in values)
    assert list(der.elements(written)) == [(der.OCTET_STRING, value) for value in values]


def test_chains_are_bounded_and_must_parse() -> None:
    with pytest.raises(CertificateFormatError, match="expected at most 8"):
        load_chain(b"-----BEGIN CERTIFICATE-----" * 9)
    with pytest.raises(CertificateFormatError, match="chain"):
        load_chain(b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n")
