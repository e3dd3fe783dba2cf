"""Forms of the boot event log file: as firmware writes it, and spoiled by name.

Pure functions over a boot log. Layout: TCG_PCR_EVENT2 as in ``mocktee.bootlog``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Final

from mocktee.bootlog import DIGEST_BYTES, EV_SEPARATOR, BootEvent, BootLog

MAX_AREA: Final = 1 << 20
UNKNOWN_TYPE: Final = 0x7F00_0001
RECORD: Final = BootEvent(1, EV_SEPARATOR, bytes(DIGEST_BYTES), bytes(4))


def _padded(data: bytes) -> bytes:
    return data + b"\xff" * 64


def _duplicated(log: BootLog) -> bytes:
    separator = next(event for event in log.events if event.kind == EV_SEPARATOR)
    return log.encode() + separator.encode()


def _of_type(log: BootLog) -> bytes:
    last = log.events[-1]
    renamed = BootEvent(last.register, UNKNOWN_TYPE, last.digest, last.data)
    return BootLog((*log.events[:-1], renamed)).encode()


FORMS: Final[dict[str, Callable[[BootLog], bytes | None]]] = {
    # What firmware writes.
    "whole": lambda log: log.data_file(),
    "zero_mark": lambda log: log.encode() + bytes(64),
    "no_mark": lambda log: log.encode(),
    "large_area": lambda log: log.encode().ljust(MAX_AREA, b"\xff"),
    "unknown_type": lambda log: _padded(_of_type(log)),
    # Well-formed, but not the log of this boot.
    "duplicated_separator": lambda log: _padded(_duplicated(log)),
    "reordered": lambda log: _padded(BootLog((*log.events[2:], *log.events[:2])).encode()),
    # Malformed.
    "absent": lambda _: None,
    "empty": lambda _: b"",
    "truncated": lambda log: log.encode()[:-20],
    "rest": lambda log: log.encode() + b"\xff" * 5,
    "unknown_algorithm": lambda log: _padded(log.encode() + _with_algorithm(0x0027)),
    "many_digests": lambda log: _padded(log.encode() + struct.pack("<III", 1, 4, 2**32 - 1)),
    "long_event": lambda log: _padded(log.encode() + RECORD.encode()[:-8] + b"\xff" * 4),
    "beyond_the_area": lambda log: log.encode().ljust(MAX_AREA + 1, b"\xff"),
}


def _with_algorithm(algorithm: int) -> bytes:
    record = RECORD.encode()
    return record[:12] + struct.pack("<H", algorithm) + record[14:]
