"""Signing a request to a dedicated KMS instance. No I/O.

Source: guest-components confidential-data-hub/kms/src/plugins/aliyun/client/client_key_client.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from kms.aliyun.credentials import ClientKey

API_VERSION: Final = "dkms-gcs-0.2"
SIGNATURE_METHOD: Final = "RSA_PKCS1_SHA_256"
CONTENT_TYPE: Final = "application/x-protobuf"


def string_to_sign(content_sha256: str, date: str, kms_headers: dict[str, str]) -> bytes:
    """Return what the signature of a POST to ``/`` covers; ``kms_headers`` begin with x-kms-."""
    lines = ["POST", content_sha256, CONTENT_TYPE, date]
    lines += [f"{name}:{kms_headers[name]}" for name in sorted(kms_headers)]
    return "\n".join([*lines, "/"]).encode()


def signed_headers(key: ClientKey, api: str, body: bytes, date: str) -> dict[str, str]:
    """Return all headers but Host and Content-Length. ``date`` as in RFC 9110 5.6.7.

    An RSA signature takes about a millisecond.
    """
    digest = hashlib.sha256(body).hexdigest().upper()
    kms_headers = {
        "x-kms-apiversion": API_VERSION,
        "x-kms-apiname": api,
        "x-kms-signaturemethod": SIGNATURE_METHOD,
        "x-kms-acccesskeyid": key.key_id,  # three c: the service's spelling
    }
    signature = key.private_key.sign(
        string_to_sign(digest, date, kms_headers), padding.PKCS1v15(), hashes.SHA256()
    )
    return {
        **kms_headers,
        "Accept": CONTENT_TYPE,
        "Content-Type": CONTENT_TYPE,
        "Content-Sha256": digest,
        "date": date,
        "Authorization": f"Bearer {base64.b64encode(signature).decode()}",
    }
