"""``cguest quote verify``: a verdict on a quote under a given root and collateral."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from cguest.commands.registry import Verb
from cguest.connection import CommandError
from cguest.files import read_file
from cguest.outcome import Exit, Outcome, Value, rows
from cguest.sockets import Targets
from tdx.evidence_forms import MAX_FILE_BYTES, EvidenceFile, recognise
from tdx.quote import parse_quote
from tdx.report_data import ReportData
from tdx.verify import (
    Expectations,
    Policy,
    State,
    TcbLevel,
    Trust,
    Verdict,
    parse_collateral,
    parse_root,
    verify_quote,
)
from tdx.verify.collateral import MAX_COLLATERAL_BYTES, MAX_ROOT_BYTES
from tdx.verify.policy import REGISTER_BYTES, REGISTERS

EXITS: Mapping[State, Exit] = {
    State.PASSED: Exit.PASS,
    State.FAILED: Exit.REFUSED,
    State.NOT_CHECKED: Exit.ERROR,
}


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected hex digits") from error


def _report_data(text: str) -> ReportData:
    try:
        return ReportData.padded(_hex(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _runtime_data(text: str) -> ReportData:
    try:
        return ReportData.padded(text.encode())
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _config_id(text: str) -> bytes:
    """A digest of up to 48 bytes. A longer one is never cut: say which 48 bytes are meant."""
    value = _hex(text)
    if not 0 < len(value) <= REGISTER_BYTES:
        raise argparse.ArgumentTypeError("expected up to 48 bytes; of SHA-512, the first 48")
    return value.ljust(REGISTER_BYTES, b"\0")


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError("expected a time like 2026-06-01T12:00:00Z") from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _measurement(text: str) -> tuple[str, bytes]:
    name, _, value = text.partition("=")
    if name not in REGISTERS:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(REGISTERS)}, then =HEX")
    stored = _hex(value)
    if len(stored) != REGISTER_BYTES:
        raise argparse.ArgumentTypeError(f"{name} has 48 bytes")
    return name, stored


def _policy(args: argparse.Namespace) -> Policy:
    measurements: dict[str, set[bytes]] = {}
    for name, value in args.expect:
        measurements.setdefault(name, set()).add(value)
    return Policy(
        accepted_levels=frozenset(args.accept_level or [TcbLevel.UP_TO_DATE]),
        rejected_advisories=frozenset(args.reject_advisory),
        measurements={name: frozenset(values) for name, values in measurements.items()},
    )


def _expected(args: argparse.Namespace, file: EvidenceFile) -> Expectations:
    log = file
    if args.event_log is not None:
        log = recognise(read_file(args.event_log, MAX_FILE_BYTES))
        if log.event_log is None and log.agent_log is None:
            raise CommandError(f"reading {args.event_log}: no event log")
    return Expectations(args.report_data, args.mr_config_id, log.event_log, log.agent_log)


def verdict_data(verdict: Verdict, now: datetime) -> dict[str, Value]:
    """Return what ``-o json`` shows of a verdict. The names are stable."""
    return {
        "state": verdict.state.value,
        "level": verdict.level,
        "advisories": verdict.advisories,
        "at": now.astimezone(UTC).isoformat(),
        "expires": None if verdict.expires is None else verdict.expires.isoformat(),
        "checks": [
            {"name": c.name.value, "state": c.state.value, "reason": c.reason, "hint": c.hint}
            for c in verdict.checks
        ],
    }


def _text(verdict: Verdict, now: datetime) -> str:
    head = [
        ["state", verdict.state.value],
        ["level", verdict.level or "none established"],
        ["advisories", " ".join(verdict.advisories) or "-"],
        ["at", now.astimezone(UTC).isoformat()],
        ["expires", "-" if verdict.expires is None else verdict.expires.isoformat()],
    ]
    marks = {State.PASSED: "ok", State.FAILED: "FAILED", State.NOT_CHECKED: "not checked"}
    checks = [[marks[c.state], c.name.value, c.reason] for c in verdict.checks]
    hints = [f"{c.name.value}: {c.hint}" for c in verdict.failed if c.hint]
    parts = [rows(["QUOTE", ""], head), rows(["STATE", "CHECK", "REASON"], checks), *hints]
    return "\n\n".join(parts)


async def verify(args: argparse.Namespace, _targets: Targets) -> Outcome:
    file = recognise(read_file(args.file, MAX_FILE_BYTES))
    if file.quote is None:
        raise CommandError(f"verifying {args.file}: a {file.form.value} is no quote")
    quote = parse_quote(file.quote)
    trust = Trust(
        parse_root(read_file(args.root, MAX_ROOT_BYTES)),
        parse_collateral(read_file(args.collateral, MAX_COLLATERAL_BYTES)),
    )
    expected = _expected(args, file)
    now = args.at or datetime.now(UTC)
    verdict = await asyncio.to_thread(
        verify_quote, quote, trust, now=now, policy=_policy(args), expected=expected
    )
    return Outcome(verdict_data(verdict, now), text=_text(verdict, now), exit=EXITS[verdict.state])


def _arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("file", type=Path, metavar="FILE", help="- for stdin")
    add(
        "--root", type=Path, required=True, metavar="FILE",
        help="the one trusted root certificate, PEM or DER",
    )  # fmt: skip
    add(
        "--collateral", type=Path, required=True, metavar="FILE",
        help="JSON with TCB info, QE identity, CRLs and chains",
    )  # fmt: skip
    data = parser.add_mutually_exclusive_group()
    data.add_argument(
        "--report-data", type=_report_data, metavar="HEX", help="at most 64 bytes, zeros are added"
    )
    data.add_argument(
        "--runtime-data", type=_runtime_data, metavar="TEXT", dest="report_data",
        help="the same as text, as for: cguest evidence get",
    )  # fmt: skip
    add("--mr-config-id", type=_config_id, metavar="HEX", help="at most 48 bytes, zeros are added")
    add("--event-log", type=Path, metavar="FILE", help="default: the log in FILE, if it has one")
    add("--at", type=_moment, metavar="TIME", help="UTC unless it names a zone; default: now")
    add(
        "--accept-level", type=TcbLevel, action="append", metavar="LEVEL",
        help="accepted TCB level, may be repeated; default: UpToDate",
    )  # fmt: skip
    add("--reject-advisory", action="append", default=[], metavar="ID")
    add(
        "--expect", type=_measurement, action="append", default=[], metavar="NAME=HEX",
        help="value of a register, e.g. mr_td=…; repeated: one more accepted value",
    )  # fmt: skip


VERIFY = Verb(
    "verify",
    "judge a quote under a root and collateral you give",
    verify,
    _arguments,
    "Prints a verdict: TCB level, advisories, expiry, and every check with its reason.\n"
    "What was not asked for (report data, MRCONFIGID, registers) is shown as not checked.\n"
    "Needs the extra: pip install 'confidential-guest[verify]'. Asks nothing of the network.\n"
    "Exit code 1: a check failed.",
)
