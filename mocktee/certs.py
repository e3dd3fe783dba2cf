"""A local TLS authority and server certificates for the mock services.

Owns the files ``ca.pem``, ``server.pem`` and ``server-key.pem`` of a state directory. The authority
is trusted by nobody but the tests and the harness that are given its certificate; its key stays
beside it in ``ca-key.pem`` so that several mock servers of one harness share one authority. Nothing
here has to do with the certificates inside quotes.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

# OpenSSL matches a wildcard only above two further labels, so buckets live below oss.localhost;
# "*.localhost" serves clients that are less strict.
LOCAL_NAMES: Final = ("localhost", "*.localhost", "oss.localhost", "*.oss.localhost")
LOCAL_ADDRESSES: Final = ("127.0.0.1", "::1")
LIFE: Final = datetime.timedelta(days=30)
SKEW: Final = datetime.timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class LocalTls:
    """Paths of one server's certificate, its key and the authority that signed it."""

    ca: Path
    certificate: Path
    key: Path

    def server_context(self) -> ssl.SSLContext:
        """Return a context for the server's side, TLS 1.2 or newer."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority and nothing else."""
        return ssl.create_default_context(cafile=str(self.ca))


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def provide_tls(
    directory: Path, *, dns_names: Sequence[str] = (), name: str = "server"
) -> LocalTls:
    """Write a certificate for the loopback names and ``dns_names``; return where it lies.

    The authority of ``directory`` is reused when it is there, and made otherwise. Key files get
    mode 0600. ``name`` is the stem of the server's files, for directories of several servers.
    """
    directory.mkdir(parents=True, exist_ok=True)
    ca_path = directory / "ca.pem"
    authority = _load_authority(directory) if ca_path.exists() else _make_authority(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _issue_server(authority, key, (*LOCAL_NAMES, *dns_names))
    paths = LocalTls(
        ca=ca_path,
        certificate=directory / f"{name}.pem",
        key=directory / f"{name}-key.pem",
    )
    paths.certificate.write_bytes(_pem(certificate))
    write_private(paths.key, _key_pem(key))
    return paths


def write_private(path: Path, content: bytes) -> None:
    """Replace ``path`` by a file of mode 0600 that holds ``content``."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def _make_authority(directory: Path) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mocktee local TLS authority")])
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_private(directory / "ca-key.pem", _key_pem(key))
    (directory / "ca.pem").write_bytes(_pem(certificate))
    return _Authority(certificate, key)


def _load_authority(directory: Path) -> _Authority:
    key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{directory / 'ca-key.pem'} holds no elliptic-curve key")
    return _Authority(x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes()), key)


def _issue_server(
    authority: _Authority, key: ec.EllipticCurvePrivateKey, names: Sequence[str]
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mocktee local server")])
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(text)) for text in LOCAL_ADDRESSES]
    return (
        _builder(subject, authority.certificate.subject, key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
        .sign(authority.key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + LIFE)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
