"""``cguest resource watch``: say when a resource changes."""

from __future__ import annotations

import argparse
import json
from contextlib import aclosing
from datetime import UTC, datetime

from cguest.commands.registry import Verb
from cguest.connection import RefusedError, connect
from cguest.outcome import Format, Outcome
from cguest.sockets import Targets
from kbs import ResourceUri, ResourceWatch, WatchEvent
from protos.stubs import GetResourceStub
from secrecy import Secret


class HubResources:
    """Implements :class:`kbs.ResourceGetter`. A connection for each call outlives restarts."""

    def __init__(self, targets: Targets, timeout_s: float) -> None:
        self._targets = targets
        self._timeout_s = timeout_s

    async def get(self, uri: ResourceUri) -> Secret:
        async with connect(self._targets.hub, "data hub") as client:
            stub = GetResourceStub(client)
            reply = await stub.get_resource(str(uri), timeout_s=self._timeout_s)
            return Secret(reply.Resource)


async def watch(args: argparse.Namespace, targets: Targets) -> Outcome:
    seen = 0
    resource = ResourceWatch(
        HubResources(targets, args.timeout),
        ResourceUri.parse(args.uri),
        args.interval,
        refused=lambda error: isinstance(error, RefusedError),
    )
    async with aclosing(resource.events()) as events:
        async for event in events:
            print(_line(event, args.output_format), flush=True)
            seen += 1
            if seen == args.count:
                break
    return Outcome(raw=b"")


def _line(event: WatchEvent, form: Format) -> str:
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="seconds")
    if form == "json":
        return json.dumps({"at": at, "state": event.state.value, "reason": event.reason or None})
    return f"{at}  {event.state.value}" + (f"  {event.reason}" if event.reason else "")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text!r}: seconds, from 0.1 to 86400")
    return seconds


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 10**9:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1 on")
    return int(text)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="kbs:///repository/type/tag")
    parser.add_argument(
        "--interval", type=_seconds, default=30.0, metavar="S",
        help="seconds between two looks (default 30)",
    )  # fmt: skip
    parser.add_argument("--count", type=_count, metavar="N", help="end after N lines")


WATCH = Verb(
    "watch",
    "say how a resource is, and then whenever it changes",
    watch,
    _arguments,
    "One line for each change: present, changed, refused (also: gone), away (nobody can be\n"
    "asked). The content is never printed. Runs until it is interrupted, or for --count lines.\n"
    "example: cguest resource watch kbs:///default/key/1 --interval 60",
)
