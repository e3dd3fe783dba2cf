"""``cguest receipts export|verify|show|checkpoint``: what this guest gave, and to whom."""

from __future__ import annotations

import argparse
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

from cguest.commands.registry import Noun, Verb
from cguest.connection import CommandError, connect
from cguest.files import read_file, write_private
from cguest.outcome import Exit, Outcome, Value, rows
from cguest.sockets import Targets
from protos.stubs import AttestationAgentStub
from receipts import (
    DEFAULT_DIRECTORY,
    DOMAIN,
    OPERATION,
    Access,
    Caller,
    Chain,
    ChainProblem,
    Checkpoint,
    Comparison,
    Export,
    Gap,
    Genesis,
    Head,
    Receipt,
    ReceiptsFormatError,
    Restart,
    Segment,
    Stop,
    checkpoint_content,
    compare_checkpoints,
    encode_export,
    examine_chain,
    parse_export,
    read_directory,
)
from receipts.export import MAX_EXPORT_BYTES
from tdx.aael import GuestEvent, guest_event, parse_text_log
from tdx.evidence_forms import MAX_FILE_BYTES, EvidenceFile, recognise
from tdx.log_history import events_of, log_history
from tdx.quote import parse_quote

RESULTS: Final = {0: "measured", 1: "not supported", 2: "not enabled"}
SHOWN: Final = 16  # hex digits of a digest in a table


def _directory(args: argparse.Namespace) -> Path:
    """The flag, else what cguestd's file says, else the default."""
    if args.directory is not None:
        return Path(args.directory)
    if args.config is not None:
        # That the file can be read was checked before any command runs.
        section = tomllib.loads(args.config.read_text()).get("receipts", {})
        if isinstance(section, dict) and isinstance(section.get("directory"), str):
            return Path(section["directory"])
    return Path(DEFAULT_DIRECTORY)


def _read_directory(args: argparse.Namespace) -> tuple[Export, Path]:
    directory = _directory(args)
    try:
        lines = read_directory(directory)
    except OSError as error:
        raise CommandError(
            f"reading {directory}: {error.strerror}",
            hint="is receipts.enabled set, and is this cguestd's configuration?",
        ) from error
    if not lines:
        raise CommandError(f"reading {directory}: there are no receipts")
    return Export(tuple(lines), None), directory


def _read(args: argparse.Namespace) -> Export:
    if args.file is None:
        return _read_directory(args)[0]
    return parse_export(read_file(args.file, MAX_EXPORT_BYTES))


def _problem(found: ChainProblem) -> dict[str, Value]:
    return {"problem": found.problem.value, "line": found.line or None, "text": found.text}


def _problem_lines(problems: Sequence[ChainProblem]) -> list[str]:
    lines = [f"line {p.line}: {p.text}" if p.line else p.text for p in problems]
    return [f"DOES NOT HOLD  {line}" for line in lines]


async def export(args: argparse.Namespace, _targets: Targets) -> Outcome:
    """What is there goes out, also if it does not hold; the exit code says so."""
    found, _ = _read_directory(args)
    chain = examine_chain(found.lines)
    data = encode_export(found.lines, chain.head)
    code = Exit.PASS if chain.holds else Exit.REFUSED
    if args.output is None:
        return Outcome(raw=data, exit=code)
    write_private(args.output, data)
    return Outcome(
        {
            "receipts": len(found.lines),
            "last": chain.head.sequence,
            "head": chain.head.digest,
            "problems": [_problem(problem) for problem in chain.problems],
        },
        exit=code,
    )


def _head(text: str) -> Head:
    number, _, digest = text.partition(":")
    if not number.isdecimal() or len(digest) != 96 or set(digest) - set("0123456789abcdef"):
        raise argparse.ArgumentTypeError("expected NUMBER:DIGEST, as export and show print it")
    return Head(int(number), digest)


def _events(file: EvidenceFile) -> Iterator[GuestEvent | None]:
    yield from map(guest_event, events_of(file.event_log))
    if file.agent_log is not None:
        yield from (line.event for line in parse_text_log(file.agent_log).lines)


