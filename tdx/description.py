"""Quotes and reports as JSON-ready values under stable names, and nothing judged.

Names follow Intel's specification in lower case (``mr_td``, ``rt_mr0``, ``tee_tcb_svn``); bytes are
lower-case hex in stored order. Scripts read these names: one may be added, none changes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tdx.attributes import TdAttributes, xfam_features
from tdx.certification import (
    CertificateChain,
    Certification,
    LeafCertificate,
    PlatformIdentity,
    PlatformManifest,
    QeCertification,
)
from tdx.errors import CertificateFormatError
from tdx.pck import SGX_TYPES, load_chain, pck_extension
from tdx.quote import Quote
from tdx.quote_layout import BODIES, BODY_NAMES, CERTIFICATION_NAMES
from tdx.tdreport import REPORT_MAC, TD_INFO, TEE_TCB_INFO, TdReport

if TYPE_CHECKING:
    from cryptography import x509

Described = None | bool | int | str | Sequence["Described"] | Mapping[str, "Described"]


def described_attributes(stored: bytes) -> dict[str, Described]:
    """TD attributes: the stored bytes, each named bit, and the numbers of other set bits."""
    attributes = TdAttributes.of(stored)
    return {
        "value": stored.hex(),
        "bits": attributes.named(),
        "unnamed_bits": list(attributes.unnamed),
    }


def describe_quote(quote: Quote) -> dict[str, Described]:
    """Return ``header``, ``body`` and ``certification`` of a quote."""
    header = quote.header
    return {
        "header": {
            "version": header.version,
            "attestation_key_type": header.attestation_key_type,
            "tee_type": header.tee_type,
            "reserved": header.reserved.hex(),
            "qe_vendor_id": header.qe_vendor_id.hex(),
            "user_data": header.user_data.hex(),
        },
        "body": {
            "type": quote.body_type,
            "type_name": BODY_NAMES[quote.body_type],
            **{
                _stable(name): _field(name, getattr(quote.body, name))
                for name, _, _ in BODIES[quote.body_type].offsets()
            },
        },
        "certification": {
            "signature": quote.section.signature.hex(),
            "attestation_key": quote.section.attestation_key.hex(),
            **_certification(quote.section.certification),
        },
    }


def describe_tdreport(report: TdReport) -> dict[str, Described]:
    """Return ``header``, ``tee_tcb_info`` and ``body`` of a TDREPORT."""
    parts = (("header", REPORT_MAC, report), ("tee_tcb_info", TEE_TCB_INFO, report.tee_tcb_info),
             ("body", TD_INFO, report.td_info))  # fmt: skip
    return {
        part: {
            _stable(name): _field(name, getattr(holder, name)) for name, _, _ in layout.offsets()
        }
        for part, layout, holder in parts
    }


def _stable(name: str) -> str:
    return name.replace("rtmr", "rt_mr")


def _field(name: str, stored: bytes) -> Described:
    if name == "td_attributes":
        return described_attributes(stored)
    if name == "xfam":
        return {"value": stored.hex(), "features": list(xfam_features(stored))}
    return stored.hex()


def _certification(found: Certification) -> dict[str, Described]:
    head: dict[str, Described] = {"type": found.kind, "type_name": CERTIFICATION_NAMES[found.kind]}
    match found:
        case QeCertification():
            report: dict[str, Described] = {
                name: value.hex() if isinstance(value, bytes) else value
                for name, value in dataclasses.asdict(found.report).items()
            }
            return head | {
                "qe_report": report | {"debug": found.report.debug},
                "qe_report_signature": found.signature.hex(),
                "qe_auth_data": found.auth_data.hex(),
                "nested": _certification(found.nested),
            }
        case PlatformIdentity():
            return head | {
                "ppid": found.ppid.hex(),
                "cpu_svn": found.cpu_svn.hex(),
                "pce_svn": found.pce_svn,
                "pce_id": found.pce_id,
            }
        case CertificateChain():
            return head | _chain(found.pem)
        case LeafCertificate():
            return head | {"certificate": found.certificate.hex()}
        case PlatformManifest():
            return head | {"manifest": found.manifest.hex()}


def _chain(pem: bytes) -> dict[str, Described]:
    """What the certificates say. One that does not parse is shown as a problem, not refused."""
    described: list[Described] = []
    try:
        chain = load_chain(pem)
        described = [_certificate(certificate) for certificate in chain]
        return {"certificates": described, "pck": _pck(chain[0])}
    except CertificateFormatError as error:
        return {"certificates": described, "problem": error.problem}


def _certificate(certificate: x509.Certificate) -> dict[str, Described]:
    return {
        "subject": certificate.subject.rfc4514_string()[:256],
        "issuer": certificate.issuer.rfc4514_string()[:256],
        "serial": f"{certificate.serial_number:x}",
        "not_before": certificate.not_valid_before_utc.isoformat(),
        "not_after": certificate.not_valid_after_utc.isoformat(),
    }


def _pck(leaf: x509.Certificate) -> dict[str, Described]:
    found = pck_extension(leaf)
    instance = found.platform_instance_id
    return {
        "ppid": found.ppid.hex(),
        "cpu_svn": found.cpu_svn.hex(),
        "pce_svn": found.pce_svn,
        "pce_id": found.pce_id.hex(),
        "fmspc": found.fmspc.hex(),
        "sgx_type": found.sgx_type,
        "sgx_type_name": SGX_TYPES.get(found.sgx_type, "unknown"),
        "platform_instance_id": None if instance is None else instance.hex(),
        "dynamic_platform": found.dynamic_platform,
        "cached_keys": found.cached_keys,
        "smt_enabled": found.smt_enabled,
    }
