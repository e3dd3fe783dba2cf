"""UEFI structures inside event data: variables, load events, device paths.

The data is the firmware's word and often not what the digest covers: nothing here raises, and what
does not parse is None. Source: UEFI 2.11 sections 8.2 and 10.3, TCG EFI Platform Specification.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

VARIABLE_HEAD: Final = 32  # GUID, length of the name in characters, length of the value
LOAD_EVENT_HEAD: Final = 32  # address, size, link address, length of the device path
MAX_NAME_CHARACTERS: Final = 512
MAX_NODES: Final = 32
END_OF_PATH: Final = 0x7F
PNP_BUS: Final = 0x41D0  # compressed "PNP"
PCI_ROOTS: Final = {0x0A03, 0x0A08}


@dataclass(frozen=True, slots=True)
class Variable:
    """UEFI_VARIABLE_DATA."""

    vendor: uuid.UUID
    name: str
    value: bytes = field(repr=False)


def parse_variable(data: bytes) -> Variable | None:
    """Return the variable, or None if lengths and data do not agree."""
    if len(data) < VARIABLE_HEAD:
        return None
    characters, size = struct.unpack_from("<QQ", data, 16)
    end = VARIABLE_HEAD + 2 * characters
    if characters > MAX_NAME_CHARACTERS or end + size != len(data):
        return None
    name = data[VARIABLE_HEAD:end].decode("utf-16-le", "replace")
    return Variable(uuid.UUID(bytes_le=data[:16]), name, data[end:])


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """UEFI_IMAGE_LOAD_EVENT: where an image was loaded from. It does not hold the image."""

    address: int
    size: int
    path: str


def parse_loaded_image(data: bytes) -> LoadedImage | None:
    """Return the load event, or None if lengths and data do not agree."""
    if len(data) < LOAD_EVENT_HEAD:
        return None
    address, size, _, length = struct.unpack_from("<QQQQ", data)
    if LOAD_EVENT_HEAD + length != len(data):
        return None
    return LoadedImage(address, size, device_path(data[LOAD_EVENT_HEAD:]))


def device_path(data: bytes) -> str:
    """Return a device path as text; nodes without a text form as ``Path(type,subtype,hex)``."""
    return "/".join(_node(kind, subtype, body) for kind, subtype, body in _nodes(data))


def _nodes(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    for _ in range(MAX_NODES):
        if len(data) - at < 4:
            return
        kind, subtype, length = struct.unpack_from("<BBH", data, at)
        if kind == END_OF_PATH or not 4 <= length <= len(data) - at:
            return
        yield kind, subtype, data[at + 4 : at + length]
        at += length


def _node(kind: int, subtype: int, body: bytes) -> str:
    match kind, subtype, len(body):
        case 1, 1, 2:
            return f"Pci({body[1]:#x},{body[0]:#x})"
        case 2, 1, 8:
            hid, uid = struct.unpack("<II", body)
            return _acpi(hid, uid)
        case 4, 1, 38:
            return _hard_drive(body)
        case 4, 3, size if size >= 16:
            return f"VenMedia({_guid(body)})"
        case 4, 4, _:
            return body.decode("utf-16-le", "replace").rstrip("\0")
        case 4, 6, 16:
            return f"FvFile({_guid(body)})"
        case 4, 7, 16:
            return f"Fv({_guid(body)})"
        case _:
            return f"Path({kind},{subtype},{body[:64].hex()})"


def _acpi(hid: int, uid: int) -> str:
    if hid & 0xFFFF == PNP_BUS:
        number = hid >> 16
        return f"PciRoot({uid:#x})" if number in PCI_ROOTS else f"Acpi(PNP{number:04X},{uid:#x})"
    return f"Acpi({hid:#010x},{uid:#x})"


def _hard_drive(body: bytes) -> str:
    number, start, size = struct.unpack_from("<IQQ", body)
    if body[37] == 2:  # signature type: GUID of a GPT partition
        return f"HD({number},GPT,{_guid(body[20:])},{start:#x},{size:#x})"
    return f"HD({number},MBR,{body[20:24][::-1].hex()},{start:#x},{size:#x})"


def _guid(data: bytes) -> str:
    return str(uuid.UUID(bytes_le=data[:16])).upper()
