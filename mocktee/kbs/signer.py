"""The key a KBS signs tokens with when it is to be trusted by another one, and its certificates.

With an identity the tokens carry their certificate chain (``x5c``), which is what a second KBS
with ``trusted_certs_paths`` asks for in the passport model. Without one the key is ephemeral.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from mocktee.certs import write_private
from mocktee.kbs.encoding import Json, b64_encode
from mocktee.kbs.errors import MalformedError

KEY_FILE: Final = "token-signer.key"
CHAIN_FILE: Final = "token-signer.pem"
LIFE: Final = dt.timedelta(days=30)
_BACKDATED: Final = dt.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SignerIdentity:
    """A P-256 key and its certificate chain, leaf first."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @classmethod
    def create(cls, name: str = "mock token signer") -> Self:
        """Make a fresh authority, key and certificate."""
        authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        issuer = _named(f"{name} CA")
        root = _certify(authority, issuer, authority.public_key(), issuer, is_authority=True)
        leaf = _certify(authority, issuer, key.public_key(), _named(name), is_authority=False)
        return cls(key, (leaf, root))

    @classmethod
    def load(cls, key_file: Path, chain_file: Path) -> Self:
        """Read PEM files. Raises ``ValueError`` unless the key is a P-256 one of the leaf."""
        key = load_pem_private_key(key_file.read_bytes(), password=None)
        chain = tuple(x509.load_pem_x509_certificates(chain_file.read_bytes()))
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise MalformedError(f"{key_file} holds no EC P-256 key")
        if chain[0].public_key() != key.public_key():
            raise MalformedError(f"{chain_file} does not begin with the certificate of {key_file}")
        return cls(key, chain)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write key (mode 0600) and chain as PEM; return both files."""
        key_file, chain_file = folder / KEY_FILE, folder / CHAIN_FILE
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_private(key_file, pem)
        chain_file.write_bytes(b"".join(c.public_bytes(Encoding.PEM) for c in self.chain))
        return key_file, chain_file

    def x5c(self) -> list[Json]:
        """Return the chain as a JWK holds it (RFC 7517 4.7)."""
        return [b64_encode(c.public_bytes(Encoding.DER)) for c in self.chain]


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certify(
    authority: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    subject: x509.Name,
    *,
    is_authority: bool,
) -> x509.Certificate:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    return builder.sign(authority, SHA256())
