"""One line of words for an event: what was measured, as far as its data tells.

The data of an event is not authenticated unless its digest covers it, so the words are a pointer
for a person, never a ground for a decision. Source: TCG PC Client Platform Firmware Profile, Linux
``drivers/firmware/efi/libstub``, GRUB ``tpm`` module, guest-components event log.
"""

from __future__ import annotations

import struct
from typing import Final

from tdx.eventlog import EV_EVENT_TAG, Event
from tdx.replay import rtmr_of

EV_IPL: Final = 0x0D
EV_EFI_VARIABLES: Final = frozenset({0x80000001, 0x80000002, 0x8000000C, 0x800000E0})
EV_EFI_APPLICATION: Final = 0x80000003
AAEL_TAG: Final = 0x4141454C
LOAD_OPTIONS_TAG: Final = 0x8F3B22ED
INITRD_TAG: Final = 0x8F3B22EC
MAX_WORDS: Final = 160  # characters; a kernel command line can be much longer

NAMES: Final = {
    0x03: "no action", 0x04: "separator", 0x05: "action", 0x06: "tagged event",
    0x08: "firmware version", 0x0A: "platform configuration", 0x0D: "boot loader",
    0x80000001: "UEFI variable", 0x80000002: "boot variable", 0x80000003: "EFI application",
    0x80000004: "EFI boot driver", 0x80000005: "EFI runtime driver",
    0x80000006: "partition table (GPT)", 0x80000007: "EFI action",
    0x80000008: "firmware volume", 0x80000009: "hand-off tables", 0x8000000A: "firmware volume",
    0x8000000B: "hand-off tables", 0x8000000C: "boot variable",
    0x800000E0: "secure boot authority",
}  # fmt: skip
_TAGS: Final = {LOAD_OPTIONS_TAG: "kernel command line (LoadOptions)", INITRD_TAG: "Linux initrd"}


def located(event: Event) -> str:
    """Return the register of an event, and :func:`describe`."""
    where = "MRTD" if event.register == 0 else f"RTMR{rtmr_of(event.register)}"
    return f"{where}: {describe(event)}"


def describe(event: Event) -> str:
    """Return the kind and the content of an event in one printable line."""
    name = NAMES.get(event.event_type, f"type {event.event_type:#x}")
    if event.event_type == EV_EVENT_TAG:
        return _line(_tagged(event.data))
    if event.event_type in EV_EFI_VARIABLES:
        return _line(f"{name} {variable_name(event.data)}".rstrip())
    if event.event_type == EV_EFI_APPLICATION:
        return _line(f"{name} {file_path(event.data)}".rstrip())
    return _line(f"{name} {_text(event.data)}".rstrip())


def tag_of(event: Event) -> int | None:
    """Return the tag of an EV_EVENT_TAG event."""
    if event.event_type != EV_EVENT_TAG or len(event.data) < 8:
        return None
    return int.from_bytes(event.data[:4], "little")


def variable_name(data: bytes) -> str:
    """Return the name in UEFI_VARIABLE_DATA (GUID, u64 characters, u64 bytes, name, value)."""
    if len(data) < 32:
        return ""
    characters = int.from_bytes(data[16:24], "little")
    return data[32 : 32 + 2 * min(characters, 128)].decode("utf-16-le", "replace")


def file_path(data: bytes) -> str:
    """Return the file path node of an image load event's device path, or nothing."""
    path = data[32:]
    while len(path) >= 4:
        kind, subtype, length = struct.unpack_from("<BBH", path)
        if length < 4:
            break
        if (kind, subtype) == (4, 4):
            return path[4:length].decode("utf-16-le", "replace").rstrip("\0")
        path = path[length:]
    return ""


def _tagged(data: bytes) -> str:
    if len(data) < 8:
        return "tagged event"
    tag, size = struct.unpack_from("<II", data)
    text = _text(data[8 : 8 + size])
    if tag == AAEL_TAG:
        return f"guest event {text}"
    return _TAGS.get(tag, f"tagged event {tag:#x} {text}".rstrip())


def _text(data: bytes) -> str:
    """The data as text, if it is text."""
    body = data.split(b"\0", 1)[0]
    printable = bool(body) and all(0x20 <= byte < 0x7F or byte in (9, 10) for byte in body)
    return body.decode("ascii") if printable else ""


def _line(words: str) -> str:
    shown = "".join(c if c.isprintable() else " " for c in words)
    return shown if len(shown) <= MAX_WORDS else shown[:MAX_WORDS] + "…"
