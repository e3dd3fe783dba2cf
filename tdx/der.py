"""A reader for the little DER that an SGX extension holds: bounded, definite lengths only.

Source: ITU-T X.690. Raises ``ValueError`` on anything else; callers say which document it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
SEQUENCE: Final = 0x30
MAX_LENGTH_BYTES: Final = 3


def elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element; they must fill ``data`` exactly."""
    at = 0
    while at < len(data):
        if len(data) - at < 2:
            raise ValueError("an element is cut")
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= MAX_LENGTH_BYTES or count > len(data) - at:
                raise ValueError("a length is not definite, or too long")
            length = int.from_bytes(data[at : at + count], "big")
            at += count
        if length > len(data) - at:
            raise ValueError("an element runs over the end")
        yield tag, data[at : at + length]
        at += length


def only(data: bytes, tag: int) -> bytes:
    """Return the content of the one element in ``data``, which must have this tag."""
    found = list(elements(data))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"expected one element of tag {tag:#x}")
    return found[0][1]


def integer(content: bytes) -> int:
    """Return the value of an INTEGER or ENUMERATED."""
    if not content:
        raise ValueError("an empty integer")
    return int.from_bytes(content, "big", signed=True)
