"""Issues the four certificates and the two CRLs of the mock authority.

Names, extensions and their order follow Intel's "SGX PCK Certificate and CRL Profile
Specification"; go-tdx-guest demands exactly six extensions on the PCK leaf.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mocktee.platform import SGX_EXTENSION_OID, Platform

ROOT_NAME: Final = "Intel SGX Root CA"
PLATFORM_CA_NAME: Final = "Intel SGX PCK Platform CA"
PCK_NAME: Final = "Intel SGX PCK Certificate"
TCB_SIGNER_NAME: Final = "Intel SGX TCB Signing"
ORGANISATION: Final = "Mock TEE"
UNIT: Final = "Not Intel, for tests only"
CRL_URL: Final = "https://mock-tee.invalid/root-ca.crl"
CA_LIFETIME: Final = timedelta(days=20 * 365)
LEAF_LIFETIME: Final = timedelta(days=7 * 365)


def _name(common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, UNIT),
        ]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=not authority,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: str,
    issuer: str,
    public_key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    not_before: datetime,
    *,
    path_length: int | None,
) -> x509.CertificateBuilder:
    """Everything up to the five common extensions; a leaf has no ``path_length``."""
    authority = path_length is not None
    lifetime = CA_LIFETIME if authority else LEAF_LIFETIME
    location = x509.DistributionPoint([x509.UniformResourceIdentifier(CRL_URL)], None, None, None)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_before + lifetime)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), False)
        .add_extension(x509.CRLDistributionPoints([location]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), False)
        .add_extension(_key_usage(authority=authority), True)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=path_length), True)
    )


def root_ca(key: ec.EllipticCurvePrivateKey, not_before: datetime) -> x509.Certificate:
    public = key.public_key()
    builder = _builder(ROOT_NAME, ROOT_NAME, public, public, not_before, path_length=1)
    return builder.sign(key, hashes.SHA256())


def platform_ca(
    public: ec.EllipticCurvePublicKey, root_key: ec.EllipticCurvePrivateKey, not_before: datetime
) -> x509.Certificate:
    builder = _builder(
        PLATFORM_CA_NAME, ROOT_NAME, public, root_key.public_key(), not_before, path_length=0
    )
    return builder.sign(root_key, hashes.SHA256())


def tcb_signer(
    public: ec.EllipticCurvePublicKey, root_key: ec.EllipticCurvePrivateKey, not_before: datetime
) -> x509.Certificate:
    builder = _builder(
        TCB_SIGNER_NAME, ROOT_NAME, public, root_key.public_key(), not_before, path_length=None
    )
    return builder.sign(root_key, hashes.SHA256())


def pck_leaf(
    public: ec.EllipticCurvePublicKey,
    ca_key: ec.EllipticCurvePrivateKey,
    machine: Platform,
    not_before: datetime,
) -> x509.Certificate:
    oid = x509.ObjectIdentifier(SGX_EXTENSION_OID)
    builder = _builder(
        PCK_NAME, PLATFORM_CA_NAME, public, ca_key.public_key(), not_before, path_length=None
    )
    builder = builder.add_extension(
        x509.UnrecognizedExtension(oid, machine.sgx_extension()), critical=False
    )
    return builder.sign(ca_key, hashes.SHA256())


def empty_crl(
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    issued: datetime,
    next_update: datetime,
) -> bytes:
    """DER of a version 2 CRL that revokes nothing."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(issued)
        .next_update(next_update)
        .add_extension(x509.CRLNumber(1), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
