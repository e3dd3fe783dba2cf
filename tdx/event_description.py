"""What an event measured, in words, and what its digest covers.

For most records of a real log the digest is not the hash of the event's data: that is no sign of
tampering. Where it must be, or can be recomputed from the data, ``digest_holds`` says whether it
is. Source: TCG PC Client Platform Firmware Profile, Linux drivers/firmware/efi/libstub, GRUB and
systemd-stub; each rule was confirmed by hashing recorded logs.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from tdx.aael import guest_event
from tdx.event_types import type_name
from tdx.eventlog import EV_EVENT_TAG, EV_NO_ACTION, SHA384, Event
from tdx.uefi import parse_loaded_image, parse_variable

EV_IPL: Final = 0x0D
LOAD_OPTIONS_TAG: Final = 0x8F3B22ED  # linux drivers/firmware/efi/libstub
INITRD_TAG: Final = 0x8F3B22EC
LOAD_OPTIONS: Final = b"LOADED_IMAGE::LoadOptions"  # some kernels log it without a tag
GRUB_COLON: Final = (b"grub_cmd: ", b"kernel_cmdline: ")  # upstream
GRUB_PLAIN: Final = {b"grub_cmd ": b"\0", b"grub_kernel_cmdline ": b""}  # Alibaba Cloud, Anolis
MAX_TEXT: Final = 4096  # characters of a detail; kernel command lines are at most that long
MAX_SUMMARY: Final = 160


class Covers(enum.StrEnum):
    """What the digest is the hash of."""

    DATA = "event data"
    VALUE = "variable value"
    COMMAND = "command"
    SECTION_NAME = "section name"
    # The rest is not in the log, so it cannot be recomputed from it.
    IMAGE = "image (Authenticode)"
    MEMORY = "measured memory"
    COMMAND_LINE = "command line (UTF-16, with NUL)"
    INITRD = "initrd"
    CONTENTS = "contents of what is named"
    NOTHING = "nothing"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EventDescription:
    """``digest_holds`` is None where the event data does not suffice to say."""

    type_name: str
    summary: str
    covers: Covers
    digest_holds: bool | None
    details: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[Event], EventDescription]


def describe_event(event: Event) -> EventDescription:
    """Describe one record. Nothing raises: data that does not parse is shown as bytes."""
    return _RULES.get(event.event_type, _unknown)(event)


def printable(text: str, limit: int = MAX_SUMMARY) -> str:
    """Return text without control characters, cut to a limit: it comes from outside."""
    shown = "".join(char if char.isprintable() else "·" for char in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _made(
    event: Event, summary: str, covers: Covers, holds: bool | None, **details: str
) -> EventDescription:
    shown = {name: printable(value, MAX_TEXT) for name, value in details.items()}
    return EventDescription(type_name(event.event_type), printable(summary), covers, holds, shown)


def _hash_holds(event: Event, data: bytes) -> bool | None:
    digest = event.digest(SHA384)
    return None if digest is None else digest == hashlib.sha384(data).digest()


def _text(data: bytes) -> str:
    """The data as text: ASCII up to a NUL, or UTF-16; bytes as hex if it is neither."""
    if len(data) >= 4 and data[1] == 0 and data[0] != 0 and len(data) % 2 == 0:
        return data.decode("utf-16-le", "replace").rstrip("\0")
    head = data.split(b"\0", 1)[0]
    if head and all(0x20 <= byte < 0x7F or byte in b"\t\n" for byte in head):
        return head.decode("ascii")
    return data[:32].hex() + ("…" if len(data) > 32 else "")


def _whole(words: str) -> Rule:
    """Events whose digest is the hash of all their data."""

    def rule(event: Event) -> EventDescription:
        text = _text(event.data)
        return _made(event, f"{words} {text}", Covers.DATA, _hash_holds(event, event.data))

    return rule


def _separator(event: Event) -> EventDescription:
    kind = {bytes(4): "end of firmware measurements", b"\1\0\0\0": "an error"}
    words = kind.get(event.data, f"with data {_text(event.data)}")
    return _made(event, f"separator: {words}", Covers.DATA, _hash_holds(event, event.data))


def _memory(words: str, *, length_first: bool = False) -> Rule:
    """Events that name memory which was measured; the ``2`` types put a length before the name."""

    def rule(event: Event) -> EventDescription:
        name = event.data[1 : 1 + event.data[0]] if length_first and event.data else event.data
        text = _text(name)
        return _made(event, f"{words} {text}", Covers.MEMORY, None, name=text)

    return rule


def _variable(event: Event) -> EventDescription:
    found = parse_variable(event.data)
    if found is None:
        return _made(event, "UEFI variable, malformed", Covers.DATA, _hash_holds(event, event.data))
    value = found.value.hex() if len(found.value) <= 16 else f"{len(found.value)} bytes"
    return _made(
        event,
        f"UEFI variable {found.name} = {value or 'empty'}",
        Covers.DATA,
        _hash_holds(event, event.data),
        vendor=str(found.vendor), name=found.name, value=found.value.hex(),
    )  # fmt: skip


def _boot_variable(event: Event) -> EventDescription:
    found = parse_variable(event.data)
    if found is None:
        return _made(event, "boot variable, malformed", Covers.UNKNOWN, None)
    value_holds = _hash_holds(event, found.value)
    whole_holds = _hash_holds(event, event.data)
    return _made(
        event,
        f"boot variable {found.name}, {len(found.value)} bytes",
        Covers.DATA if whole_holds else Covers.VALUE,
        value_holds or whole_holds,
        vendor=str(found.vendor), name=found.name, value=found.value.hex(),
    )  # fmt: skip


def _image(event: Event) -> EventDescription:
    found = parse_loaded_image(event.data)
    if found is None:
        return _made(event, "EFI image, malformed load event", Covers.IMAGE, None)
    file = found.path.rsplit("/", 1)[-1] or "from memory"
    size = str(found.size)
    return _made(event, f"EFI image {file}", Covers.IMAGE, None, path=found.path, size=size)


def _tag(event: Event) -> EventDescription:
    guest = guest_event(event)
    if guest is not None:
        return _made(
            event, f"guest event: {guest}", Covers.DATA, _hash_holds(event, event.data),
            domain=guest.domain, operation=guest.operation, content=guest.content,
        )  # fmt: skip
    tag = int.from_bytes(event.data[:4], "little")
    if tag == LOAD_OPTIONS_TAG or event.data.startswith(LOAD_OPTIONS):
        return _made(event, "kernel command line (EFI stub)", Covers.COMMAND_LINE, None)
    if tag == INITRD_TAG:
        return _made(event, "initrd (EFI stub)", Covers.INITRD, None)
    holds = _hash_holds(event, event.data) or None  # another tag may cover something else
    covers = Covers.DATA if holds else Covers.UNKNOWN
    return _made(event, f"tagged event {tag:#x} {_text(event.data[8:])}", covers, holds)


def _ipl(event: Event) -> EventDescription:
    data = event.data
    for prefix in GRUB_COLON:
        if data.startswith(prefix):
            return _command(event, data.removeprefix(prefix).rstrip(b"\0"))
    for prefix, ending in GRUB_PLAIN.items():
        if data.startswith(prefix):
            # One stray byte follows the NUL in the data; the digest does not cover it.
            return _command(event, data.removeprefix(prefix).split(b"\0", 1)[0] + ending)
    text = _text(data)
    if text.startswith("."):  # systemd-stub: each section twice, first its name
        if _hash_holds(event, text.encode() + b"\0"):
            return _made(event, f"name of section {text}", Covers.SECTION_NAME, True, name=text)
        return _made(event, f"section {text}", Covers.CONTENTS, None, name=text)
    return _made(event, f"boot loader: {text}", Covers.CONTENTS, None, name=text)


def _command(event: Event, covered: bytes) -> EventDescription:
    text = _text(event.data)
    words = "kernel command line" if "kernel_cmdline" in text[:24] else "boot loader command"
    command = covered.rstrip(b"\0").decode("utf-8", "replace")
    return _made(
        event, f"{words}: {command}", Covers.COMMAND, _hash_holds(event, covered), command=command
    )


def _no_action(event: Event) -> EventDescription:
    return _made(event, f"information: {_text(event.data[:16])}", Covers.NOTHING, None)


def _unknown(event: Event) -> EventDescription:
    holds = _hash_holds(event, event.data) or None
    covers = Covers.DATA if holds else Covers.UNKNOWN
    return _made(event, f"{len(event.data)} bytes: {_text(event.data)}", covers, holds)


_RULES: Final[Mapping[int, Rule]] = {
    EV_NO_ACTION: _no_action,
    0x01: _memory("firmware data"),
    0x04: _separator,
    0x05: _whole("action:"),
    EV_EVENT_TAG: _tag,
    0x08: _whole("firmware version"),
    0x0A: _memory("platform configuration"),
    EV_IPL: _ipl,
    0x80000001: _variable,
    0x80000002: _boot_variable,
    0x80000003: _image,
    0x80000004: _image,
    0x80000005: _image,
    0x80000006: _whole("partition table (GPT)"),
    0x80000007: _whole("EFI action:"),
    0x80000008: _memory("firmware volume"),
    0x80000009: _memory("hand-off table"),
    0x8000000A: _memory("firmware volume", length_first=True),
    0x8000000B: _memory("hand-off table", length_first=True),
    0x8000000C: _boot_variable,
    0x800000E0: _variable,
}
