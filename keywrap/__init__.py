"""The key provider protocol of encrypted images: packets, keys and answers, without I/O.

Whoever has the key encryption key unwraps the options of an image layer: the data hub, and the
Attestation Agent for agents of the 0.8 era. Fetching that key is theirs; what the bytes mean is
here.
"""

from __future__ import annotations

from keywrap.envelope import MAX_REQUEST, UnwrapRequest, parse_unwrap_request, unwrap_reply
from keywrap.errors import (
    KekError,
    KeywrapError,
    PacketFormatError,
    PacketRefusedError,
    RequestFormatError,
    WrappedKeyError,
)
from keywrap.older import OlderUnwrapRequest, parse_older_unwrap_request, split_kbc_params
from keywrap.packet import KBS_PROVIDER, AnnotationPacket, KbsWrapping, WrapType, parse_packet
from keywrap.unwrap import KEK_BYTES, KekSource, open_packet, unwrap

__all__ = [
    "KBS_PROVIDER",
    "KEK_BYTES",
    "MAX_REQUEST",
    "AnnotationPacket",
    "KbsWrapping",
    "KekError",
    "KekSource",
    "KeywrapError",
    "OlderUnwrapRequest",
    "PacketFormatError",
    "PacketRefusedError",
    "RequestFormatError",
    "UnwrapRequest",
    "WrapType",
    "WrappedKeyError",
    "open_packet",
    "parse_older_unwrap_request",
    "parse_packet",
    "parse_unwrap_request",
    "split_kbc_params",
    "unwrap",
    "unwrap_reply",
]
