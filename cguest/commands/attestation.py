"""``cguest attest``, ``cguest evidence get``, ``cguest quote inspect``, ``cguest status``."""

from __future__ import annotations

import argparse
import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from cguest.commands.registry import Noun, Verb
from cguest.connection import CommandError, RefusedError, connect
from cguest.outcome import Exit, Outcome, Value, table
from cguest.sockets import Targets
from protos import cguest_pb2
from protos.stubs import AttestationAgentStub, AttestationStatusStub, MountStub
from tdx.quote import Quote, TdReportBody, parse_quote

MAX_FILE = 1024 * 1024  # bytes of a quote or evidence file


def _moment(seconds: int) -> str | None:
    return datetime.fromtimestamp(seconds, UTC).isoformat() if seconds else None


def session_data(status: cguest_pb2.AttestationStatus) -> dict[str, Value]:
    """What the agent says of itself, with times a person can read."""
    return {
        "tee": status.tee,
        "kbs_url": status.kbs_url,
        "session": status.session,
        "session_expires": _moment(status.session_expires_unix),
        "renew_at": _moment(status.renew_at_unix),
        "quotes_taken": status.quotes_taken,
        "handshakes": status.handshakes,
        "event_log": status.event_log_enabled,
        "measured_events": status.measured_events,
        "last_error": status.last_error or None,
    }


async def attest(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.agent, "attestation agent") as client:
        status = await AttestationStatusStub(client).attest(
            force=args.force, timeout_s=args.timeout
        )
    return Outcome(session_data(status))


async def show_status(args: argparse.Namespace, targets: Targets) -> Outcome:
    """Both daemons, whichever answers; an absent one is part of the answer."""
    data: dict[str, Value] = {}
    worst = Exit.PASS
    try:
        async with connect(targets.agent, "attestation agent") as client:
            data |= session_data(
                await AttestationStatusStub(client).get_status(timeout_s=args.timeout)
            )
    except CommandError as error:
        data["agent"], worst = str(error), Exit.ERROR
    try:
        async with connect(targets.hub, "data hub") as client:
            mounts = (await MountStub(client).list_mounts(timeout_s=args.timeout)).mounts
            data["mounts"] = len(mounts)
            data["mounts_not_serving"] = sum(1 for item in mounts if item.state != "mounted")
    except CommandError as error:
        data["hub"], worst = str(error), Exit.ERROR
    return Outcome(data, exit=worst)


async def get_evidence(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.agent, "attestation agent") as client:
        reply = await AttestationAgentStub(client).get_evidence(
            args.runtime_data.encode(), timeout_s=args.timeout
        )
    return Outcome(raw=reply.Evidence)


def quote_bytes(content: bytes) -> bytes:
    """Find the quote in a file: binary, base64, hex, or evidence JSON with a ``quote`` member."""
    if content.lstrip()[:1] == b"{":
        try:
            member = msgspec.json.decode(content)["quote"]
            return base64.b64decode(member, validate=True)
        except (msgspec.DecodeError, KeyError, TypeError, binascii.Error) as error:
            raise CommandError("reading the file: JSON without a base64 member 'quote'") from error
    text = content.strip()
    for decode in (binascii.unhexlify, lambda t: base64.b64decode(t, validate=True)):
        try:
            return decode(text)
        except (binascii.Error, ValueError):
            continue
    return content


def quote_data(quote: Quote) -> dict[str, Value]:
    """Fields under the names of Intel's specification, bytes as lower-case hex.

    The names are stable: scripts read them.
    """
    body = {
        name.replace("rtmr", "rt_mr"): value.hex()
        for name in TdReportBody.__slots__
        if (value := getattr(quote.body, name)) is not None
    }
    header, report = quote.header, quote.section.qe_report
    return {
        "header": {
            "version": header.version,
            "attestation_key_type": header.attestation_key_type,
            "tee_type": header.tee_type,
            "qe_vendor_id": header.qe_vendor_id.hex(),
            "user_data": header.user_data.hex(),
        },
        "body": body,
        "debug": quote.body.debug,
        "certification": {
            "qe_mr_signer": report.mr_signer.hex(),
            "qe_isv_svn": report.isv_svn,
            "certificates": quote.section.pem_chain.count(b"BEGIN CERTIFICATE"),
        },
    }


def quote_text(data: Mapping[str, Value]) -> str:
    """One field a line, grouped as in the JSON form."""
    parts = []
    for name, value in data.items():
        inner = value if isinstance(value, Mapping) else {name: value}
        parts.append(f"{name}\n" + "\n".join(f"  {line}" for line in table(inner).splitlines()))
    return "\n".join(parts) + "\n\nparsed, not verified"


async def inspect_quote(args: argparse.Namespace, _targets: Targets) -> Outcome:
    try:
        with args.file.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise CommandError(f"reading {args.file}: {error.strerror}") from error
    if len(content) > MAX_FILE:
        raise CommandError(f"reading {args.file}: larger than {MAX_FILE} bytes, not a quote")
    data = quote_data(parse_quote(quote_bytes(content)))
    return Outcome(data, text=quote_text(data))


async def extend_measurement(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.agent, "attestation agent") as client:
        reply = await AttestationAgentStub(client).extend_runtime_measurement(
            args.domain, args.operation, args.content, args.register, timeout_s=args.timeout
        )
    if reply.Result == 0:
        return Outcome({"measured": True, "domain": args.domain, "operation": args.operation})
    if reply.Result == 1:
        raise RefusedError(
            "this kernel cannot extend measurement registers (Linux 6.16 or newer can)"
        )
    raise RefusedError(
        "the event log is switched off (set agent.eventlog_config.enable_eventlog = true)"
    )


def _attest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--force", action="store_true", help="take a new quote even if attested")


def _evidence_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--runtime-data", default="", metavar="TEXT",
        help="at most 64 bytes that the quote shall carry as report data",
    )  # fmt: skip


def _extend_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--domain", required=True, help="who measures, e.g. example.com/app")
    parser.add_argument("--operation", required=True, help="what was done, one word")
    parser.add_argument("--content", required=True, help="one line of text, often JSON")
    parser.add_argument(
        "--register", type=int, metavar="PCR",
        help="PCR-style index; default is the configured one (17, which is RTMR3)",
    )  # fmt: skip


def _file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE")


TOP = (
    Verb("status", "show session, counters and mounts", show_status),
    Verb(
        "attest",
        "attest to the key broker and show the session",
        attest,
        _attest_arguments,
        "Uses the present session if it is still good. Exit code 1: the key broker refused.",
    ),
)
NOUNS = (
    Noun(
        "evidence",
        "what this guest can prove",
        (
            Verb(
                "get",
                "print TDX evidence (JSON with quote and event log) on stdout",
                get_evidence,
                _evidence_arguments,
                "example: cguest evidence get --runtime-data hello > evidence.json",
            ),
        ),
    ),
    Noun(
        "quote",
        "TDX quotes in files",
        (
            Verb(
                "inspect",
                "show each field of a quote, without judging it",
                inspect_quote,
                _file_argument,
                "FILE holds the quote as binary, hex, base64, or evidence JSON.",
            ),
        ),
    ),
    Noun(
        "measurement",
        "runtime measurements",
        (
            Verb(
                "extend",
                "measure an event into a register and the event log",
                extend_measurement,
                _extend_arguments,
            ),
        ),
    ),
)
