"""``cguest quote inspect``: what a quote or report says. ``verify`` is in ``verifying.py``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cguest.commands.registry import Noun, Verb
from cguest.commands.verifying import VERIFY
from cguest.connection import CommandError
from cguest.files import read_file
from cguest.outcome import Outcome, Value
from cguest.outline import outline
from cguest.sockets import Targets
from tdx.description import describe_quote, describe_tdreport
from tdx.evidence_forms import MAX_FILE_BYTES, EvidenceFile, recognise
from tdx.quote import parse_quote
from tdx.tdreport import parse_tdreport

ZERO_LENGTH: Final = 16  # hex digits from which zeros are shown as a word
REMARKS: Final = {
    False: "parsed, not verified: see cguest quote verify --help",
    True: "both hashes hold; the MAC can be checked only on the machine that made this report",
}


def inspected(file: EvidenceFile) -> dict[str, Value]:
    """Return what ``-o json`` shows of a file. Raises :class:`~tdx.errors.TdxError`."""
    if file.tdreport is not None:
        return {"form": file.form.value, **describe_tdreport(parse_tdreport(file.tdreport))}
    if file.quote is None:
        raise CommandError(
            f"inspecting: the file is an {file.form.value}, not a quote",
            hint="see: cguest eventlog show FILE",
        )
    quote = parse_quote(file.quote)
    data: dict[str, Value] = {"form": file.form.value, **describe_quote(quote)}
    return data | {
        "trailing_bytes": len(file.quote) - len(quote.raw),
        "event_log_bytes": None if file.event_log is None else len(file.event_log),
    }


def _shortened(value: Value) -> Value:
    """Say "zeros" for a zero register, and list bits by name: what a person looks for."""
    if isinstance(value, str) and len(value) >= ZERO_LENGTH and not value.strip("0"):
        return f"zeros ({len(value) // 2} bytes)"
    if not isinstance(value, Mapping):
        return value
    if "bits" in value and isinstance(value["bits"], Mapping):
        names = [name for name, is_set in value["bits"].items() if is_set]
        return f"{value['value']}  {' '.join(names) or 'no named bit set'}"
    if "features" in value and not isinstance(value["features"], (str, int, float, type(None))):
        return f"{value['value']}  {' '.join(map(str, value['features']))}"
    return {key: _shortened(item) for key, item in value.items()}


async def inspect(args: argparse.Namespace, _targets: Targets) -> Outcome:
    data = inspected(recognise(read_file(args.file, MAX_FILE_BYTES)))
    shown = {key: _shortened(value) for key, value in data.items()}
    return Outcome(data, text=f"{outline(shown)}\n\n{REMARKS[data['form'] == 'TDREPORT']}")


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="- for stdin")


NOUNS = (
    Noun(
        "quote",
        "TDX quotes in files",
        (
            Verb(
                "inspect",
                "show each field of a quote or TDREPORT, without judging it",
                inspect,
                _file_argument,
                "FILE holds a quote or TDREPORT (bytes, hex or base64), evidence JSON, or the\n"
                "body of a KBS attestation request.",
            ),
            VERIFY,
        ),
    ),
)
