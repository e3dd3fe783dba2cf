"""The event log of evidence: parsing (TCG PC Client Platform Firmware Profile) and replay.

Owns the record format and the arithmetic of the registers. Register 1 to 4 of the log is RTMR 0 to
3 (UEFI 2.11, section 38); what the log of a quote has to agree with is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from mocktee.kbs.errors import EvidenceRefusedError

MAX_LOG: Final = 1024 * 1024
MAX_ALGORITHMS: Final = 8
SHA384: Final = 0x000C
EV_NO_ACTION: Final = 0x3

_DIGEST_SIZES: Final = {0x0004: 20, 0x000B: 32, SHA384: 48, 0x000D: 64, 0x0012: 32}
_ALGORITHM_NAMES: Final = {
    0x0004: "SHA-1",
    0x000B: "SHA-256",
    SHA384: "SHA-384",
    0x000D: "SHA-512",
    0x0012: "SM3-256",
}
_TERMINATORS: Final = (b"\xff" * 8, b"\x00" * 8)

EVENT_TYPES: Final[Mapping[int, str]] = {
    0x00: "EV_PREBOOT_CERT",
    0x01: "EV_POST_CODE",
    EV_NO_ACTION: "EV_NO_ACTION",
    0x04: "EV_SEPARATOR",
    0x05: "EV_ACTION",
    0x06: "EV_EVENT_TAG",
    0x07: "EV_S_CRTM_CONTENTS",
    0x08: "EV_S_CRTM_VERSION",
    0x09: "EV_CPU_MICROCODE",
    0x0A: "EV_PLATFORM_CONFIG_FLAGS",
    0x0B: "EV_TABLE_OF_DEVICES",
    0x0C: "EV_COMPACT_HASH",
    0x0D: "EV_IPL",
    0x0E: "EV_IPL_PARTITION_DATA",
    0x0F: "EV_NONHOST_CODE",
    0x10: "EV_NONHOST_CONFIG",
    0x11: "EV_NONHOST_INFO",
    0x12: "EV_OMIT_BOOT_DEVICE_EVENTS",
    0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG",
    0x80000002: "EV_EFI_VARIABLE_BOOT",
    0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
    0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER",
    0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER",
    0x80000006: "EV_EFI_GPT_EVENT",
    0x80000007: "EV_EFI_ACTION",
    0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    0x80000009: "EV_EFI_HANDOFF_TABLES",
    0x8000000A: "EV_EFI_PLATFORM_FIRMWARE_BLOB2",
    0x8000000B: "EV_EFI_HANDOFF_TABLES2",
    0x8000000C: "EV_EFI_VARIABLE_BOOT2",
    0x80000010: "EV_EFI_HCRTM_EVENT",
    0x800000E0: "EV_EFI_VARIABLE_AUTHORITY",
    0x800000E1: "EV_EFI_SPDM_FIRMWARE_BLOB",
    0x800000E2: "EV_EFI_SPDM_FIRMWARE_CONFIG",
}


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One record: the register it says it extended, and what it says it extended it with."""

    register: int
    type: int
    digests: tuple[tuple[int, bytes], ...]
    data: bytes

    def digest(self, algorithm: int) -> bytes | None:
        """Return the digest of one algorithm, if the record has it."""
        return dict(self.digests).get(algorithm)

    @property
    def type_name(self) -> str:
        """Return the name that claims carry."""
        return EVENT_TYPES[self.type]

    def named_digests(self) -> Iterable[tuple[str, bytes]]:
        """Yield algorithm names and digests."""
        return ((_ALGORITHM_NAMES[algorithm], digest) for algorithm, digest in self.digests)


class _Cursor:
    """Reads little-endian numbers and never past the end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int, what: str) -> bytes:
        if size > len(self._data) - self.at:
            raise EvidenceRefusedError(f"event log: {what} at byte {self.at} runs past the end")
        self.at += size
        return self._data[self.at - size : self.at]

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def at_end(self) -> bool:
        rest = self._data[self.at : self.at + 8]
        return not rest or rest in _TERMINATORS


def parse_event_log(data: bytes) -> list[LoggedEvent]:
    """Parse a log to its end mark or its exact end. Raises :class:`EvidenceRefusedError`.

    The first record only names the digest algorithms; it is not an event.
    """
    if len(data) > MAX_LOG:
        raise EvidenceRefusedError(f"event log: {len(data)} bytes, at most {MAX_LOG} are read")
    cursor = _Cursor(data)
    algorithms = _specification(cursor)
    events = []
    while not cursor.at_end():
        events.append(_record(cursor, algorithms))
    return events


def _specification(cursor: _Cursor) -> frozenset[int]:
    cursor.take(4, "first record")
    if cursor.number(4, "first record") != EV_NO_ACTION:
        raise EvidenceRefusedError("event log: the first record is not EV_NO_ACTION")
    cursor.take(20, "first record")
    content = _Cursor(cursor.take(cursor.number(4, "first record"), "first record"))
    content.take(24, "specification header")
    count = content.number(4, "algorithm count")
    if not 1 <= count <= MAX_ALGORITHMS:
        raise EvidenceRefusedError(f"event log: {count} digest algorithms")
    algorithms = set()
    for _ in range(count):
        algorithm = content.number(2, "algorithm")
        size = content.number(2, "digest size")
        if _DIGEST_SIZES.get(algorithm) != size:
            raise EvidenceRefusedError(f"event log: algorithm {algorithm:#06x} of {size} bytes")
        algorithms.add(algorithm)
    return frozenset(algorithms)


def _record(cursor: _Cursor, algorithms: frozenset[int]) -> LoggedEvent:
    start = cursor.at
    register = cursor.number(4, "record")
    kind = cursor.number(4, "record")
    if kind not in EVENT_TYPES:
        raise EvidenceRefusedError(f"event log: unknown event type {kind:#x} at byte {start}")
    count = cursor.number(4, "digest count")
    if count > len(algorithms):
        raise EvidenceRefusedError(f"event log: {count} digests in the record at byte {start}")
    digests: list[tuple[int, bytes]] = []
    for _ in range(count):
        algorithm = cursor.number(2, "digest algorithm")
        if algorithm not in algorithms or algorithm in dict(digests):
            raise EvidenceRefusedError(
                f"event log: unexpected algorithm {algorithm:#06x} in the record at byte {start}"
            )
        digests.append((algorithm, cursor.take(_DIGEST_SIZES[algorithm], "digest")))
    data = cursor.take(cursor.number(4, "event size"), "event data")
    return LoggedEvent(register=register, type=kind, digests=tuple(digests), data=data)


def replay(events: Iterable[LoggedEvent]) -> tuple[bytes, bytes, bytes, bytes]:
    """Return what RTMR 0 to 3 hold if exactly these events extended them from zero."""
    registers = [bytes(48)] * 4
    for event in events:
        if not 1 <= event.register <= 4:
            continue
        digest = event.digest(SHA384)
        if digest is None:
            raise EvidenceRefusedError("event log: a record has no SHA-384 digest")
        index = event.register - 1
        registers[index] = hashlib.sha384(registers[index] + digest).digest()
    return registers[0], registers[1], registers[2], registers[3]
