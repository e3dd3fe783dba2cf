"""``cguest attest``, ``cguest evidence get``, ``cguest measurement extend``, ``cguest status``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from cguest.commands.explaining import (
    add_attest_arguments,
    attest_explained,
    wants_explanation,
)
from cguest.commands.registry import Noun, Verb
from cguest.connection import CommandError, RefusedError, connect
from cguest.outcome import Exit, Outcome, Value
from cguest.sockets import Targets
from protos import cguest_pb2
from protos.stubs import AttestationAgentStub, AttestationStatusStub, HubStatusStub, MountStub


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
    if wants_explanation(args):
        return await attest_explained(args, targets)
    async with connect(targets.agent, "attestation agent") as client:
        status = await AttestationStatusStub(client).attest(
            force=args.force, timeout_s=args.timeout
        )
    return Outcome(session_data(status))


def _hub_data(status: cguest_pb2.HubStatus) -> dict[str, Value]:
    """Where secrets come from; a line of its own for every key broker that is away.

    And one for every container that the guest hook stopped, and for the last sealed secret that
    was not opened: the container that wanted it may run with the sealed text.
    """
    unsealing: dict[str, Value] = {"unseal_failures": status.unseal_failures}
    if status.unseal_failures:
        unsealing["last_unseal_failure"] = (
            f"{_moment(status.last_unseal_failure_unix)} {status.last_unseal_failure}"
        )
    away = {
        f"key broker away {broker.name or broker.urls[0]}": _moment(broker.away_since_unix)
        for broker in status.brokers
        if broker.away_since_unix
    }
    return {
        "secrets_from": status.source,
        "serve_stale_seconds": status.serve_stale_seconds,
        "kept_secrets": sum(broker.kept_secrets for broker in status.brokers),
        "kept_secrets_served": sum(broker.stale_served for broker in status.brokers),
        **unsealing,
        **away,
        **{
            f"container stopped {refusal.container_id}": f"{_moment(refusal.refused_unix)} "
            f"{refusal.subject}: {refusal.reason}"
            for refusal in status.refusals
        },
    }


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
            data |= _hub_data(await HubStatusStub(client).get_status(timeout_s=args.timeout))
    except CommandError as error:
        data["hub"], worst = str(error), Exit.ERROR
    return Outcome(data, exit=worst)


async def get_evidence(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.agent, "attestation agent") as client:
        reply = await AttestationAgentStub(client).get_evidence(
            args.runtime_data.encode(), timeout_s=args.timeout
        )
    return Outcome(raw=reply.Evidence)


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
    add_attest_arguments(parser)


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


TOP = (
    Verb("status", "show session, counters and mounts", show_status),
    Verb(
        "attest",
        "attest to the key broker and show the session",
        attest,
        _attest_arguments,
        "Uses the present session if it is still good. Exit code 1: the key broker refused.\n"
        "example: cguest attest --explain --save ticket-4711",
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
