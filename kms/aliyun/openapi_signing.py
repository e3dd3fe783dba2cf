"""Signing a call of Alibaba Cloud's RPC-style OpenAPI. No I/O.

Source: Alibaba Cloud, "Request structure and signature of RPC-style APIs", signature version 1.0.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from urllib.parse import quote

from secrecy import Secret


def encoded(text: str) -> str:
    """Percent-encode as RFC 3986 has it: only letters, digits and ``-_.~`` stay."""
    return quote(text, safe="~")


def canonical_query(parameters: dict[str, str]) -> str:
    """Return the parameters sorted and encoded."""
    return "&".join(f"{encoded(name)}={encoded(parameters[name])}" for name in sorted(parameters))


def string_to_sign(parameters: dict[str, str]) -> str:
    """Return what the signature of a POST to ``/`` covers."""
    return f"POST&%2F&{encoded(canonical_query(parameters))}"


def signature(parameters: dict[str, str], access_key_secret: Secret) -> str:
    """Return the parameter ``Signature``: base64 of HMAC-SHA1, the only method of version 1.0."""
    key = access_key_secret.reveal() + b"&"
    digest = hmac.new(key, string_to_sign(parameters).encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def signed_query(parameters: dict[str, str], access_key_secret: Secret) -> str:
    """Return the whole query of the request, signature included."""
    made = signature(parameters, access_key_secret)
    return f"{canonical_query(parameters)}&Signature={encoded(made)}"
