"""The JSON envelopes of the ocicrypt key provider protocol, as the data hub of today has them.

Sources: guest-components ``confidential-data-hub/hub/src/bin/message``, containers/ocicrypt
``keywrap/keyprovider``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from keywrap.encoding import from_base64
from keywrap.errors import RequestFormatError
from secrecy import Secret

MAX_REQUEST: Final = 256 * 1024  # bytes; real ones have about 1 KiB

EnvelopeT = TypeVar("EnvelopeT")


class _DecryptConfig(msgspec.Struct):
    # A null where the reference wants a map is read as an empty one: it decides nothing.
    parameters: dict[str, list[str]] | None = msgspec.field(default=None, name="Parameters")


class _UnwrapParams(msgspec.Struct):
    annotation: str
    dc: _DecryptConfig | None = None


class _Envelope(msgspec.Struct):
    """Whoever sends an unwrap request writes all three; what is in the first two is not read."""

    op: str
    keywrapparams: dict[str, msgspec.Raw]
    keyunwrapparams: _UnwrapParams


@dataclass(frozen=True, slots=True)
class UnwrapRequest:
    """What a request asks to have unwrapped: the bytes of an annotation packet."""

    packet: bytes


def decode_envelope(data: bytes, kind: type[EnvelopeT]) -> EnvelopeT:
    """Parse JSON of bounded size and depth. Raises :class:`RequestFormatError`."""
    if len(data) > MAX_REQUEST:
        raise RequestFormatError("envelope", f"longer than {MAX_REQUEST} bytes")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Without "from": the decoder's text may quote what was sent.
        raise RequestFormatError(
            "envelope", "not JSON with op, keywrapparams and keyunwrapparams.annotation"
        ) from None


def decode_annotation(text: str) -> bytes:
    """Return the packet inside. Raises :class:`RequestFormatError`."""
    packet = from_base64(text)
    if not packet:
        raise RequestFormatError("keyunwrapparams.annotation", "not standard base64 of a packet")
    return packet


def parse_unwrap_request(data: bytes) -> UnwrapRequest:
    """Read a request by the rules of the data hub: the value of ``op`` is not looked at.

    Raises :class:`RequestFormatError` and nothing else.
    """
    envelope = decode_envelope(data, _Envelope)
    return UnwrapRequest(decode_annotation(envelope.keyunwrapparams.annotation))


def unwrap_reply(options: Secret) -> Secret:
    """Return the reply that holds ``options``, the unwrapped bytes.

    They are written as a list of integers: ocicrypt-rs reads nothing else, and Go reads both.
    """
    reply = {"keyunwrapresults": {"optsdata": list(options.reveal())}}
    return Secret(msgspec.json.encode(reply))
