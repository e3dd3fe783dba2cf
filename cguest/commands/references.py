"""``cguest reference-values``: what to register with the key broker, from files of a good boot."""

from __future__ import annotations

import argparse
import binascii
from pathlib import Path
from typing import Final

from cguest.commands.registry import Verb
from cguest.connection import CommandError
from cguest.files import read_file
from cguest.outcome import Outcome, rows
from cguest.sockets import Targets
from explain import BootFiles, BootReference, boot_reference
from tdx.ccel import parse_ccel
from tdx.evidence_forms import MAX_FILE_BYTES, EvidenceFile, recognise
from tdx.quote import parse_quote

MAX_BOOT_FILE: Final = 1024 * 1024 * 1024  # bytes of a kernel or initrd
REGISTER_BYTES: Final = 48
POST: Final = "curl -X POST KBS/kbs/v0/reference-value -H 'Authorization: Bearer ADMIN' -d @FILE"


def _evidence(path: Path | None) -> EvidenceFile | None:
    return None if path is None else recognise(read_file(path, MAX_FILE_BYTES))


def _register(text: str) -> bytes:
    """Parse 48 bytes of hex. Raises ``argparse.ArgumentTypeError``."""
    try:
        value = binascii.unhexlify(text)
    except (binascii.Error, ValueError) as error:
        raise argparse.ArgumentTypeError("not hexadecimal") from error
    if len(value) != REGISTER_BYTES:
        raise argparse.ArgumentTypeError(f"{len(value)} bytes, a register has {REGISTER_BYTES}")
    return value


def _boot_file(path: Path | None) -> bytes | None:
    return None if path is None else read_file(path, MAX_BOOT_FILE)


def _computed(args: argparse.Namespace) -> BootReference:
    evidence, own_log, own_quote = (
        _evidence(path) for path in (args.evidence, args.eventlog, args.quote)
    )
    quotes = [found.quote for found in (own_quote, evidence) if found and found.quote]
    logs = [found.event_log for found in (own_log, evidence) if found and found.event_log]
    return boot_reference(
        quote=parse_quote(quotes[0]) if quotes else None,
        log=parse_ccel(logs[0]).events if logs else None,
        files=BootFiles(_boot_file(args.kernel), _boot_file(args.initrd), args.cmdline),
        mr_td=args.mrtd,
    )


async def reference_values(args: argparse.Namespace, _targets: Targets) -> Outcome:
    result = _computed(args)
    values = result.reference_values(further=args.with_kernel_digests)
    if not values.values:
        raise CommandError(
            "computing reference values: nothing was given to compute from",
            hint="give --evidence of a good boot, or --cmdline and --initrd",
        )
    if args.message:
        return Outcome(raw=values.message() + b"\n")
    return Outcome(
        {
            "values": {name: list(good) for name, good in values.values.items()},
            "origins": {item.name: item.origin for item in (*result.values, *result.further)},
            "kernel_digests": {item.name: item.value for item in result.further},
            "absent": dict(result.absent),
            "replaced": list(result.replaced),
            "message": values.message().decode(),
        },
        text=_text(result),
    )


def _text(result: BootReference) -> str:
    parts = [rows(["NAME", "VALUE", "FROM"], [[v.name, v.value, v.origin] for v in result.values])]
    if result.further:
        lines = [[v.name, v.value, v.origin] for v in result.further]
        parts.append("digests that some policies read instead of rtmr_1 and rtmr_2\n" + rows(
            ["NAME", "VALUE", "FROM"], lines
        ))  # fmt: skip
    if result.replaced:
        parts.append("replaced in the log\n" + "\n".join(f"  {line}" for line in result.replaced))
    if result.absent:
        parts.append("not computed\n" + "\n".join(f"  {n}: {why}" for n, why in result.absent))
    parts.append(f"to register: cguest reference-values ... --message > FILE; {POST}")
    return "\n\n".join(parts)


def _arguments(parser: argparse.ArgumentParser) -> None:
    for flag, text in (
        ("--evidence", "evidence JSON or attestation body of a good boot"),
        ("--quote", "its quote, if it is a file of its own"),
        ("--eventlog", "its event log, if it is a file of its own"),
        ("--kernel", "kernel image of the next boot"),
        ("--initrd", "initrd of the next boot"),
    ):
        parser.add_argument(flag, type=Path, metavar="FILE", help=text)
    parser.add_argument("--cmdline", metavar="TEXT", help="kernel command line of the next boot")
    parser.add_argument("--mrtd", type=_register, metavar="HEX", help="MRTD, from the vendor")
    parser.add_argument(
        "--with-kernel-digests", action="store_true", help="also tdvfkernel and tdvfkernelparams"
    )
    parser.add_argument(
        "--message", action="store_true", help="print the body of POST /kbs/v0/reference-value"
    )


TOP = (
    Verb(
        "reference-values",
        "compute the values to register with the key broker",
        reference_values,
        _arguments,
        "With evidence or a log of a good boot, --kernel, --initrd and --cmdline say what the\n"
        "next boot will measure instead. Without a log, RTMR2 of a kernel that firmware starts\n"
        "itself follows from --cmdline and --initrd (OVMF appends ' initrd=initrd' to the first).\n"
        "example: cguest reference-values --evidence evidence.json --message > body.json",
    ),
)
