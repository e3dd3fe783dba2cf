"""Quote bytes to a frozen value: parsing only. Whether to trust it is for a verifier.

Versions 4 and 5 with TD report bodies 1.0 and 1.5, ECDSA P-256, certification data of type 6
around a PEM chain of type 5: the only forms that verifiers accept. Source: Intel DCAP
``sgx_quote_4.h`` and ``sgx_quote_5.h``. Every length in a quote is the host's choice and is
checked against the bytes that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from tdx.errors import QuoteFormatError
from tdx.layout import Layout

HEADER: Final = Layout(
    ("version", 2),
    ("attestation_key_type", 2),
    ("tee_type", 4),
    ("reserved", 4),
    ("qe_vendor_id", 16),
    ("user_data", 20),
)
BODY_10: Final = Layout(
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mrsigner_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
# tee_tcb_svn keeps the module's value at TD launch, tee_tcb_svn2 is what runs now.
BODY_15: Final = BODY_10 + Layout(("tee_tcb_svn2", 16), ("mr_servicetd", 48))
QE_REPORT: Final = Layout(
    ("cpu_svn", 16),
    ("misc_select", 4),
    ("", 28),
    ("attributes", 16),
    ("mr_enclave", 32),
    ("", 32),
    ("mr_signer", 32),
    ("", 96),
    ("isv_prod_id", 2),
    ("isv_svn", 2),
    ("", 60),
    ("report_data", 64),
)
BODY_DESCRIPTOR: Final = Layout(("body_type", 2), ("body_size", 4))  # version 5 only
V5_BODIES: Final = {2: BODY_10, 3: BODY_15}

TEE_TYPE_TDX: Final = 0x81
KEY_TYPE_ECDSA_P256: Final = 2
CERTIFICATION_QE_REPORT: Final = 6
CERTIFICATION_PEM_CHAIN: Final = 5
SIGNATURE_BYTES: Final = 64  # r and s, 32 bytes big-endian each
KEY_BYTES: Final = 64  # x and y, 32 bytes big-endian each
MIN_BYTES: Final = {4: 1020, 5: 1026}
MAX_BYTES: Final = 64 * 1024  # real ECDSA quotes have 5 to 8 KiB, trailing bytes included
PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class QuoteHeader:
    version: int
    attestation_key_type: int
    tee_type: int
    reserved: bytes
    qe_vendor_id: bytes
    user_data: bytes


@dataclass(frozen=True, slots=True)
class TdReportBody:
    """Stored bytes of each field. The last two exist in body 1.5 only."""

    tee_tcb_svn: bytes
    mr_seam: bytes
    mrsigner_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_servicetd: bytes | None = None

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)

    @property
    def debug(self) -> bool:
        """Bit 0 of the TD attributes: the host can read and change this TD."""
        return bool(self.td_attributes[0] & 1)


@dataclass(frozen=True, slots=True)
class QeReport:
    cpu_svn: bytes
    misc_select: bytes
    attributes: bytes
    mr_enclave: bytes
    mr_signer: bytes
    isv_prod_id: int
    isv_svn: int
    report_data: bytes


@dataclass(frozen=True, slots=True)
class SignatureSection:
    """What follows the body: unverified signatures, keys and certificates."""

    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    qe_report: QeReport
    qe_report_bytes: bytes = field(repr=False)
    qe_report_signature: bytes = field(repr=False)
    qe_auth_data: bytes
    pem_chain: bytes = field(repr=False)  # leaf first, without a final NUL


@dataclass(frozen=True, slots=True)
class Quote:
    """A parsed, not authenticated quote.

    ``raw`` ends with the signature section: bytes behind it are normal, mean nothing, and on
    kernels that trust the host's length may be guest memory, so they are never passed on.
    """

    header: QuoteHeader
    body: TdReportBody
    body_type: int  # 2 = TD 1.0, 3 = TD 1.5, as version 5 counts them
    section: SignatureSection
    signed_message: bytes = field(repr=False)
    raw: bytes = field(repr=False)


class _Cursor:
    """Takes fields off a byte string and refuses to run over its end."""

    def __init__(self, data: bytes, start: int, end: int) -> None:
        self.data = data
        self.at = start
        self.end = end

    def take(self, name: str, size: int) -> bytes:
        if size > self.end - self.at:
            left = self.end - self.at
            raise QuoteFormatError(name, self.at, expected=f"{size} bytes", got=f"{left}")
        start, self.at = self.at, self.at + size
        return self.data[start : self.at]

    def number(self, name: str, size: int, expected: int | None = None) -> int:
        start = self.at
        value = int.from_bytes(self.take(name, size), "little")
        if expected is not None and value != expected:
            raise QuoteFormatError(name, start, expected=str(expected), got=str(value))
        return value


def parse_quote(data: bytes) -> Quote:
    """Parse a quote; ignore what follows its signature section.

    Raises :class:`QuoteFormatError` on anything that is not a TDX quote of a known form, and
    nothing else on any bytes.
    """
    if len(data) > MAX_BYTES:
        raise QuoteFormatError("quote", 0, expected=f"<= {MAX_BYTES} bytes", got=str(len(data)))
    cursor = _Cursor(data, 0, len(data))
    header = _header(cursor)
    if len(data) < MIN_BYTES[header.version]:
        least = f">= {MIN_BYTES[header.version]} bytes"
        raise QuoteFormatError("quote", 0, expected=least, got=str(len(data)))
    body_type, layout = _body_form(cursor, header.version)
    body = TdReportBody(**layout.cut(cursor.take("body", layout.size)))
    signed_message = data[: cursor.at]
    length = cursor.number("signature data length", 4)
    start = cursor.at
    cursor.take("signature data", length)
    section = _signature_section(_Cursor(data, start, cursor.at))
    return Quote(header, body, body_type, section, signed_message, data[: cursor.at])


def _header(cursor: _Cursor) -> QuoteHeader:
    fields = HEADER.cut(cursor.take("header", HEADER.size))
    header = QuoteHeader(
        version=int.from_bytes(fields["version"], "little"),
        attestation_key_type=int.from_bytes(fields["attestation_key_type"], "little"),
        tee_type=int.from_bytes(fields["tee_type"], "little"),
        reserved=fields["reserved"],
        qe_vendor_id=fields["qe_vendor_id"],
        user_data=fields["user_data"],
    )
    if header.version not in MIN_BYTES:
        raise QuoteFormatError("version", 0, expected="4 or 5", got=str(header.version))
    if header.attestation_key_type != KEY_TYPE_ECDSA_P256:
        got = str(header.attestation_key_type)
        raise QuoteFormatError("attestation key type", 2, expected="2 (ECDSA P-256)", got=got)
    if header.tee_type != TEE_TYPE_TDX:
        raise QuoteFormatError("TEE type", 4, expected="0x81 (TDX)", got=hex(header.tee_type))
    return header


def _body_form(cursor: _Cursor, version: int) -> tuple[int, Layout]:
    if version == 4:
        return 2, BODY_10
    start = cursor.at
    kind = cursor.number("body type", 2)
    layout = V5_BODIES.get(kind)
    if layout is None:
        raise QuoteFormatError(
            "body type", start, expected="2 (TD 1.0) or 3 (TD 1.5)", got=str(kind)
        )
    cursor.number("body size", 4, expected=layout.size)
    return kind, layout


def _signature_section(cursor: _Cursor) -> SignatureSection:
    """Parse the section between its two ends; all inner lengths must fill it exactly."""
    signature = cursor.take("signature", SIGNATURE_BYTES)
    attestation_key = cursor.take("attestation key", KEY_BYTES)
    cursor.number("certification data type", 2, expected=CERTIFICATION_QE_REPORT)
    rest = cursor.end - cursor.at - 4
    cursor.number("certification data size", 4, expected=rest)
    report_bytes = cursor.take("QE report", QE_REPORT.size)
    report_signature = cursor.take("QE report signature", SIGNATURE_BYTES)
    auth_data = cursor.take(
        "QE authentication data", cursor.number("QE authentication data size", 2)
    )
    cursor.number("inner certification data type", 2, expected=CERTIFICATION_PEM_CHAIN)
    rest = cursor.end - cursor.at - 4
    cursor.number("inner certification data size", 4, expected=rest)
    return SignatureSection(
        signature=signature,
        attestation_key=attestation_key,
        qe_report=_qe_report(report_bytes),
        qe_report_bytes=report_bytes,
        qe_report_signature=report_signature,
        qe_auth_data=auth_data,
        pem_chain=_pem_chain(cursor, rest),
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


def _pem_chain(cursor: _Cursor, size: int) -> bytes:
    """Take the chain. One final NUL is part of some quotes and not of the PEM text."""
    start = cursor.at
    chain = cursor.take("PEM chain", size).removesuffix(b"\0")
    if not chain.startswith(PEM_BEGIN) or not chain.isascii() or b"\0" in chain:
        raise QuoteFormatError("PEM chain", start, expected="PEM certificates", got="other bytes")
    return chain
