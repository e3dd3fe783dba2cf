"""The encodings of the KBS wire: two strict base64 alphabets, bounded JSON, canonical JSON.

The standard alphabet with padding and the URL-safe one without are never interchangeable, so each
has its own pair of functions. All failures are :class:`ValueError` with a short text of ours.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Final

from mocktee.kbs.errors import MalformedError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

_URL_SAFE: Final = re.compile(rb"[A-Za-z0-9_-]*")


def b64_encode(data: bytes) -> str:
    """Standard alphabet, padded."""
    return base64.b64encode(data).decode("ascii")


def b64_decode(text: str) -> bytes:
    """Decode the standard alphabet with padding. Raises ``ValueError``."""
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise MalformedError("not standard base64 with padding") from error


def b64u_encode(data: bytes) -> str:
    """URL-safe alphabet, no padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def b64u_decode(text: str) -> bytes:
    """Decode the URL-safe alphabet without padding. Raises ``ValueError``, also on stray bits."""
    raw = text.encode("ascii", errors="replace")
    if _URL_SAFE.fullmatch(raw) is None or len(raw) % 4 == 1:
        raise MalformedError("not URL-safe base64 without padding")
    data = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    if b64u_encode(data) != text:
        raise MalformedError("URL-safe base64 with stray trailing bits")
    return data


def canonical_json(value: Json) -> bytes:
    """RFC 8785 for the data that occurs here: ASCII keys, strings, no floating-point numbers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def compact_json(value: Json) -> bytes:
    """Compact JSON that keeps the order of members."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def parse_json(data: bytes) -> Json:
    """Parse one JSON value, as strictly as serde_json and with members unique.

    Raises ``ValueError`` on bad text, deep nesting, and surrogates that stand alone.
    """
    try:
        value: Json = json.loads(
            data, object_pairs_hook=_unique_members, parse_constant=_refuse_constant
        )
        compact_json(value)  # a lone surrogate shows when the text is encoded again
    except (ValueError, RecursionError) as error:
        raise MalformedError(f"not valid JSON ({type(error).__name__})") from error
    return value


def parse_object(data: bytes) -> dict[str, Json]:
    """Parse one JSON object. Raises ``ValueError``."""
    value = parse_json(data)
    if not isinstance(value, dict):
        raise MalformedError("not a JSON object")
    return value


def _unique_members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedError("duplicate member")
    return members


def _refuse_constant(name: str) -> Json:
    raise MalformedError(f"{name} is not JSON")
