"""Parsing quotes, replaying event logs, judging: the figures of the TDX layer, no daemon needed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

import dcap_qvl

from bench.figures import Figure, Report
from mocktee.bootlog import BootLog, boot
from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4, build_quote_v5
from mocktee.td import TdState
from tdx.eventlog import parse_event_log
from tdx.log_history import log_history
from tdx.quote import parse_quote
from tdx.replay import replay
from tdx.verify import Trust, parse_collateral, parse_root, verify_quote

ROUNDS = 9
PARSES = 2000
REPLAYS = 20
VERDICTS = 40
LOG_BYTES = 100 * 1024
NOW = datetime(2026, 6, 1, tzinfo=UTC)


def times(call: Callable[[], object], count: int, scale: float) -> tuple[float, ...]:
    """Time for one call, ``scale`` to the second, once for each round."""
    samples = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(count):
            call()
        samples.append((time.perf_counter() - start) / count * scale)
    return tuple(samples)


def long_log() -> bytes:
    """A boot log of at least 100 KiB: boots one after another, as no machine would log them."""
    events = boot().events
    while len(BootLog(events).encode()) < LOG_BYTES:
        events += boot().events
    return BootLog(events).encode()


async def measure(report: Report) -> None:
    pki, td = MockPki.create(now=NOW), TdState.booted()
    for version, build in ((4, build_quote_v4), (5, build_quote_v5)):
        data = build(pki, bytes(64), td)
        name = f"parse a quote, version {version}, {len(data)} bytes"
        peer = min(times(partial(dcap_qvl.parse_quote, data), PARSES, 1e6))
        ours = times(partial(parse_quote, data), PARSES, 1e6)
        report.add(Figure(name, "µs", ours, "lower", 200, peer, "dcap-qvl, Rust"))
    log = long_log()
    events = len(parse_event_log(log).events)
    name = f"parse and replay a log of 100 KiB, {events} events"
    replays = times(lambda: replay(parse_event_log(log).events), REPLAYS, 1e3)
    report.add(Figure(name, "ms", replays, "lower", 10))
    told = times(lambda: log_history(log), REPLAYS, 1e3)
    report.add(Figure("the same with each event described", "ms", told, "lower"))
    quote = parse_quote(build_quote_v4(pki, bytes(64), td))
    collateral = parse_collateral(json.dumps(pki.collateral()).encode())
    trust = Trust(parse_root(pki.root_ca_der), collateral)
    verdicts = times(lambda: verify_quote(quote, trust, now=NOW), VERDICTS, 1e3)
    report.add(Figure("a verdict on a quote", "ms", verdicts, "lower"))
