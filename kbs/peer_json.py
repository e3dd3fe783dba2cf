"""JSON and base64url as a peer sends them, read without tolerance.

Two readers of one message must not see two different things: duplicate members, a second
encoding of the same bytes and numbers outside JSON are refused, not repaired. Size is bounded by
whoever reads the bytes; depth is bounded by the decoder.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final, NoReturn

# What the standard alphabet has instead, and padding, become a character that no alphabet has.
_TO_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_+/=", b"+/!!!")


class PeerTextError(ValueError):
    """The text is not acceptable; each caller turns this into the error of its own boundary."""


def decode_object(body: bytes) -> dict[str, object]:
    """Return the JSON object in ``body``.

    Raises :class:`PeerTextError` if it is not UTF-8, not JSON, not an object, too deep, or has a
    member twice at any level. The message never quotes the content.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique_members, parse_constant=_no_constant
        )
    except PeerTextError:
        raise
    except UnicodeDecodeError:
        # Without "from": the decoder's error object holds the bytes, which may be a secret.
        raise PeerTextError("not UTF-8 text") from None
    except RecursionError:
        raise PeerTextError("nested too deeply") from None
    except ValueError:
        raise PeerTextError("not JSON") from None
    if not isinstance(value, dict):
        raise PeerTextError("not a JSON object")
    return value


def _unique_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise PeerTextError("a member occurs twice")
    return members


def _no_constant(_name: str) -> NoReturn:
    raise PeerTextError("NaN and Infinity are not JSON")


def decode_base64url(text: str) -> bytes:
    """Decode base64url without padding (RFC 7515 2), in its one canonical spelling only.

    Raises :class:`PeerTextError` for padding, white space, the standard alphabet, an impossible
    length and bits beyond the last byte that are not zero.
    """
    if not text.isascii():
        raise PeerTextError("not base64url without padding")
    standard = text.encode("ascii").translate(_TO_STANDARD_ALPHABET) + b"=" * (-len(text) % 4)
    try:
        decoded = binascii.a2b_base64(standard, strict_mode=True)
    except binascii.Error:
        raise PeerTextError("not base64url without padding") from None
    tail = len(text) % 4
    if tail and encode_base64url(decoded[1 - tail :]) != text[-tail:]:
        # The last character holds bits that no byte takes up, and they are not zero.
        raise PeerTextError("not canonical base64url")
    return decoded


def encode_base64url(data: bytes) -> str:
    """Encode as base64url without padding (RFC 7515 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
