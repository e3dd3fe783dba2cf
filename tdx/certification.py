"""Certification data of a quote: bytes to one frozen value for each of the seven types.

Parsing only. Type 6 holds the QE report and, nested, certification data of another type; it
cannot be nested itself. Source: Intel DCAP ``sgx_quote_3.h`` and ``sgx_quote_4.h``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tdx.cursor import Cursor
from tdx.errors import QuoteFormatError
from tdx.quote_layout import (
    CERTIFICATION_NAMES,
    PCK_CHAIN,
    PCK_LEAF,
    PLATFORM_MANIFEST,
    PPID_LAYOUTS,
    QE_REPORT,
    QE_REPORT_DATA,
    SIGNATURE_BYTES,
)

PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
NESTED: Final = CERTIFICATION_NAMES.keys() - {QE_REPORT_DATA}


@dataclass(frozen=True, slots=True)
class PlatformIdentity:
    """Types 1 to 3: which platform signed; its certificate has to be looked up."""

    kind: int
    ppid: bytes  # 16 bytes in the clear (type 1), or RSA-OAEP ciphertext of 256 or 384 bytes
    cpu_svn: bytes
    pce_svn: int
    pce_id: int


@dataclass(frozen=True, slots=True)
class LeafCertificate:
    """Type 4: the PCK leaf alone, as it stands in the quote."""

    kind: int
    certificate: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CertificateChain:
    """Type 5: PEM certificates, leaf first, without the final NUL that some quotes carry."""

    kind: int
    pem: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PlatformManifest:
    """Type 7: opaque; meant for a registration service."""

    kind: int
    manifest: bytes = field(repr=False)


NestedCertification = PlatformIdentity | LeafCertificate | CertificateChain | PlatformManifest


@dataclass(frozen=True, slots=True)
class QeReport:
    """The quoting enclave's SGX report. Its report data binds the attestation key."""

    cpu_svn: bytes
    misc_select: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes

    @property
    def debug(self) -> bool:
        """Bit 1 of the enclave attributes: the host can read this enclave's keys."""
        return bool(self.attributes[0] & 2)


@dataclass(frozen=True, slots=True)
class QeCertification:
    """Type 6: the QE report, its signature by the PCK key, and what that key rests on."""

    kind: int
    report: QeReport
    report_bytes: bytes = field(repr=False)
    signature: bytes = field(repr=False)
    auth_data: bytes
    nested: NestedCertification


Certification = QeCertification | NestedCertification


def parse_certification(cursor: Cursor) -> Certification:
    """Parse type, size and data; they must fill the cursor's window exactly.

    Raises :class:`QuoteFormatError`, on an unknown type too.
    """
    kind = cursor.kind("certification data type", 2, CERTIFICATION_NAMES, "1 to 7")
    cursor.number("certification data size", 4, expected=cursor.left - 4)
    if kind != QE_REPORT_DATA:
        return _nested(cursor, kind)
    report_bytes = cursor.take("QE report", QE_REPORT.size)
    signature = cursor.take("QE report signature", SIGNATURE_BYTES)
    size = cursor.number("QE authentication data size", 2)
    auth_data = cursor.take("QE authentication data", size)
    inner = cursor.kind("inner certification data type", 2, NESTED, "1 to 5 or 7")
    cursor.number("inner certification data size", 4, expected=cursor.left - 4)
    return QeCertification(
        kind=kind,
        report=_qe_report(report_bytes),
        report_bytes=report_bytes,
        signature=signature,
        auth_data=auth_data,
        nested=_nested(cursor, inner),
    )


def _nested(cursor: Cursor, kind: int) -> NestedCertification:
    start = cursor.at
    data = cursor.take("certification data", cursor.left)
    if kind == PCK_CHAIN:
        return CertificateChain(kind, _pem_chain(data, start))
    if kind == PCK_LEAF:
        if not data:
            raise QuoteFormatError("PCK leaf", start, expected="a certificate", got="no bytes")
        return LeafCertificate(kind, data)
    if kind == PLATFORM_MANIFEST:
        return PlatformManifest(kind, data)
    layout = PPID_LAYOUTS[kind]
    if len(data) != layout.size:
        expected = f"{layout.size} bytes for {CERTIFICATION_NAMES[kind]}"
        raise QuoteFormatError("certification data", start, expected=expected, got=str(len(data)))
    fields = layout.cut(data)
    return PlatformIdentity(
        kind,
        ppid=fields["ppid"],
        cpu_svn=fields["cpu_svn"],
        pce_svn=int.from_bytes(fields["pce_svn"], "little"),
        pce_id=int.from_bytes(fields["pce_id"], "little"),
    )


def _qe_report(data: bytes) -> QeReport:
    fields = QE_REPORT.cut(data)
    return QeReport(
        cpu_svn=fields["cpu_svn"],
        misc_select=fields["misc_select"],
        attributes=fields["attributes"],
        mr_enclave=fields["mr_enclave"],
        mr_signer=fields["mr_signer"],
        isv_prod_id=int.from_bytes(fields["isv_prod_id"], "little"),
        isv_svn=int.from_bytes(fields["isv_svn"], "little"),
        report_data=fields["report_data"],
    )


def _pem_chain(data: bytes, start: int) -> bytes:
    """Return the chain. One final NUL is part of some quotes and not of the PEM text."""
    chain = data.removesuffix(b"\0")
    if not chain.startswith(PEM_BEGIN) or not chain.isascii() or b"\0" in chain:
        raise QuoteFormatError("PEM chain", start, expected="PEM certificates", got="other bytes")
    return chain