def _compare(path: Path, chain: Chain) -> tuple[Comparison, str]:
    """Compare with the log in a file; and that log with the quote beside it, if there is one."""
    file = recognise(read_file(path, MAX_FILE_BYTES))
    if file.event_log is None and file.agent_log is None:
        raise CommandError(f"reading {path}: this {file.form.value} carries no event log")
    contents = [
        event.content
        for event in _events(file)
        if event is not None and (event.domain, event.operation) == (DOMAIN, OPERATION)
    ]
    if file.quote is None:
        return compare_checkpoints(chain, contents), "not compared: no quote in that file"
    history = log_history(file.event_log, file.agent_log)
    wanted = parse_quote(file.quote).body.rtmrs
    differing = [
        f"RTMR{n}" for n in range(4) if history.tells(n) and history.values[n] != wanted[n]
    ]
    if history.problem or differing:
        differs = history.problem or f"{', '.join(differing)} of the quote is another"
        return compare_checkpoints(chain, contents), f"DIFFERS: {differs}"
    return compare_checkpoints(chain, contents), "agrees"


def _covered(compared: Comparison | None) -> dict[str, Value]:
    if compared is None:
        return {}
    return {
        "checkpoints_matched": compared.matched,
        "checkpoints_of_dropped_receipts": compared.dropped,
        "checkpoints_later_than_the_log": compared.unseen,
        "covered_to": compared.covered if compared.covered >= 0 else None,
    }


def _vouched_for(found: Export, args: argparse.Namespace) -> str:
    if args.head is not None:
        return f"the head given, up to receipt {args.head.sequence}"
    if found.head is not None:
        return "the last line of the file, which whoever has the file can write"
    return "nothing: receipts may be missing there"


async def verify(args: argparse.Namespace, _targets: Targets) -> Outcome:
    try:
        found = _read(args)
    except ReceiptsFormatError as error:
        # An export that is cut off or of another form is an answer, not a failure to find one.
        data: dict[str, Value] = {"holds": False, "problems": [str(error)]}
        return Outcome(data, text=f"DOES NOT HOLD  {error}", exit=Exit.REFUSED)
    chain = examine_chain(found.lines, found.head)
    problems = list(chain.problems)
    if args.head is not None:
        # The same again with the other head: what is wrong in itself was said already.
        known = {problem.text for problem in problems}
        again = examine_chain(found.lines, args.head).problems
        problems += [problem for problem in again if problem.text not in known]
    compared, quote = (None, "") if args.event_log is None else _compare(args.event_log, chain)
    problems += compared.problems if compared is not None else ()
    refused = bool(problems) or quote.startswith("DIFFERS")
    data = {
        "holds": not refused,
        "chain": chain.boot or None,
        "receipts": len(found.lines),
        "first": chain.first,
        "last": chain.head.sequence,
        "head": chain.head.digest,
        "end_vouched_for_by": _vouched_for(found, args),
        "lost_without_receipt": chain.lost,
        **_covered(compared),
        **({"event_log_and_quote": quote} if quote else {}),
        "problems": [_problem(problem) for problem in problems],
    }
    shown = "\n".join(
        f"{key.replace('_', ' '):<32}{'-' if value is None else value}"
        for key, value in data.items()
        if key != "problems"
    )
    text = "\n".join([shown, *_problem_lines(problems)])
    return Outcome(data, text=text, exit=Exit.REFUSED if refused else Exit.PASS)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


def _caller(caller: Caller) -> str:
    if caller.container:
        return _printable(f"{caller.via} container {caller.container[:SHOWN]}")
    return f"{caller.via} pid {caller.pid} uid {caller.uid}" if caller.pid else caller.via


def _told(receipt: Receipt) -> tuple[str, str, str, str]:
    """Return what happened, how it went, who asked, and the rest."""
    match receipt.body:
        case Access() as body:
            of = body.subject
            parts = [of.resource, of.mount_point, of.kid and f"kid {of.kid}"]
            parts.append(of.sealed_sha384 and f"sealed {of.sealed_sha384[:SHOWN]}…")
            parts.append(body.reason and f"({body.reason})")
            told = _printable(" ".join(filter(None, parts)))
            return body.act, body.verdict, _caller(body.caller), told
        case Genesis() as body:
            after = ", after a chain that did not hold" if body.after_damage else ""
            return "genesis", "", "", f"chain {body.boot[:SHOWN]}…{after}"
        case Checkpoint() as body:
            told = f"number {body.number} of receipt {body.sequence} {body.head[:SHOWN]}…"
            return "checkpoint", body.result, "", told
        case Gap() as body:
            return "gap", "", "", f"{body.lost} without receipt: {body.cause}"
        case Segment() as body:
            return "file", "", "", f"number {body.number}, kept from {body.retained_from}"
        case Restart() as body:
            return "restart", "", "", f"{body.torn} bytes were half a receipt" if body.torn else ""
        case Stop():
            return "stop", "", "", ""
        case unknown:
            assert_never(unknown)


