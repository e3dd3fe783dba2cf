"""The values an operator registers, from a good boot or from what a boot will measure.

An event log of a good boot is the template: what changes (kernel, initrd, command line) is put in
its place and the log replayed. Without a template only RTMR2 of a kernel that firmware starts
directly can be computed. What cannot be computed is said, never guessed. Source: Linux
``drivers/firmware/efi/libstub`` (LoadOptions, initrd), GRUB ``tpm`` module, OVMF.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from explain.authenticode import authenticode_sha384
from explain.errors import BootMeasurementError
from explain.reference_values import QUOTE_FIELDS, ReferenceValues
from tdx.event_description import EV_IPL, INITRD_TAG, LOAD_OPTIONS_TAG, describe_event
from tdx.eventlog import EV_EVENT_TAG, SHA384, Digest, Event
from tdx.quote import Quote
from tdx.replay import START, extended, replay, rtmr_of
from tdx.uefi import parse_loaded_image

EV_EFI_APPLICATION: Final = 0x80000003
BOOT_RTMRS: Final = (0, 1, 2)  # RTMR3 is what the guest measures at run time
GRUB_COMMANDS: Final = (b"grub_cmd: ", b"grub_cmd ")
ALIBABA_FILES: Final = {b"grub_linuxefi Kernel": "kernel", b"grub_linuxefi Initrd": "initrd"}
FROM_FIRMWARE: Final = (
    "the firmware is measured before anything runs: take it from a quote of a good boot, or from "
    "the firmware's vendor (--mrtd)"
)
NEEDS_LOG: Final = (
    "depends on firmware, loader and machine: take it from the event log of a good boot"
)
RUNTIME: Final = "differs between boots as soon as the guest measures events; leave it out"
PER_POD: Final = "differs with each initdata document: let the request carry initdata instead"


@dataclass(frozen=True, slots=True)
class BootFiles:
    """What the next boot will measure. ``command_line`` is LoadOptions as firmware passes it."""

    kernel: bytes | None = field(default=None, repr=False)
    initrd: bytes | None = field(default=None, repr=False)
    command_line: str | None = None


@dataclass(frozen=True, slots=True)
class Value:
    """A value to register, in lower-case hex, and where it comes from."""

    name: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class BootReference:
    """``values`` are for ``POST /reference-value``; ``further`` are digests some policies read."""

    values: tuple[Value, ...]
    further: tuple[Value, ...]
    absent: tuple[tuple[str, str], ...]  # name and why
    replaced: tuple[str, ...]  # events of the template that the files changed

    def reference_values(self, *, further: bool = False) -> ReferenceValues:
        """Return the values by name."""
        chosen = (*self.values, *self.further) if further else self.values
        return ReferenceValues({item.name: (item.value,) for item in chosen})


def boot_reference(
    *,
    quote: Quote | None = None,
    log: Sequence[Event] | None = None,
    files: BootFiles | None = None,
    mr_td: bytes | None = None,
) -> BootReference:
    """Compute what can be computed.

    Raises :class:`~explain.errors.BootMeasurementError` if the log is not that of the quote, or has
    no place for a file that was given, and :class:`~tdx.errors.EventLogError` if it cannot be
    replayed.
    """
    source = files or BootFiles()
    changes = _Changes()
    if log is not None:
        _require_fit(quote, log)
        changes = _substituted(log, source)
    values = [
        *_from_quote(quote, mr_td),
        *_registers(quote, None if log is None else changes.log, source, changes.replaced),
    ]
    names = {value.name for value in values}
    absent = tuple((name, why) for name, why in _NEVER_COMPUTED.items() if name not in names)
    return BootReference(
        tuple(sorted(values, key=lambda item: list(QUOTE_FIELDS).index(item.name))),
        tuple(_kernel_digests(source, changes.log)),
        absent,
        tuple(changes.replaced),
    )


_NEVER_COMPUTED: Final = {
    "mr_td": FROM_FIRMWARE,
    "rtmr_0": NEEDS_LOG,
    "rtmr_1": NEEDS_LOG,
    "rtmr_2": "needs a log of a good boot, or --cmdline with --initrd for a kernel without loader",
    "rtmr_3": RUNTIME,
    "xfam": "the host chooses it with the CPU model: take it from a quote of a good boot",
    "mr_config_id": PER_POD,
}


def _from_quote(quote: Quote | None, mr_td: bytes | None) -> list[Value]:
    values = []
    if mr_td is not None:
        values.append(Value("mr_td", mr_td.hex(), "given"))
    elif quote is not None:
        values.append(Value("mr_td", quote.body.mr_td.hex(), "quote"))
    if quote is not None:
        values.append(Value("xfam", quote.body.xfam.hex(), "quote"))
    return values


def _registers(
    quote: Quote | None, log: Sequence[Event] | None, files: BootFiles, replaced: Sequence[str]
) -> list[Value]:
    if log is not None:
        result = replay(log)
        origin = "event log, with what is new replaced" if replaced else "event log"
        return [Value(f"rtmr_{i}", result.value(i + 1).hex(), origin) for i in BOOT_RTMRS]
    if quote is not None:
        return [Value(f"rtmr_{i}", quote.body.rtmrs[i].hex(), "quote") for i in BOOT_RTMRS]
    if files.command_line is not None and files.initrd is not None:
        register = extended(START, load_options_digest(files.command_line))
        register = extended(register, hashlib.sha384(files.initrd).digest())
        return [Value("rtmr_2", register.hex(), "computed: EFI stub kernel started by firmware")]
    return []


def load_options_digest(command_line: str) -> bytes:
    """Return the digest of the LoadOptions event: UTF-16LE with its final NUL."""
    return hashlib.sha384((command_line + "\0").encode("utf-16-le")).digest()


def _require_fit(quote: Quote | None, log: Sequence[Event]) -> None:
    if quote is None:
        return
    result = replay(log)
    for index in BOOT_RTMRS:
        if result.value(index + 1) != quote.body.rtmrs[index]:
            raise BootMeasurementError(
                f"rtmr_{index}",
                "the event log does not replay to the quote's register",
                hint="take quote and log from the same boot; cguest explain tells what differs",
            )


@dataclass(slots=True)
class _Changes:
    """The template while files are put in: the log, and what was replaced in words."""

    log: list[Event] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)

    def put(self, place: int, digest: bytes) -> None:
        event = self.log[place]
        if event.digest() != digest:
            self.replaced.append(_located(event))
            self.log[place] = replace(event, digests=(Digest(SHA384, digest),))


def _substituted(log: Sequence[Event], files: BootFiles) -> _Changes:
    """Put the digests of ``files`` into a copy of the log."""
    changes = _Changes(list(log))
    if files.command_line is not None:
        place = _tagged(log, LOAD_OPTIONS_TAG)
        if place is None:
            raise _no_place("the command line", _GRUB_COMMAND_LINE)
        changes.put(place, load_options_digest(files.command_line))
    if files.initrd is not None:
        place = _tagged(log, INITRD_TAG)
        place = _grub_file(log, "initrd") if place is None else place
        if place is None:
            raise _no_place("the initrd", "the log of this boot measured none")
        changes.put(place, hashlib.sha384(files.initrd).digest())
    if files.kernel is not None:
        _put_kernel(changes, log, files.kernel)
    return changes


_GRUB_COMMAND_LINE: Final = (
    "the boot loader measures its configuration and each command too, which a new command line "
    "changes: take the log of a boot with the new one"
)


def _put_kernel(changes: _Changes, log: Sequence[Event], kernel: bytes) -> None:
    grub = _grub_file(log, "kernel")
    if grub is not None:
        changes.put(grub, hashlib.sha384(kernel).digest())
    image = _direct_kernel(log)
    if image is not None:
        changes.put(image, authenticode_sha384(kernel))
    if grub is None and image is None:
        raise _no_place("the kernel", "no event of this log is known to be that of the kernel")


def _no_place(what: str, why: str) -> BootMeasurementError:
    return BootMeasurementError(
        f"the registers for another {what.removeprefix('the ')}",
        f"the log has no event for {what} that could be replaced",
        hint=why,
    )


def _tagged(log: Sequence[Event], tag: int) -> int | None:
    return next((place for place, event in enumerate(log) if _tag(event) == tag), None)


def _tag(event: Event) -> int | None:
    tagged = event.event_type == EV_EVENT_TAG and len(event.data) >= 8
    return int.from_bytes(event.data[:4], "little") if tagged else None


def _file_name(data: bytes) -> str:
    image = parse_loaded_image(data)
    return "" if image is None else image.path.rpartition("/")[2]


def _located(event: Event) -> str:
    return f"RTMR{rtmr_of(event.register)}: {describe_event(event).summary}"


def _direct_kernel(log: Sequence[Event]) -> int | None:
    """The EFI application that firmware took from its hypervisor: ``File(kernel)``."""
    return next(
        (
            place
            for place, event in enumerate(log)
            if event.event_type == EV_EFI_APPLICATION and _file_name(event.data) == "kernel"
        ),
        None,
    )


def _grub_file(log: Sequence[Event], kind: str) -> int | None:
    """The event of the file that a GRUB command ``linux`` or ``initrd`` read."""
    command = {"kernel": b"linux", "initrd": b"initrd"}[kind]
    path = None
    for place, event in enumerate(log):
        if event.event_type != EV_IPL:
            continue
        text = event.data.split(b"\0", 1)[0]
        if ALIBABA_FILES.get(text) == kind:
            return place
        for prefix in GRUB_COMMANDS:
            words = text.removeprefix(prefix).split() if text.startswith(prefix) else []
            if len(words) > 1 and words[0] == command:
                path = words[1]
        if path is not None and text == path:
            return place
    return None


def _kernel_digests(files: BootFiles, log: Sequence[Event]) -> list[Value]:
    """What Trustee's policies call ``tdvfkernel`` and ``tdvfkernelparams``."""
    further = []
    kernel, options = _direct_kernel(log), _tagged(log, LOAD_OPTIONS_TAG)
    if kernel is not None and (digest := log[kernel].digest()) is not None:
        further.append(Value("tdvfkernel", digest.hex(), "event log: File(kernel)"))
    elif files.kernel is not None and not log:
        further.append(Value("tdvfkernel", authenticode_sha384(files.kernel).hex(), "computed"))
    if options is not None and (digest := log[options].digest()) is not None:
        further.append(Value("tdvfkernelparams", digest.hex(), "event log: LoadOptions"))
    elif files.command_line is not None and not log:
        digest = load_options_digest(files.command_line)
        further.append(Value("tdvfkernelparams", digest.hex(), "computed"))
    return further
