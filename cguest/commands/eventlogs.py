"""``cguest eventlog show|replay``: what was measured, and which event made which value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cguest.commands.registry import Noun, Verb
from cguest.connection import CommandError
from cguest.files import read_file
from cguest.outcome import Exit, Outcome, Value, rows
from cguest.sockets import Targets
from tdx.ccel import CCEL_PATH
from tdx.ccel_table import CC_TYPES, parse_ccel_table
from tdx.evidence_forms import MAX_FILE_BYTES, EvidenceFile, recognise
from tdx.log_history import Divergence, Entry, LogHistory, divergences, log_history
from tdx.quote import parse_quote
from tdx.tdreport import parse_tdreport

SHOWN: Final = 16  # hex digits of a value in a table
MARKS: Final = {True: "holds", False: "DOES NOT HOLD", None: "-"}


def _read(path: Path) -> tuple[EvidenceFile, LogHistory]:
    file = recognise(read_file(path, MAX_FILE_BYTES))
    if file.ccel_table is not None:
        found = parse_ccel_table(file.ccel_table)
        raise CommandError(
            f"reading {path}: this is the ACPI table that points to a log area of"
            f" {found.log_area_minimum_length} bytes for {CC_TYPES.get(found.cc_type, 'unknown')}",
            hint=f"the log itself is {CCEL_PATH}",
        )
    if file.event_log is None and file.agent_log is None:
        raise CommandError(f"reading {path}: this {file.form.value} carries no event log")
    return file, log_history(file.event_log, file.agent_log)


def _register(entry: Entry) -> str:
    return "MRTD" if entry.rtmr is None else f"RTMR{entry.rtmr}"


def _short(value: bytes | None) -> str:
    return "-" if value is None else value.hex()[:SHOWN] + "…"


def _entry(entry: Entry) -> dict[str, Value]:
    told = entry.description
    return {
        "number": entry.number,
        "register": _register(entry),
        "type": told.type_name,
        "summary": told.summary,
        "digest": None if entry.digest is None else entry.digest.hex(),
        "digest_covers": told.covers.value,
        "digest_holds": told.digest_holds,
        "value_after": None if entry.value is None else entry.value.hex(),
        "details": told.details,
    }


async def show(args: argparse.Namespace, _targets: Targets) -> Outcome:
    file, history = _read(args.file)
    titles = ["#", "REGISTER", "TYPE", "DIGEST COVERS", "RECOMPUTED", "EVENT"]
    lines = [
        [str(entry.number), _register(entry), entry.description.type_name.removeprefix("EV_"),
         entry.description.covers.value, MARKS[entry.description.digest_holds],
         entry.description.summary]
        for entry in history.entries
    ]  # fmt: skip
    data: dict[str, Value] = {
        "form": file.form.value,
        "entries": [_entry(entry) for entry in history.entries],
        "problem": history.problem or None,
    }
    return Outcome(data, text=rows(titles, lines) if lines else "no events")


def _expected(file: EvidenceFile, path: Path | None) -> tuple[bytes, ...] | None:
    """Registers of the quote or report to compare with; those of the same file by default."""
    if path is not None:
        file = recognise(read_file(path, MAX_FILE_BYTES))
    if file.quote is not None:
        return parse_quote(file.quote).body.rtmrs
    if file.tdreport is not None:
        return parse_tdreport(file.tdreport).td_info.rtmrs
    if path is not None:
        raise CommandError(f"reading {path}: neither a quote nor a TDREPORT")
    return None


def _compared(history: LogHistory, expected: Sequence[bytes] | None) -> list[dict[str, Value]]:
    found: list[dict[str, Value]] = []
    for rtmr, value in enumerate(history.values):
        entries = history.of(rtmr)
        wanted = None if expected is None or not history.tells(rtmr) else expected[rtmr]
        found.append(
            {
                "register": f"RTMR{rtmr}",
                "value": value.hex(),
                "events": len(entries),
                "last_event": entries[-1].description.summary if entries else None,
                "expected": None if wanted is None else wanted.hex(),
                "agrees": None if wanted is None else wanted == value,
            }
        )
    return found


def _divergence(found: Divergence) -> dict[str, Value]:
    return {
        "register": f"RTMR{found.rtmr}",
        "position": found.position,
        "ours": None if found.ours is None else _entry(found.ours),
        "reference": None if found.reference is None else _entry(found.reference),
    }


def _divergence_text(found: Divergence) -> str:
    def side(entry: Entry | None) -> str:
        if entry is None:
            return "nothing: it ends before"
        return f"{entry.description.summary}  (digest {_short(entry.digest)})"

    return (
        f"RTMR{found.rtmr} departs from the reference at its event {found.position}:\n"
        f"  here       {side(found.ours)}\n  reference  {side(found.reference)}"
    )


def _replay_text(
    history: LogHistory, compared: list[dict[str, Value]], found: Sequence[Divergence]
) -> str:
    steps = [
        [str(entry.number), _register(entry), _short(entry.value), entry.description.summary]
        for entry in history.entries
    ]
    marks = {True: "agrees", False: "DIFFERS", None: "not compared"}
    ends = []
    for line in compared:
        agrees = line["agrees"]
        mark = marks[agrees if isinstance(agrees, bool) else None]
        if agrees is False and not line["events"]:
            mark += ": the log has no event of it"
        ends.append([str(line["register"]), str(line["value"]), mark])
    parts = [
        rows(["#", "REGISTER", "VALUE AFTER", "EVENT"], steps) if steps else "no events",
        rows(["REGISTER", "REPLAYED VALUE", "QUOTE"], ends),
        *map(_divergence_text, found),
    ]
    if any(line["agrees"] is False for line in compared) and not found:
        parts.append("hashes alone do not tell which event differs; compare with --reference FILE")
    return "\n\n".join(parts)


async def replay(args: argparse.Namespace, _targets: Targets) -> Outcome:
    file, history = _read(args.file)
    if history.problem:
        raise CommandError(f"replaying {args.file}: {history.problem}")
    compared = _compared(history, _expected(file, args.quote))
    found: tuple[Divergence, ...] = ()
    if args.reference is not None:
        found = divergences(history, _read(args.reference)[1])
    data: dict[str, Value] = {
        "form": file.form.value,
        "registers": compared,
        "entries": [_entry(entry) for entry in history.entries],
        "compared_with_reference": args.reference is not None,
        "divergences": [_divergence(item) for item in found],
    }
    refused = bool(found) or any(line["agrees"] is False for line in compared)
    return Outcome(
        data,
        text=_replay_text(history, compared, found),
        exit=Exit.REFUSED if refused else Exit.PASS,
    )


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="event log (CCEL or the agent's), evidence JSON or KBS attestation body; - for stdin",
    )  # fmt: skip


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    _file_argument(parser)
    parser.add_argument(
        "--quote", type=Path, metavar="FILE",
        help="compare with its RTMRs; default is the quote in FILE, if it has one",
    )  # fmt: skip
    parser.add_argument(
        "--reference", type=Path, metavar="FILE", help="a good log: shows the first difference"
    )


NOUNS = (
    Noun(
        "eventlog",
        "event logs in files",
        (
            Verb(
                "show",
                "describe each event and what its digest covers",
                show,
                _file_argument,
                "For most boot events the digest is not the hash of the logged data; where it\n"
                "is, or can be recomputed from it, the column RECOMPUTED says whether it holds.",
            ),
            Verb(
                "replay",
                "recompute RTMR0 to RTMR3 and show which event made which value",
                replay,
                _replay_arguments,
                "example: cguest eventlog replay /sys/firmware/acpi/tables/data/CCEL \\\n"
                "             --quote quote.bin --reference good-boot.bin\n"
                "Exit code 1: a register differs from the quote, or the log from the reference.",
            ),
        ),
    ),
)
