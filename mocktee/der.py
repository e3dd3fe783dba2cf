"""A DER encoder for the few ASN.1 types of the SGX certificate extension (X.690, section 8)."""

from __future__ import annotations

from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30


def element(tag: int, content: bytes) -> bytes:
    """One tag-length-value, definite length in its shortest form."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _twos_complement(value: int) -> bytes:
    # Values here are never negative; one more bit keeps the sign clear (255 becomes 00 FF).
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def integer(value: int) -> bytes:
    return element(INTEGER, _twos_complement(value))


def enumerated(value: int) -> bytes:
    return element(ENUMERATED, _twos_complement(value))


def boolean(value: bool) -> bytes:
    return element(BOOLEAN, b"\xff" if value else b"\x00")


def octet_string(value: bytes) -> bytes:
    return element(OCTET_STRING, value)


def sequence(*items: bytes) -> bytes:
    return element(SEQUENCE, b"".join(items))


def object_identifier(dotted: str) -> bytes:
    """Raises ``ValueError`` for text that is not dotted numbers."""
    first, second, *rest = (int(part) for part in dotted.split("."))
    return element(
        OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *rest))
    )


def _base128(arc: int) -> bytes:
    groups = [arc & 0x7F]
    while arc := arc >> 7:
        groups.append(0x80 | (arc & 0x7F))
    return bytes(reversed(groups))
