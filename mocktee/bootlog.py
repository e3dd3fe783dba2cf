"""The confidential-computing event log of a mock boot (CCEL), and its replay.

Owns the bytes of the log area and of the ACPI table that points to it (UEFI 2.11 section 38,
TCG PC Client Platform Firmware Profile, ACPI CCEL). The boot is that of OVMF starting a kernel
directly: TD hand-off block, firmware volume, secure-boot variables, ACPI data, kernel image,
command line, initrd. Register 0 in the log is MRTD, register n is RTMR n-1.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

DIGEST_BYTES: Final = 48
SHA384: Final = 0x000C  # TPM_ALG_SHA384
LOG_AREA_BYTES: Final = 64 * 1024  # what OVMF reserves
TABLE_BYTES: Final = 56
LOG_AREA_ADDRESS: Final = 0x7D649000  # guest physical; any value is plausible
CC_TYPE_TDX: Final = 2

EV_NO_ACTION: Final = 0x03
EV_SEPARATOR: Final = 0x04
EV_EVENT_TAG: Final = 0x06
EV_PLATFORM_CONFIG_FLAGS: Final = 0x0A
EV_EFI_VARIABLE_DRIVER_CONFIG: Final = 0x80000001
EV_EFI_VARIABLE_BOOT: Final = 0x80000002
EV_EFI_BOOT_SERVICES_APPLICATION: Final = 0x80000003
EV_EFI_ACTION: Final = 0x80000007
EV_EFI_PLATFORM_FIRMWARE_BLOB2: Final = 0x8000000A
EV_EFI_HANDOFF_TABLES2: Final = 0x8000000B

LOAD_OPTIONS_TAG: Final = 0x8F3B22ED  # linux drivers/firmware/efi/libstub
INITRD_TAG: Final = 0x8F3B22EC
GLOBAL_VARIABLE: Final = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
IMAGE_SECURITY: Final = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le
TD_HOB: Final = uuid.UUID("f706dd8f-11ad-4e8e-8d8b-5c2b7e1b6a0e").bytes_le
QEMU_KERNEL_MEDIA: Final = uuid.UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7").bytes_le


@dataclass(frozen=True, slots=True)
class BootEvent:
    """One record. ``digest`` need not be the hash of ``data``: for most types it is not."""

    register: int
    kind: int
    digest: bytes
    data: bytes

    def encode(self) -> bytes:
        """TCG_PCR_EVENT2 with one SHA-384 digest, little-endian."""
        head = struct.pack("<IIIH", self.register, self.kind, 1, SHA384)
        return head + self.digest + struct.pack("<I", len(self.data)) + self.data


@dataclass(frozen=True, slots=True)
class BootInputs:
    """What is measured. The defaults are stand-ins with recognisable contents."""

    firmware: bytes = b"mock OVMF firmware volume"
    handoff: bytes = b"mock TD hand-off block"
    acpi: tuple[bytes, ...] = (b"mock RSDP", b"mock table loader", b"mock ACPI tables")
    kernel: bytes = b"mock kernel image"
    initrd: bytes = b"mock initrd"
    command_line: str = "console=hvc0 root=/dev/vda1 ro agent.log=info"


@dataclass(frozen=True, slots=True)
class BootLog:
    """An event log whose replay gives RTMR0 to RTMR2."""

    events: tuple[BootEvent, ...]

    def encode(self) -> bytes:
        """The used part of the log area: the specification-id record, then all events."""
        return spec_id_record() + b"".join(event.encode() for event in self.events)

    def data_file(self) -> bytes:
        """The whole log area as ``/sys/firmware/acpi/tables/data/CCEL`` shows it, 0xFF padded."""
        return self.encode().ljust(LOG_AREA_BYTES, b"\xff")

    def replay(self) -> tuple[bytes, bytes, bytes, bytes]:
        """RTMR0 to RTMR3 after these events, each starting at 48 zero bytes."""
        registers = [bytes(DIGEST_BYTES)] * 4
        for event in self.events:
            if event.register:
                index = event.register - 1
                registers[index] = extended(registers[index], event.digest)
        return registers[0], registers[1], registers[2], registers[3]


def extended(register: bytes, digest: bytes) -> bytes:
    """TDG.MR.RTMR.EXTEND: SHA-384 over the old value and a 48-byte digest.

    Raises ``ValueError`` for another length; nothing is padded or cut.
    """
    if len(digest) != DIGEST_BYTES:
        raise ValueError(f"extend by a digest of {len(digest)} bytes, expected {DIGEST_BYTES}")
    return hashlib.sha384(register + digest).digest()


def spec_id_record() -> bytes:
    """TCG_PCR_EVENT holding TCG_EfiSpecIDEvent: version 2.0, 8-byte UINTN, SHA-384 only."""
    data = b"Spec ID Event03\0" + struct.pack("<IBBBB", 0, 0, 2, 0, 2)
    data += struct.pack("<IHHB", 1, SHA384, DIGEST_BYTES, 0)
    return struct.pack("<II20sI", 1, EV_NO_ACTION, bytes(20), len(data)) + data


def ccel_table() -> bytes:
    """The ACPI table, 56 bytes that sum to 0 modulo 256."""
    header = struct.pack(
        "<4sIBB6s8sIII",
        b"CCEL",
        TABLE_BYTES,
        1,
        0,
        b"INTEL ",
        b"EDK2    ",
        2,
        0x20202020,
        0x01000013,
    )
    table = bytearray(
        header + struct.pack("<BBHQQ", CC_TYPE_TDX, 0, 0, LOG_AREA_BYTES, LOG_AREA_ADDRESS)
    )
    table[9] = -sum(table) % 256
    return bytes(table)


def boot(inputs: BootInputs | None = None) -> BootLog:
    """The log of a boot that measured ``inputs``."""
    source = inputs or BootInputs()
    return BootLog((*_firmware(source), *_kernel(source), *_operating_system(source)))


def _hash(data: bytes) -> bytes:
    return hashlib.sha384(data).digest()


def _plain(register: int, kind: int, data: bytes) -> BootEvent:
    """An event whose digest covers its own data."""
    return BootEvent(register, kind, _hash(data), data)


def _variable(vendor: bytes, name: str, value: bytes) -> bytes:
    """UEFI_VARIABLE_DATA: GUID, length of the name in characters, length of the value."""
    return vendor + struct.pack("<QQ", len(name), len(value)) + name.encode("utf-16-le") + value


def _firmware(source: BootInputs) -> Iterator[BootEvent]:
    handoff = b"\x09TdxTable\0" + struct.pack("<Q", 1) + TD_HOB + struct.pack("<Q", 0x809000)
    yield BootEvent(1, EV_EFI_HANDOFF_TABLES2, _hash(source.handoff), handoff)
    label = b"Fv(763BED0D-DE9F-48F5-81F1-3E90E1B1A015)\0"
    volume = bytes((len(label),)) + label + struct.pack("<QQ", 0xFFC00000, 0x84000)
    yield BootEvent(1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, _hash(source.firmware), volume)
    for vendor, name in (
        (GLOBAL_VARIABLE, "SecureBoot"),
        (GLOBAL_VARIABLE, "PK"),
        (GLOBAL_VARIABLE, "KEK"),
        (IMAGE_SECURITY, "db"),
        (IMAGE_SECURITY, "dbx"),
    ):
        yield _plain(1, EV_EFI_VARIABLE_DRIVER_CONFIG, _variable(vendor, name, b""))
    yield _plain(1, EV_SEPARATOR, bytes(4))
    for blob in source.acpi:
        yield BootEvent(1, EV_PLATFORM_CONFIG_FLAGS, _hash(blob), b"ACPI DATA")
    order = bytes(2)
    variable = _variable(GLOBAL_VARIABLE, "BootOrder", order)
    yield BootEvent(1, EV_EFI_VARIABLE_BOOT, _hash(order), variable)


def _kernel(source: BootInputs) -> Iterator[BootEvent]:
    yield _plain(2, EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
    yield _plain(2, EV_SEPARATOR, bytes(4))
    # Vendor media node, file path node "kernel", end node: the path Trustee prints as File(kernel).
    path = b"\x04\x03\x14\x00" + QEMU_KERNEL_MEDIA
    path += b"\x04\x04\x12\x00" + "kernel\0".encode("utf-16-le") + b"\x7f\xff\x04\x00"
    image = struct.pack("<QQQQ", 0x7CB30018, len(source.kernel), 0, len(path)) + path
    yield BootEvent(2, EV_EFI_BOOT_SERVICES_APPLICATION, _hash(source.kernel), image)
    yield _plain(2, EV_EFI_ACTION, b"Exit Boot Services Invocation")
    yield _plain(2, EV_EFI_ACTION, b"Exit Boot Services Returned with Success")


def _operating_system(source: BootInputs) -> Iterator[BootEvent]:
    options = (source.command_line + "\0").encode("utf-16-le")
    yield BootEvent(
        3, EV_EVENT_TAG, _hash(options), _tagged(LOAD_OPTIONS_TAG, b"LOADED_IMAGE::LoadOptions\0")
    )
    yield BootEvent(3, EV_EVENT_TAG, _hash(source.initrd), _tagged(INITRD_TAG, b"Linux initrd\0"))


def _tagged(tag: int, text: bytes) -> bytes:
    return struct.pack("<II", tag, len(text)) + text
