"""The chain of signatures in a quote, link by link, so that a verdict can name the broken one.

The judge makes the same checks and more; it stops at its first complaint. Source: Intel DCAP
``sgx_quote_4.h`` and the PCK Certificate Profile.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from tdx.certification import QeCertification
from tdx.errors import CertificateFormatError
from tdx.pck import load_chain
from tdx.quote import Quote
from tdx.verify.collateral import utc
from tdx.verify.verdict import Check, CheckName, failed, not_checked, passed

FOREIGN_ROOT: Final = (
    "a certificate inside a quote is its sender's choice; verify under the root that signs "
    "platforms of this kind, and only under that"
)


def check_signatures(quote: Quote, root_der: bytes, now: datetime) -> Iterator[Check]:
    """Yield the checks from the body up to the root. Nothing raises; odd forms fail."""
    yield _quote_signature(quote)
    qe = quote.section.qe
    if qe is None:
        reason = "the quote carries no QE report (certification data is not of type 6)"
        for name in (CheckName.QE_BINDING, CheckName.QE_SIGNATURE, CheckName.PCK_CHAIN):
            yield failed(name, reason)
        return
    yield _qe_binding(quote, qe)
    try:
        chain = load_chain(quote.section.pem_chain or b"")
    except CertificateFormatError as error:
        yield not_checked(CheckName.QE_SIGNATURE, "there is no PCK certificate to check it with")
        yield failed(CheckName.PCK_CHAIN, error.problem)
        return
    yield _qe_signature(qe, chain)
    yield _pck_chain(chain, root_der, now)


def _signed(key: object, signature: bytes, message: bytes) -> bool:
    """Return whether a raw r, s signature (32 bytes big-endian each) is good. Fails closed."""
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        return False
    r, s = (int.from_bytes(signature[at : at + 32], "big") for at in (0, 32))
    try:
        key.verify(utils.encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _quote_signature(quote: Quote) -> Check:
    name = CheckName.QUOTE_SIGNATURE
    point = b"\x04" + quote.section.attestation_key
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError:
        return failed(name, "the attestation key is no point of P-256")
    if not _signed(key, quote.section.signature, quote.signed_message):
        return failed(name, "header and body are not what the attestation key signed")
    return passed(name, "the attestation key signed header and body")


def _qe_binding(quote: Quote, qe: QeCertification) -> Check:
    bound = hashlib.sha256(quote.section.attestation_key + qe.auth_data).digest()
    if qe.report.report_data != bound.ljust(64, b"\0"):
        return failed(CheckName.QE_BINDING, "the QE report names another attestation key")
    return passed(CheckName.QE_BINDING, "the QE report names the attestation key")


def _qe_signature(qe: QeCertification, chain: Sequence[x509.Certificate]) -> Check:
    name = CheckName.QE_SIGNATURE
    if not _signed(chain[0].public_key(), qe.signature, qe.report_bytes):
        return failed(name, "the QE report is not what the PCK key signed")
    return passed(name, "the PCK key signed the QE report")


def _pck_chain(chain: Sequence[x509.Certificate], root_der: bytes, now: datetime) -> Check:
    name = CheckName.PCK_CHAIN
    root = x509.load_der_x509_certificate(root_der)
    path = list(chain)
    if path[-1].public_bytes(Encoding.DER) != root_der:
        if path[-1].subject == path[-1].issuer:  # self-signed, and not the given one
            reason = f"it ends in another root than {_common_name(root)}"
            return failed(name, reason, FOREIGN_ROOT)
        path.append(root)
    problems = [_link(child, issuer) for child, issuer in itertools.pairwise(path)]
    problem = next(filter(None, problems), "")
    if problem:
        return failed(name, problem)
    problem = next(filter(None, (_validity(certificate, now) for certificate in path)), "")
    if problem:
        return failed(name, problem, "see that the time of this machine, or --at, is right")
    return passed(name, f"{len(path)} certificates lead to {_common_name(root)}")


def _link(child: x509.Certificate, issuer: x509.Certificate) -> str:
    """Return what is wrong between two certificates, or an empty text."""
    try:
        child.verify_directly_issued_by(issuer)
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return f"{_common_name(child)} is not signed by {_common_name(issuer)}"
    except x509.ExtensionNotFound:
        return f"{_common_name(issuer)} is no authority"
    return "" if constraints.ca else f"{_common_name(issuer)} is no authority"


def _validity(certificate: x509.Certificate, now: datetime) -> str:
    name = _common_name(certificate)
    if now < certificate.not_valid_before_utc:
        return f"{name} is valid from {utc(certificate.not_valid_before_utc)}, after {utc(now)}"
    if now > certificate.not_valid_after_utc:
        return f"{name} was valid until {utc(certificate.not_valid_after_utc)}"
    return ""


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return repr(str(names[0].value)[:64]) if names else "a certificate without a name"
