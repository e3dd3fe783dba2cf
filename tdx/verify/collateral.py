"""Collateral and root: what a verifier has to be given, read from files and bounded.

Reads from the documents only what decides whether they apply: platform and times. Their signatures
are for the judge. Source: Intel PCS API v4; member names as ``dcap_qvl.QuoteCollateralV3``.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from tdx.verify.errors import CollateralFormatError, RootFormatError

if TYPE_CHECKING:
    from cryptography import x509

MAX_COLLATERAL_BYTES: Final = 1024 * 1024  # real sets have 16 to 20 KiB
MAX_ROOT_BYTES: Final = 16 * 1024


class _Members(msgspec.Struct, frozen=True):
    """The text members; binary ones are hex."""

    pck_crl_issuer_chain: str
    root_ca_crl: str
    pck_crl: str
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: str
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: str


class _Times(msgspec.Struct, frozen=True, rename="camel"):
    issue_date: datetime
    next_update: datetime


class _TcbInfo(_Times, frozen=True, rename="camel"):
    fmspc: str
    pce_id: str


_Document = TypeVar("_Document", bound=_Times)


@dataclass(frozen=True, slots=True)
class Window:
    """When one document is in force, both ends included."""

    document: str
    issued: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class Collateral:
    """``text`` is the JSON as it was read: signatures cover exact bytes inside it."""

    text: str = field(repr=False)
    fmspc: bytes
    pce_id: bytes
    windows: tuple[Window, ...]

    @property
    def expires(self) -> datetime:
        """When the first document does."""
        return min(window.expires for window in self.windows)


def parse_collateral(content: bytes) -> Collateral:
    """Parse the JSON file. Raises :class:`CollateralFormatError`, and nothing else."""
    if len(content) > MAX_COLLATERAL_BYTES:
        raise CollateralFormatError("file", f"larger than {MAX_COLLATERAL_BYTES} bytes")
    try:
        text = content.decode()
        members = msgspec.json.decode(text, type=_Members)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CollateralFormatError("file", str(error)) from error
    info = _document("tcb_info", members.tcb_info, _TcbInfo)
    identity = _document("qe_identity", members.qe_identity, _Times)
    return Collateral(
        text,
        fmspc=_hex("tcb_info.fmspc", info.fmspc),
        pce_id=_hex("tcb_info.pceId", info.pce_id),
        windows=(
            Window("TCB info", info.issue_date, info.next_update),
            Window("QE identity", identity.issue_date, identity.next_update),
            _crl("root_ca_crl", "root CA CRL", members.root_ca_crl),
            _crl("pck_crl", "PCK CRL", members.pck_crl),
        ),
    )


def _document(name: str, text: str, kind: type[_Document]) -> _Document:
    try:
        found = msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise CollateralFormatError(name, str(error)) from error
    if found.issue_date.tzinfo is None or found.next_update.tzinfo is None:
        raise CollateralFormatError(name, "a date without a time zone")
    return found


def _hex(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise CollateralFormatError(name, "no hex text") from error


def _crl(member: str, document: str, text: str) -> Window:
    from cryptography import x509  # late: 30 ms that only verification needs

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            crl = x509.load_der_x509_crl(_hex(member, text))
        expires = crl.next_update_utc
        issued = crl.last_update_utc
    except (ValueError, x509.InvalidVersion) as error:
        raise CollateralFormatError(member, str(error)) from error
    if expires is None:
        raise CollateralFormatError(member, "a revocation list without an end")
    return Window(document, issued, expires)


def parse_root(content: bytes) -> bytes:
    """Return the one self-signed certificate of a PEM or DER file as DER.

    Self-signed is checked here because dcap-qvl ends the process on some certificates that are no
    root. Raises :class:`RootFormatError`.
    """
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # late, as above
    from cryptography.hazmat.primitives.serialization import Encoding

    if len(content) > MAX_ROOT_BYTES:
        raise RootFormatError(f"larger than {MAX_ROOT_BYTES} bytes")
    root = _one_certificate(content)
    try:
        root.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise RootFormatError("not self-signed, so it is no root") from error
    return root.public_bytes(Encoding.DER)


def _one_certificate(content: bytes) -> x509.Certificate:
    from cryptography import x509  # late, as above

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if b"-----BEGIN" not in content:
                return x509.load_der_x509_certificate(content)
            found = x509.load_pem_x509_certificates(content)
    except (ValueError, x509.InvalidVersion) as error:
        raise RootFormatError(str(error)) from error
    if len(found) != 1:
        raise RootFormatError(f"{len(found)} certificates, expected one")
    return found[0]


def utc(moment: datetime) -> str:
    """Return a time as ``2026-06-01T00:00:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
