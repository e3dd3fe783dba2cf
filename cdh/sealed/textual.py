"""The outer form of a sealed secret: ``sealed.`` and a compact JWS (RFC 7515, 3.1).

Splits and decodes only; says nothing about whether the content is to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cdh.errors import SealedFormatError
from kbs.peer_json import PeerTextError, decode_base64url
from keywrap.encoding import from_base64

PREFIX: Final = "sealed."
MAX_BYTES: Final = 64 * 1024  # of the whole text; the largest useful ones are a few KiB
PAYLOAD: Final = "payload"  # the part that older tools encoded in another way
_OLDER_ONLY: Final = frozenset("+/=")


@dataclass(frozen=True, slots=True)
class SealedText:
    """The three sections of a compact JWS as received, not yet decoded."""

    header: str
    payload: str
    signature: str

    @property
    def signing_input(self) -> bytes:
        """What the signature covers (RFC 7515, 5.1 step 5)."""
        return f"{self.header}.{self.payload}".encode("ascii")


def is_sealed(text: str) -> bool:
    """Tell whether a value is marked as sealed. Nothing but the prefix marks one."""
    return text.startswith(PREFIX)


def parse_sealed_text(data: bytes) -> SealedText:
    """Split a sealed secret into its sections. Raises :class:`SealedFormatError`.

    The prefix may be absent (agents of the CC-0.8 time cut it) or repeated, as the reference
    unsealer allows. One trailing line end is dropped: kata-agent passes files verbatim.
    """
    if len(data) > MAX_BYTES:
        raise SealedFormatError("text", f"longer than {MAX_BYTES} bytes")
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        # Without "from": the decoder's error object holds the bytes.
        raise SealedFormatError("text", "contains bytes that are not ASCII") from None
    text = text.removesuffix("\n").removesuffix("\r")
    while text.startswith(PREFIX):
        text = text.removeprefix(PREFIX)
    sections = text.split(".")
    if len(sections) != 3:
        raise SealedFormatError(
            "text",
            f"expected header.payload.signature, got {len(sections)} sections",
            hint="pass the whole text that the seal command printed",
        )
    header, payload, signature = sections
    return SealedText(header, payload, signature)


def decode_section(part: str, text: str) -> bytes:
    """Decode one section: base64url, unpadded, nothing else (RFC 7515, 2).

    Stricter than Python's decoder: no padding, no foreign characters, and no stray bits after
    the last byte, so that one value has exactly one text. A payload may be in the standard
    alphabet with padding instead, as tools up to guest-components v0.10 wrote it; a signature
    covers the text and not the value. Raises :class:`SealedFormatError`.
    """
    if part == PAYLOAD and not _OLDER_ONLY.isdisjoint(text):
        return _decode_older(part, text)
    try:
        return decode_base64url(text)
    except PeerTextError as error:
        raise SealedFormatError(part, str(error)) from None


def _decode_older(part: str, text: str) -> bytes:
    decoded = from_base64(text)
    if decoded is None:
        raise SealedFormatError(part, "neither unpadded base64url nor padded standard base64")
    return decoded
