"""``cguest doctor``: what this guest has, on one screen, each line with what to do next."""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from cguest.commands.registry import Verb
from cguest.connection import CommandError, connect
from cguest.outcome import Exit, Outcome, rows
from cguest.sockets import Targets
from protos.stubs import AttestationStatusStub, MountStub

EARLIEST_SANE = 1_735_689_600  # 2025-01-01; a guest clock before this makes every certificate bad


@dataclass(frozen=True, slots=True)
class Finding:
    """One line. ``good`` None: could not be looked at, which is no failure."""

    what: str
    good: bool | None
    said: str


def _check_tsm(targets: Targets) -> Finding:
    path = targets.report_path
    try:
        os.listdir(path)
    except OSError as error:
        advice = "load tdx_guest and mount configfs; outside a TD use the harness"
        return Finding("configfs-tsm", False, f"{path}: {error.strerror}; {advice}")
    return Finding("configfs-tsm", True, path)


def _check_fuse(_targets: Targets) -> Finding:
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC))
    except OSError as error:
        return Finding("FUSE", False, f"/dev/fuse: {error.strerror}; mounts will fail")
    return Finding("FUSE", True, "/dev/fuse")


def _check_clock(_targets: Targets) -> Finding:
    now = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    if now < EARLIEST_SANE:
        return Finding("clock", False, f"{text} is in the past; TLS and OSS signatures will fail")
    return Finding("clock", True, text)


def _route_text(host: str) -> str | None:
    """Return the route to ``host`` as the kernel sees it, or None if there is none."""
    # Netlink costs 0.2 s to import; only this command needs it.
    from pyroute2 import IPRoute, NetlinkError

    address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
    with IPRoute() as netlink:
        try:
            (route,) = netlink.route("get", dst=str(address))
        except NetlinkError:
            return None
        links = netlink.get_links(route.get_attr("RTA_OIF"))
        return f"{address} through {links[0].get_attr('IFLA_IFNAME')}"


def _check_route(targets: Targets) -> Finding:
    host = urlsplit(targets.kbs_url or "").hostname
    if host is None:
        return Finding("route to KBS", None, "no KBS is configured in the file given")
    try:
        route = _route_text(host)
    except OSError as error:
        return Finding("route to KBS", False, f"{host}: {error.strerror}; check DNS and network")
    if route is None:
        return Finding("route to KBS", False, f"no route to {host}; the network is not up yet")
    return Finding("route to KBS", True, route)


async def _check_agent(targets: Targets) -> Finding:
    try:
        async with connect(targets.agent, "attestation agent") as client:
            status = await AttestationStatusStub(client).get_status(timeout_s=5.0)
    except CommandError as error:
        return Finding("attestation agent", False, str(error))
    if status.last_error:
        return Finding("attestation agent", False, status.last_error)
    return Finding("attestation agent", True, f"TEE {status.tee}, session {status.session}")


async def _check_hub(targets: Targets) -> Finding:
    try:
        async with connect(targets.hub, "data hub") as client:
            mounts = (await MountStub(client).list_mounts(timeout_s=5.0)).mounts
    except CommandError as error:
        return Finding("data hub", False, str(error))
    return Finding("data hub", True, f"{len(mounts)} mounts")


async def examine(args: argparse.Namespace, targets: Targets) -> Outcome:
    del args
    local: tuple[Callable[[Targets], Finding], ...] = (
        _check_tsm, _check_fuse, _check_clock, _check_route,
    )  # fmt: skip
    asked: tuple[Callable[[Targets], Awaitable[Finding]], ...] = (_check_agent, _check_hub)
    findings = [await asyncio.to_thread(check, targets) for check in local]
    findings += [await check(targets) for check in asked]
    marks = {True: "ok", False: "FAILS", None: "-"}
    lines = [[marks[item.good], item.what, item.said] for item in findings]
    data = {"findings": [dict(zip(("state", "what", "said"), row, strict=True)) for row in lines]}
    bad = any(item.good is False for item in findings)
    return Outcome(
        data, text=rows(["", "WHAT", "FOUND"], lines), exit=Exit.ERROR if bad else Exit.PASS
    )


TOP = (
    Verb(
        "doctor",
        "check kernel, network, clock and daemons, and say what to do",
        examine,
        teach="Takes no quote and asks nothing of the key broker.",
    ),
)
