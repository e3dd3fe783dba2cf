"""Base64 as the protocol has it: standard alphabet, padded, one text for each value."""

from __future__ import annotations

import base64
import binascii


def from_base64(text: str) -> bytes | None:
    """Return the bytes, or None for anything else than the one text that encodes them.

    RFC 4648, section 4. Rust's decoder of the reference refuses the same: foreign characters,
    missing padding, and bits after the last byte.
    """
    try:
        data = binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError):
        # Not chained: the text may be a wrapped key.
        return None
    return data if base64.b64encode(data).decode("ascii") == text else None
