"""One receipt: its closed structures, its canonical bytes and its digest. No I/O.

The bytes are JSON in the form of RFC 8785 (members in order, no white space, shortest escapes,
integers below 2^53 only), so the same receipt has the same bytes everywhere; members that have
their default are left out. Bytes in any other spelling are no receipt. A digest is SHA-384 over
these bytes, without the line feed behind them.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from receipts.errors import ReceiptsFormatError

MAX_TEXT: Final = 512  # characters of a text in a receipt
MAX_RECEIPT_BYTES: Final = 16 * 1024  # five such texts of the widest characters and room
CUT: Final = "…"
DIGEST_HEX: Final = 96

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{96}\Z")]
Boot = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]

Act = Literal[
    "handshake", "evidence", "token", "release", "unseal", "unwrap-key", "mount", "unmount"
]
Verdict = Literal["allowed", "refused", "failed", "cancelled"]
CheckpointResult = Literal["measured", "not-supported", "not-enabled", "failed"]
LossCause = Literal["queue-full", "write-failed"]
Via = Literal["guest", "ttrpc", "grpc", "rest"]


class Caller(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who asked, as the kernel named them. ``guest``: these services themselves.

    ``pid`` 0 is nobody that was named, ``uid`` only counts beside a ``pid``.
    """

    via: Via = "guest"
    pid: Count = 0
    uid: Count = 0
    container: Text = ""


class Subject(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What was asked for. ``resource`` is a URI, or a key broker's address.

    ``sealed_sha384`` is over the sealed text, which the host has; never over what is in it.
    """

    resource: Text = ""
    kid: Text = ""
    sealed_sha384: Digest | Literal[""] = ""
    mount_point: Text = ""


class _Body(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, tag_field="kind"
):
    """What happened, one class for each kind."""


class Genesis(_Body, frozen=True, tag="genesis"):
    """The first receipt of a chain. ``boot`` is random and names this chain.

    ``after_damage``: there was another chain here that did not hold.
    """

    boot: Boot
    started_us: Count
    after_damage: bool = False


class Access(_Body, frozen=True, tag="access"):
    """Somebody asked for something. ``reason`` is why not, for people."""

    act: Act
    verdict: Verdict
    caller: Caller = Caller()
    subject: Subject = Subject()
    reason: Text = ""


class Checkpoint(_Body, frozen=True, tag="checkpoint"):
    """The head that was measured, or was to be. ``number`` counts from 1."""

    number: Count
    sequence: Count
    head: Digest
    result: CheckpointResult


class Gap(_Body, frozen=True, tag="gap"):
    """``lost`` accesses have no receipt."""

    lost: Count
    cause: LossCause


class Segment(_Body, frozen=True, tag="segment"):
    """The first receipt of a further file. Older ones than ``retained_from`` are dropped."""

    boot: Boot
    number: Count
    retained_from: Count


class Restart(_Body, frozen=True, tag="restart"):
    """The service started again on the same chain; ``torn`` bytes were half a receipt."""

    torn: Count = 0


class Stop(_Body, frozen=True, tag="stop"):
    """The service ended in order."""


Body = Genesis | Access | Checkpoint | Gap | Segment | Restart | Stop


class Receipt(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``previous`` is the digest of the receipt before; ``time_us`` the guest's clock, unix."""

    sequence: Count
    previous: Digest
    time_us: Count
    body: Body


_ENCODER: Final = msgspec.json.Encoder(order="sorted")
_DECODER: Final = msgspec.json.Decoder(Receipt)
StructT = TypeVar("StructT", bound=msgspec.Struct)


def encode(value: msgspec.Struct) -> bytes:
    """Return the canonical bytes, without a line feed."""
    return _ENCODER.encode(value)


def decode_canonical(
    decoder: msgspec.json.Decoder[StructT], data: bytes, what: str, problem: str
) -> StructT:
    """Return the structure in canonical bytes. Raises :class:`ReceiptsFormatError` for others.

    ``problem`` is said of bytes that are no such structure in any spelling.
    """
    try:
        value = decoder.decode(data)
        same = encode(value) == data
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        # Not chained: messages of the decoder may hold pieces of what it read.
        raise ReceiptsFormatError(what, problem) from None
    if not same:
        raise ReceiptsFormatError(what, "not in canonical form")
    return value


def decode(line: bytes) -> Receipt:
    """Return the receipt of canonical bytes. Raises :class:`ReceiptsFormatError` for others."""
    if len(line) > MAX_RECEIPT_BYTES:
        raise ReceiptsFormatError("a receipt", f"larger than {MAX_RECEIPT_BYTES} bytes")
    return decode_canonical(_DECODER, line, "a receipt", "not a receipt of a known kind")


def digest_of(line: bytes) -> str:
    """Return the SHA-384 of canonical bytes, in hex."""
    return hashlib.sha384(line).hexdigest()


def text(value: str) -> str:
    """Return ``value`` as a text that fits: one printable line, cut with a mark."""
    if len(value) > MAX_TEXT:
        value = value[: MAX_TEXT - 1] + CUT
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)
