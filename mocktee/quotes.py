"""Builds TDX quotes, versions 4 and 5, signed under a mock authority.

Layout: Intel "TDX DCAP Quote Generation Library and Verification" (sgx_quote_4.h, sgx_quote_5.h).
Each structure is one ordered field table; offsets follow from it. The quoting enclave is played
here: its report binds the attestation key, the PCK key signs the report.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from mocktee.collateral import QE_ATTRIBUTES, QE_ISV_PROD_ID, QE_ISV_SVN, QE_MR_SIGNER
from mocktee.pki import MockPki, sign_raw
from mocktee.td import TdState

REPORT_DATA_BYTES: Final = 64
ECDSA_P256: Final = 2
TEE_TDX: Final = 0x81
QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
QE_USER_DATA: Final = b"mock tee qe id 1".ljust(20, b"\0")
QE_AUTH_DATA: Final = bytes(range(32))
PCK_CHAIN: Final = 5  # certification data: PEM chain
QE_REPORT_CERTIFICATION: Final = 6  # certification data: QE report and what it rests on
BODY_TD_15: Final = 3  # version 5 body descriptor: TD report body 1.5

HEADER_FIELDS: Final = {
    "version": 2,
    "attestation_key_type": 2,
    "tee_type": 4,
    "reserved": 4,
    "qe_vendor_id": 16,
    "user_data": 20,
}
BODY_FIELDS: Final = {
    "tee_tcb_svn": 16,
    "mr_seam": 48,
    "mrsigner_seam": 48,
    "seam_attributes": 8,
    "td_attributes": 8,
    "xfam": 8,
    "mr_td": 48,
    "mr_config_id": 48,
    "mr_owner": 48,
    "mr_owner_config": 48,
    "rtmr0": 48,
    "rtmr1": 48,
    "rtmr2": 48,
    "rtmr3": 48,
    "report_data": 64,
}
BODY_15_FIELDS: Final = BODY_FIELDS | {"tee_tcb_svn2": 16, "mr_servicetd": 48}
QE_REPORT_FIELDS: Final = {
    "cpu_svn": 16,
    "misc_select": 4,
    "reserved1": 28,
    "attributes": 16,
    "mr_enclave": 32,
    "reserved2": 32,
    "mr_signer": 32,
    "reserved3": 96,
    "isv_prod_id": 2,
    "isv_svn": 2,
    "reserved4": 60,
    "report_data": 64,
}


def build_quote_v4(pki: MockPki, report_data: bytes, td: TdState) -> bytes:
    """A version 4 quote over ``td`` as it is now. ``report_data`` is exactly 64 bytes."""
    signed = _header(4) + _pack(BODY_FIELDS, _body_values(report_data, td))
    return signed + _signature_section(pki, signed)


def build_quote_v5(pki: MockPki, report_data: bytes, td: TdState) -> bytes:
    """A version 5 quote with a TD 1.5 body and no service TD."""
    values = _body_values(report_data, td) | {
        "tee_tcb_svn2": td.tee_tcb_svn,
        "mr_servicetd": bytes(48),
    }
    body = _pack(BODY_15_FIELDS, values)
    signed = _header(5) + struct.pack("<HI", BODY_TD_15, len(body)) + body
    return signed + _signature_section(pki, signed)


def _pack(table: Mapping[str, int], values: Mapping[str, int | bytes]) -> bytes:
    """Lay values out in table order: integers little-endian, absent fields zero."""
    parts = []
    for name, size in table.items():
        value = values.get(name, 0)
        field = value.to_bytes(size, "little") if isinstance(value, int) else value
        if len(field) != size:
            raise ValueError(f"quote field {name}: {len(field)} bytes, expected {size}")
        parts.append(field)
    return b"".join(parts)


def _header(version: int) -> bytes:
    return _pack(
        HEADER_FIELDS,
        {
            "version": version,
            "attestation_key_type": ECDSA_P256,
            "tee_type": TEE_TDX,
            "qe_vendor_id": QE_VENDOR_ID,
            "user_data": QE_USER_DATA,
        },
    )


def _body_values(report_data: bytes, td: TdState) -> dict[str, int | bytes]:
    values: dict[str, int | bytes] = {
        "tee_tcb_svn": td.tee_tcb_svn,
        "mr_seam": td.mr_seam,
        "mrsigner_seam": td.mrsigner_seam,
        "seam_attributes": td.seam_attributes,
        "td_attributes": td.attributes,
        "xfam": td.xfam,
        "mr_td": td.mrtd,
        "mr_config_id": td.mrconfigid,
        "mr_owner": td.mrowner,
        "mr_owner_config": td.mrownerconfig,
        "report_data": report_data,
    }
    return values | {f"rtmr{index}": value for index, value in enumerate(td.rtmrs)}


def _signature_section(pki: MockPki, signed: bytes) -> bytes:
    """Length, signature over header and body, attestation key, QE report, PCK chain."""
    attestation_key = pki.keys["attestation"]
    public = _raw_public(attestation_key.public_key())
    qe_report = _qe_report(public)
    chain = pki.pck_chain_pem() + b"\0"  # real chains end in one NUL more often than not
    certification = (
        qe_report
        + sign_raw(pki.keys["pck"], qe_report)
        + struct.pack("<H", len(QE_AUTH_DATA))
        + QE_AUTH_DATA
        + struct.pack("<HI", PCK_CHAIN, len(chain))
        + chain
    )
    section = (
        sign_raw(attestation_key, signed)
        + public
        + struct.pack("<HI", QE_REPORT_CERTIFICATION, len(certification))
        + certification
    )
    return struct.pack("<I", len(section)) + section


def _qe_report(attestation_public: bytes) -> bytes:
    binding = hashlib.sha256(attestation_public + QE_AUTH_DATA).digest()
    return _pack(
        QE_REPORT_FIELDS,
        {
            "cpu_svn": bytes.fromhex("0202181a03ff00060000000000000000"),
            "attributes": QE_ATTRIBUTES,
            "mr_enclave": hashlib.sha256(b"mock quoting enclave").digest(),
            "mr_signer": QE_MR_SIGNER,
            "isv_prod_id": QE_ISV_PROD_ID,
            "isv_svn": QE_ISV_SVN,
            "report_data": binding.ljust(64, b"\0"),
        },
    )


def _raw_public(key: ec.EllipticCurvePublicKey) -> bytes:
    """x and y, big-endian, without the 0x04 prefix."""
    point = key.public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return point[1:]
