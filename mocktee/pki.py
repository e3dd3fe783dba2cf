"""The mock provisioning authority: keys, certificates, CRLs and signed collateral.

Common names are Intel's, because verifiers compare them; the organisation says what this is. The
root key is made afresh, so no production verifier trusts anything signed here. Owns saving and
loading; the quote itself is in ``mocktee.quotes``, the documents' text in ``mocktee.collateral``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mocktee import certificates as issue
from mocktee.collateral import qe_identity, tcb_info
from mocktee.errors import PkiStateError
from mocktee.platform import Platform

CLOCK_SKEW: Final = timedelta(days=1)
COLLATERAL_LIFETIME: Final = timedelta(days=30)  # what the real service gives
KEY_FILES: Final = ("root-ca", "platform-ca", "pck", "tcb-signing", "attestation")
CERTIFICATE_FILES: Final = ("root-ca", "platform-ca", "pck", "tcb-signing")
COLLATERAL_FILE: Final = "collateral.json"


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """ECDSA P-256 with SHA-256 as r and s, 32 bytes big-endian each, the form quotes use."""
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class MockPki:
    """All keys and documents of one mock authority and one machine."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(repr=False)
    certificates: dict[str, x509.Certificate]
    _collateral: dict[str, str] = field(repr=False)

    @classmethod
    def create(
        cls,
        *,
        now: datetime | None = None,
        platform: Platform | None = None,
        tcb_status: str = "UpToDate",
    ) -> Self:
        """Make a fresh authority; collateral is valid from a day before ``now`` for 30 days."""
        machine = platform or Platform()
        moment = (now or datetime.now(UTC)).replace(microsecond=0)
        issued, until = moment - CLOCK_SKEW, moment + COLLATERAL_LIFETIME
        keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in KEY_FILES}
        certificates = _issue_all(keys, machine, issued)
        collateral = _sign_all(
            keys, certificates, machine, issued=issued, until=until, tcb_status=tcb_status
        )
        return cls(keys, certificates, collateral)

    @property
    def root_ca_der(self) -> bytes:
        """The only trust anchor under which a quote of this authority verifies."""
        return self.certificates["root-ca"].public_bytes(serialization.Encoding.DER)

    def pck_chain_pem(self) -> bytes:
        """Leaf, intermediate, root, as they stand inside a quote."""
        return _pem_chain(self.certificates, "pck", "platform-ca", "root-ca").encode()

    def collateral(self) -> dict[str, str]:
        """The members of ``dcap_qvl.QuoteCollateralV3.from_json``; binary ones in hex."""
        return dict(self._collateral)

    def save(self, directory: Path) -> None:
        """Write everything; private keys 0600, the directory 0700. Raises ``OSError``."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, key in self.keys.items():
            _write(directory / f"{name}.key", _private_pem(key), 0o600)
        for name, certificate in self.certificates.items():
            der = certificate.public_bytes(serialization.Encoding.DER)
            _write(directory / f"{name}.der", der, 0o644)
        _write(directory / COLLATERAL_FILE, json.dumps(self._collateral).encode(), 0o644)

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote. Raises :class:`PkiStateError`."""
        try:
            keys = {name: _read_key(directory / f"{name}.key") for name in KEY_FILES}
            certificates = {
                name: x509.load_der_x509_certificate((directory / f"{name}.der").read_bytes())
                for name in CERTIFICATE_FILES
            }
            collateral = json.loads((directory / COLLATERAL_FILE).read_text())
        except (OSError, ValueError) as error:
            raise PkiStateError(str(directory), str(error)[:200]) from error
        return cls(keys, certificates, collateral)


def _issue_all(
    keys: dict[str, ec.EllipticCurvePrivateKey], machine: Platform, issued: datetime
) -> dict[str, x509.Certificate]:
    public = {name: key.public_key() for name, key in keys.items()}
    root = issue.root_ca(keys["root-ca"], issued)
    platform_ca = issue.platform_ca(public["platform-ca"], keys["root-ca"], issued)
    return {
        "root-ca": root,
        "platform-ca": platform_ca,
        "pck": issue.pck_leaf(public["pck"], keys["platform-ca"], machine, issued),
        "tcb-signing": issue.tcb_signer(public["tcb-signing"], keys["root-ca"], issued),
    }


def _sign_all(
    keys: dict[str, ec.EllipticCurvePrivateKey],
    certificates: dict[str, x509.Certificate],
    machine: Platform,
    *,
    issued: datetime,
    until: datetime,
    tcb_status: str,
) -> dict[str, str]:
    info = tcb_info(machine, issued, until, tcb_status)
    identity = qe_identity(issued, until)
    signer = keys["tcb-signing"]
    signer_chain = _pem_chain(certificates, "tcb-signing", "root-ca")
    root_crl = issue.empty_crl(certificates["root-ca"], keys["root-ca"], issued, until)
    pck_crl = issue.empty_crl(certificates["platform-ca"], keys["platform-ca"], issued, until)
    return {
        "pck_crl_issuer_chain": _pem_chain(certificates, "platform-ca", "root-ca"),
        "root_ca_crl": root_crl.hex(),
        "pck_crl": pck_crl.hex(),
        "tcb_info_issuer_chain": signer_chain,
        "tcb_info": info,
        "tcb_info_signature": sign_raw(signer, info.encode()).hex(),
        "qe_identity_issuer_chain": signer_chain,
        "qe_identity": identity,
        "qe_identity_signature": sign_raw(signer, identity.encode()).hex(),
    }


def _pem_chain(certificates: dict[str, x509.Certificate], *names: str) -> str:
    return b"".join(
        certificates[name].public_bytes(serialization.Encoding.PEM) for name in names
    ).decode("ascii")


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise PkiStateError(str(path), "not an elliptic-curve private key")
    return key


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # an older file keeps its mode otherwise
        file.write(content)
