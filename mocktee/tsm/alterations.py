"""Quotes that went wrong on their way: bytes of a good version 4 or 5 quote, spoiled by name.

Pure functions. Where something is in a quote follows Intel sgx_quote_4.h and sgx_quote_5.h; the
certificate chain is the PEM text at the end of the signature section.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

HEADER_BYTES: Final = 48
REPORT_DATA_IN_BODY: Final = slice(520, 584)
BODY_BYTES: Final = {2: 584, 3: 648, 4: 885}  # by body type of version 5; version 4 has type 2
CERTIFICATE: Final = re.compile(rb"-----BEGIN.*?-----END CERTIFICATE-----\n", re.DOTALL)


class QuoteMap:
    """Offsets of a well-formed quote."""

    def __init__(self, quote: bytes) -> None:
        version = int.from_bytes(quote[:2], "little")
        self.body = HEADER_BYTES + (6 if version == 5 else 0)
        kind = int.from_bytes(quote[48:50], "little") if version == 5 else 2
        self.section_length = self.body + BODY_BYTES[kind]
        self.section = self.section_length + 4
        self.outer_size = self.section + 130
        self.qe_report = self.section + 134
        self.auth_size = self.qe_report + 448
        auth = int.from_bytes(quote[self.auth_size : self.auth_size + 2], "little")
        self.auth = self.auth_size + 2
        self.inner_size = self.auth + auth + 2
        self.chain = self.inner_size + 4

    def signed_parts(self) -> dict[str, int]:
        """A byte in each part that some signature covers, or that is a signature."""
        return {
            "header": 12,
            "body": self.body + 136,
            "signature": self.section,
            "key": self.section + 64,
            "qe_report": self.qe_report + 64,
            "qe_signature": self.qe_report + 384,
            "auth_data": self.auth,
        }

    def length_fields(self) -> dict[str, tuple[int, int]]:
        """Offset and size of each length that the host chooses."""
        fields = {
            "section": (self.section_length, 4),
            "outer": (self.outer_size, 4),
            "auth": (self.auth_size, 2),
            "inner": (self.inner_size, 4),
        }
        return fields | ({"body": (50, 4)} if self.body > HEADER_BYTES else {})


PARTS: Final = ("header", "body", "signature", "key", "qe_report", "qe_signature", "auth_data")
LENGTHS: Final = ("section", "outer", "auth", "inner", "body")


def flipped(quote: bytes, part: str) -> bytes:
    """One bit of a signed part changed."""
    offset = QuoteMap(quote).signed_parts()[part]
    return quote[:offset] + bytes([quote[offset] ^ 1]) + quote[offset + 1 :]


def lying(quote: bytes, field: str, delta: int) -> bytes:
    """A length that is off by ``delta``, modulo its size; nothing else changed.

    Version 4 has no ``body`` length: its version is what a parser takes the body's size from, so
    that becomes 5.
    """
    fields = QuoteMap(quote).length_fields()
    if field not in fields:
        return other_version(quote, 5)
    offset, size = fields[field]
    value = int.from_bytes(quote[offset : offset + size], "little") + delta
    return (
        quote[:offset] + (value % (1 << 8 * size)).to_bytes(size, "little") + quote[offset + size :]
    )


def swapped_report_data(quote: bytes) -> bytes:
    """The report data in reverse order of bytes."""
    start = QuoteMap(quote).body
    field = slice(start + REPORT_DATA_IN_BODY.start, start + REPORT_DATA_IN_BODY.stop)
    return quote[: field.start] + quote[field][::-1] + quote[field.stop :]


def other_version(quote: bytes, version: int) -> bytes:
    """Another number where the version is; 3 is an SGX quote's."""
    return version.to_bytes(2, "little") + quote[2:]


def with_chain(quote: bytes, change: Callable[[list[bytes]], bytes]) -> bytes:
    """The chain replaced by what ``change`` makes of its certificates; lengths put right."""
    places = QuoteMap(quote)
    certificates: list[bytes] = CERTIFICATE.findall(quote[places.chain :])
    chain = change(certificates)
    head = bytearray(quote[: places.chain])
    for offset, start in (
        (places.section_length, places.section),
        (places.outer_size, places.qe_report),
        (places.inner_size, places.chain),
    ):
        size = places.chain - start + len(chain)
        head[offset : offset + 4] = size.to_bytes(4, "little")
    return bytes(head) + chain


def broken_pem(certificates: list[bytes]) -> bytes:
    """The armour stays, its content is no base64."""
    return b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n" * len(certificates)


CHAINS: Final[dict[str, Callable[[list[bytes]], bytes]]] = {
    "broken": broken_pem,
    "none": lambda _: b"",
    "leaf_only": lambda certificates: certificates[0],
    "reversed": lambda certificates: b"".join(reversed(certificates)),
}
