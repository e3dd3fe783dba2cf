"""The file that leaves the guest: the receipts as lines, and a last line with the head. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from receipts.chain import Head
from receipts.errors import ReceiptsFormatError
from receipts.record import Count, Digest, decode_canonical, encode

MAX_EXPORT_BYTES: Final = 512 << 20
END_START: Final = b'{"end":'
UNKNOWN_END: Final = "its last line is not of a known form"


class _End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``records`` lines stand before this one; ``head`` is of the last of them."""

    end: int
    head: Digest
    records: Count
    sequence: Count


_DECODER: Final = msgspec.json.Decoder(_End)
FORM: Final = 1  # of the export


@dataclass(frozen=True, slots=True)
class Export:
    """``head`` is what the last line says; ``None``: there is no such line."""

    lines: tuple[bytes, ...]
    head: Head | None


def encode_export(lines: Sequence[bytes], head: Head) -> bytes:
    """Return the bytes of an export of at least one receipt."""
    end = encode(_End(FORM, head.digest, len(lines), head.sequence))
    return b"".join(line + b"\n" for line in (*lines, end))


def parse_export(data: bytes) -> Export:
    """Split an export, or the files of a chain one behind the other, which have no last line.

    Raises :class:`ReceiptsFormatError`. The receipts themselves are not looked at.
    """
    if len(data) > MAX_EXPORT_BYTES:
        raise ReceiptsFormatError("an export", f"larger than {MAX_EXPORT_BYTES} bytes")
    if not data.endswith(b"\n"):
        raise ReceiptsFormatError("an export", "empty, or its last line is cut off")
    lines = data[:-1].split(b"\n")
    if not lines[-1].startswith(END_START):
        return Export(tuple(lines), None)
    end = decode_canonical(_DECODER, lines.pop(), "an export", UNKNOWN_END)
    if end.end != FORM:
        raise ReceiptsFormatError("an export", UNKNOWN_END)
    if end.records != len(lines):
        problem = f"its last line counts {end.records} receipts, there are {len(lines)}"
        raise ReceiptsFormatError("an export", problem)
    return Export(tuple(lines), Head(end.sequence, end.head))
