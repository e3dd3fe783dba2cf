"""Quote bytes to a frozen value: parsing only. Whether to trust it is for ``tdx.verify``.

Versions 4 and 5 with TD report bodies 1.0, 1.5 and 1.5 extended, ECDSA P-256, certification data
of every type. Source: Intel DCAP ``sgx_quote_4.h`` and ``sgx_quote_5.h``; tables in
``quote_layout.py``. Every length in a quote is the host's choice and is checked against the bytes
that are there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tdx.attributes import TdAttributes
from tdx.certification import (
    CertificateChain,
    Certification,
    QeCertification,
    parse_certification,
)
from tdx.cursor import Cursor
from tdx.errors import QuoteFormatError
from tdx.quote_layout import (
    BODIES,
    HEADER,
    KEY_BYTES,
    KEY_TYPE_ECDSA_P256,
    MAX_BYTES,
    MIN_BYTES,
    SIGNATURE_BYTES,
    TD_10,
    TEE_TYPE_TDX,
)

__all__ = [
    "MAX_BYTES",
    "MIN_BYTES",
    "Quote",
    "QuoteHeader",
    "SignatureSection",
    "TdReportBody",
    "parse_quote",
]


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
    """Stored bytes of each field. What body 1.0 (then 1.5) does not have is None."""

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
    # body 1.5
    tee_tcb_svn2: bytes | None = None
    mr_servicetd: bytes | None = None
    # body 1.5 extended
    vmid: bytes | None = None
    td_id: bytes | None = None
    device_info_hash: bytes | None = None
    init_servicetd_hash: bytes | None = None
    init_servicetd_attributes: bytes | None = None
    init_cpu_svn: bytes | None = None
    init_tee_tcb_svn: bytes | None = None
    init_tee_fmspc: bytes | None = None  # an encoding of its own, not the 6 bytes of a PCK
    current_servicetd_hash: bytes | None = None
    current_servicetd_attributes: bytes | None = None

    @property
    def rtmrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        return (self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3)

    @property
    def attributes(self) -> TdAttributes:
        return TdAttributes.of(self.td_attributes)

    @property
    def debug(self) -> bool:
        """Bit 0 of the TD attributes: the host can read and change this TD."""
        return bool(self.td_attributes[0] & 1)


@dataclass(frozen=True, slots=True)
class SignatureSection:
    """What follows the body: unverified signature, key and certification data."""

    signature: bytes = field(repr=False)
    attestation_key: bytes = field(repr=False)
    certification: Certification

    @property
    def qe(self) -> QeCertification | None:
        """The QE report and what it rests on; None in forms that no verifier accepts."""
        found = self.certification
        return found if isinstance(found, QeCertification) else None

    @property
    def pem_chain(self) -> bytes | None:
        """The PCK certificates as PEM text, leaf first, if the quote carries them."""
        found: Certification = self.certification if self.qe is None else self.qe.nested
        return found.pem if isinstance(found, CertificateChain) else None


@dataclass(frozen=True, slots=True)
class Quote:
    """A parsed, not authenticated quote.

    ``raw`` ends with the signature section: bytes behind it are normal, mean nothing, and on
    kernels that trust the host's length may be guest memory, so they are never passed on.
    """

    header: QuoteHeader
    body: TdReportBody
    body_type: int  # as version 5 counts them: TD_10, TD_15, TD_15_EXTENDED
    section: SignatureSection
    signed_message: bytes = field(repr=False)
    raw: bytes = field(repr=False)


def parse_quote(data: bytes) -> Quote:
    """Parse a quote; ignore what follows its signature section.

    Raises :class:`QuoteFormatError` on anything that is not a TDX quote of a known form, and
    nothing else on any bytes.
    """
    if len(data) > MAX_BYTES:
        raise QuoteFormatError("quote", 0, expected=f"<= {MAX_BYTES} bytes", got=str(len(data)))
    cursor = Cursor(data, 0, len(data))
    header = _header(cursor)
    if len(data) < MIN_BYTES[header.version]:
        least = f">= {MIN_BYTES[header.version]} bytes"
        raise QuoteFormatError("quote", 0, expected=least, got=str(len(data)))
    body_type = _body_type(cursor, header.version)
    body = TdReportBody(**cursor.fields("body", BODIES[body_type]))
    signed_message = data[: cursor.at]
    length = cursor.number("signature data length", 4)
    start = cursor.at
    cursor.take("signature data", length)
    section = _signature_section(Cursor(data, start, cursor.at))
    return Quote(header, body, body_type, section, signed_message, data[: cursor.at])


def _header(cursor: Cursor) -> QuoteHeader:
    fields = cursor.fields("header", HEADER)
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


def _body_type(cursor: Cursor, version: int) -> int:
    """Take the body descriptor of version 5; version 4 has none and one body."""
    if version == 4:
        return TD_10
    kind = cursor.kind("body type", 2, BODIES, "2 (TD 1.0), 3 (TD 1.5) or 4 (TD 1.5 extended)")
    cursor.number("body size", 4, expected=BODIES[kind].size)
    return kind


def _signature_section(cursor: Cursor) -> SignatureSection:
    return SignatureSection(
        signature=cursor.take("signature", SIGNATURE_BYTES),
        attestation_key=cursor.take("attestation key", KEY_BYTES),
        certification=parse_certification(cursor),
    )
