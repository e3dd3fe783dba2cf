"""The PCK certificates inside a quote: what they say, not whether they are genuine.

``cryptography`` is imported where it is used: the agent parses quotes and never looks here.
Source: Intel "SGX PCK Certificate and CRL Profile Specification" (OID 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tdx import der
from tdx.errors import CertificateFormatError

if TYPE_CHECKING:
    from cryptography import x509

SGX_EXTENSION: Final = "1.2.840.113741.1.13.1"
# The object identifier above as DER content; members append one or two arcs below 128.
SGX_EXTENSION_DER: Final = bytes.fromhex("2a864886f84d010d01")
COMPONENTS: Final = 16
MAX_CERTIFICATES: Final = 8
SGX_TYPES: Final = {0: "standard", 1: "scalable", 2: "scalable with integrity"}


@dataclass(frozen=True, slots=True)
class PckExtension:
    """Identity and security versions of a platform. The last four are the Platform CA's only."""

    ppid: bytes
    components: tuple[int, ...]  # 16 SGX component SVNs
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None


def load_chain(pem: bytes) -> list[x509.Certificate]:
    """Return the certificates of a PEM chain in its order, at least one and at most eight.

    Raises :class:`CertificateFormatError`. What it returns has names, dates, extensions and keys
    that parse: the library reads them when they are asked for, so all are asked for here.
    """
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    count = pem.count(b"-----BEGIN CERTIFICATE-----")
    if count > MAX_CERTIFICATES:
        raise CertificateFormatError("chain", f"{count} certificates, expected at most 8")
    # TypeError: names whose ASN.1 type does not go with their identifier.
    problems = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion,
                x509.DuplicateExtension, x509.UnsupportedGeneralNameType)  # fmt: skip
    try:
        with warnings.catch_warnings():
            # A library's opinion of odd serial numbers is no line for an operator's terminal.
            warnings.simplefilter("ignore")
            chain = x509.load_pem_x509_certificates(pem)
            for certificate in chain:
                _touch(certificate)
    except problems as error:
        raise CertificateFormatError("chain", str(error)[:200]) from error
    return chain


def _touch(certificate: x509.Certificate) -> None:
    names = (certificate.subject, certificate.issuer)
    dates = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    del names, dates
    len(certificate.extensions)
    certificate.public_key()


def pck_extension(leaf: x509.Certificate) -> PckExtension:
    """Return the SGX extension of a PCK leaf. Raises :class:`CertificateFormatError`."""
    from cryptography import x509

    try:
        found = leaf.extensions.get_extension_for_oid(x509.ObjectIdentifier(SGX_EXTENSION))
    except x509.ExtensionNotFound as error:
        raise CertificateFormatError("SGX extension", str(error)[:200]) from error
    return parse_pck_extension(found.value.public_bytes())


def parse_pck_extension(data: bytes) -> PckExtension:
    """Parse the DER value of the SGX extension; members may come in any order, each once.

    Raises :class:`CertificateFormatError`, and nothing else on any bytes.
    """
    try:
        return _extension(_members(data))
    except (ValueError, KeyError) as error:
        raise CertificateFormatError("SGX extension", str(error)[:200]) from error


def _members(data: bytes) -> dict[tuple[int, ...], tuple[int, bytes]]:
    """Flatten the nested pairs into {arcs below the extension: (tag, content)}."""
    members: dict[tuple[int, ...], tuple[int, bytes]] = {}
    waiting = [der.only(data, der.SEQUENCE)]
    while waiting:
        for outer, pair in der.elements(waiting.pop()):
            if outer != der.SEQUENCE:
                raise ValueError("a member is no pair")
            (name_tag, name), (tag, content) = _pair(pair)
            if name_tag != der.OBJECT_IDENTIFIER or not name.startswith(SGX_EXTENSION_DER):
                raise ValueError("a member has no name of this extension")
            arcs = tuple(name[len(SGX_EXTENSION_DER) :])
            if arcs in members or not 1 <= len(arcs) <= 2:
                raise ValueError("a member is there twice")
            members[arcs] = (tag, content)
            if tag == der.SEQUENCE and len(arcs) == 1:
                waiting.append(content)
    return members


def _pair(data: bytes) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
    found = list(der.elements(data))
    if len(found) != 2:
        raise ValueError("a member is no pair")
    return found[0], found[1]


def _extension(members: dict[tuple[int, ...], tuple[int, bytes]]) -> PckExtension:
    def octets(*arcs: int, size: int) -> bytes:
        tag, content = members[arcs]
        if tag != der.OCTET_STRING or len(content) != size:
            raise ValueError(f"member {'.'.join(map(str, arcs))} is not {size} bytes")
        return content

    def number(*arcs: int, tag: int = der.INTEGER) -> int:
        found, content = members[arcs]
        value = der.integer(content)
        if found != tag or not 0 <= value <= 0xFFFF:
            raise ValueError(f"member {'.'.join(map(str, arcs))} is not a small number")
        return value

    def flag(*arcs: int) -> bool | None:
        if arcs not in members:
            return None
        tag, content = members[arcs]
        if tag != der.BOOLEAN or len(content) != 1:
            raise ValueError(f"member {'.'.join(map(str, arcs))} is no boolean")
        return content != b"\0"

    return PckExtension(
        ppid=octets(1, size=16),
        components=tuple(number(2, index) for index in range(1, COMPONENTS + 1)),
        pce_svn=number(2, 17),
        cpu_svn=octets(2, 18, size=16),
        pce_id=octets(3, size=2),
        fmspc=octets(4, size=6),
        sgx_type=number(5, tag=der.ENUMERATED),
        platform_instance_id=octets(6, size=16) if (6,) in members else None,
        dynamic_platform=flag(7, 1),
        cached_keys=flag(7, 2),
        smt_enabled=flag(7, 3),
    )