async def show(args: argparse.Namespace, _targets: Targets) -> Outcome:
    found = _read(args)
    chain = examine_chain(found.lines, found.head)
    lines = []
    told: list[Value] = []
    verdicts: Counter[str] = Counter()
    for receipt in chain.receipts:
        when = datetime.fromtimestamp(receipt.time_us / 1_000_000, UTC).isoformat(
            timespec="milliseconds"
        )
        act, verdict, caller, rest = _told(receipt)
        lines.append([str(receipt.sequence), when, act, verdict, caller, rest])
        told.append(
            {"sequence": receipt.sequence, "time": when, "act": act, "verdict": verdict or None,
             "caller": caller or None, "what": rest}
        )  # fmt: skip
        if isinstance(receipt.body, Access):
            verdicts[verdict] += 1
    table = rows(["#", "TIME", "ACT", "VERDICT", "CALLER", "WHAT"], lines)
    ends = f"head {chain.head.sequence}:{chain.head.digest}"
    data: dict[str, Value] = {
        "receipts": told,
        "verdicts": dict(verdicts),
        "problems": [_problem(problem) for problem in chain.problems],
    }
    text = "\n".join([table, ends, *_problem_lines(chain.problems)])
    return Outcome(data, text=text, exit=Exit.PASS if chain.holds else Exit.REFUSED)


async def checkpoint(args: argparse.Namespace, targets: Targets) -> Outcome:
    """Measure the head of now through the agent; only a chain that holds."""
    found, directory = _read_directory(args)
    chain = examine_chain(found.lines)
    if not chain.holds:
        raise CommandError(
            f"measuring {directory}: {chain.problems[0].text}", hint="see: cguest receipts verify"
        )
    async with connect(targets.agent, "attestation agent") as client:
        reply = await AttestationAgentStub(client).extend_runtime_measurement(
            DOMAIN, OPERATION, checkpoint_content(chain.boot, chain.head), timeout_s=args.timeout
        )
    data: dict[str, Value] = {
        "result": RESULTS.get(reply.Result, "unknown"),
        "sequence": chain.head.sequence,
        "head": chain.head.digest,
    }
    return Outcome(data, exit=Exit.PASS if reply.Result == 0 else Exit.REFUSED)


def _directory_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--directory", metavar="DIR",
        help="where cguestd keeps them; default is receipts.directory of its configuration",
    )  # fmt: skip


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _directory_argument(parser)
    parser.add_argument("--output", type=Path, metavar="FILE", help="a new file, mode 0600")


def _file_arguments(parser: argparse.ArgumentParser) -> None:
    _directory_argument(parser)
    parser.add_argument(
        "file", type=Path, metavar="FILE", nargs="?",
        help="an export; - for stdin; without one the receipts of this guest",
    )  # fmt: skip


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _file_arguments(parser)
    parser.add_argument(
        "--head", type=_head, metavar="NUMBER:DIGEST", help="a receipt known from elsewhere"
    )
    parser.add_argument(
        "--event-log", type=Path, metavar="FILE",
        help="event log or evidence of this guest: its checkpoints must match",
    )  # fmt: skip


NOUNS = (
    Noun(
        "receipts",
        "what this guest gave to whom, as a chain that can be checked",
        (
            Verb("export", "print the receipts and their head, for elsewhere", export,
                 _export_arguments),
            Verb("verify", "check that no receipt is missing, changed or moved", verify,
                 _verify_arguments,
                 "example: cguest receipts verify receipts.jsonl --event-log evidence.json\n"
                 "Exit code 1: the chain does not hold, or is not the one that was measured."),
            Verb("show", "list the receipts", show, _file_arguments),
            Verb("checkpoint", "measure the head into a register of this guest now", checkpoint,
                 _directory_argument,
                 "Exit code 1: this kernel has no register to extend, or the event log is off."),
        ),
    ),
)  # fmt: skip
