"""Which metrics there are: the counts and states that agent and hub keep, under their names.

Reads what others keep and asks nobody. Labels come from fixed sets only. Names of resources,
buckets, mount points and key brokers are none: who may scrape, and whom the scraper passes it on
to, is mostly not who may know what secrets a workload has; and a workload that asks for a thousand
names must not make a thousand time series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agent.compose import RunningAgent
from cdh.brokers import Broker
from cdh.compose import RunningHub
from cdh.hub import HubCounts
from cdh.mounts.supervisor import MountState, MountStatus
from cguestd.metrics_text import Family, Kind, Sample
from kbs import SessionKeeper
from kbs.session import SessionState
from receipts import ReceiptCounts
from serving.supervisor import Supervised


def families(agent: RunningAgent | None, hub: RunningHub | None) -> list[Family]:
    """Return the metrics of what runs in this process. Call it inside the running loop."""
    found: list[Family] = []
    if agent is not None:
        own = agent.agent.status()
        found += [
            _counter(
                "quotes_taken_total", "Quotes the host made for this guest.", own.quotes_taken
            ),
            _counter(
                "measured_events_total", "Events in this boot's runtime log.", own.measured_events
            ),
            *session_families(agent.kbs_sessions.keepers),
        ]
    if hub is not None:
        found += resource_families(hub.hub.counts(), hub.brokers)
        found += mount_families(hub.hub.counts(), hub.hub.list_mounts())
    return found


def process_families(parts: Sequence[Supervised[Any]], reloads: Mapping[str, int]) -> list[Family]:
    """Return the metrics of the process itself: its parts, and how often it was told to reload."""
    return [
        _by_label(
            "part_running", "gauge", "Whether a part is open, else it is opened again.", "part",
            [(part.name, int(part.running)) for part in parts],
        ),
        _by_label(
            "part_restarts_total", "counter", "Times a part was opened again.", "part",
            [(part.name, part.restarts) for part in parts],
        ),
        _by_label(
            "reloads_total", "counter", "Configurations read again while serving.", "outcome",
            sorted(reloads.items()),
        ),
    ]  # fmt: skip


def rest_families(answers: Iterable[tuple[str, str, int]]) -> list[Family]:
    """Return the metrics of REST from route, class of status and count."""
    samples = tuple(
        Sample(count, (("route", route), ("class", of))) for route, of, count in answers
    )
    meaning = "Answers of REST by route and class of status."
    return [Family("cguest_rest_answers_total", "counter", meaning, samples)]


def session_families(keepers: Sequence[SessionKeeper]) -> list[Family]:
    """Return the metrics of the sessions with all addresses of all key brokers, together."""
    states = Counter(keeper.state.value for keeper in keepers)
    ends = [keeper.expires_at for keeper in keepers if keeper.expires_at is not None]
    return [
        _by_label(
            "handshakes_total", "counter", "Attestations with a key broker.", "outcome",
            [
                ("ok", sum(keeper.handshakes for keeper in keepers)),
                ("failed", sum(keeper.failed_handshakes for keeper in keepers)),
            ],
        ),
        _by_label(
            "sessions", "gauge", "Key broker addresses by the state of the session.", "state",
            [(state.value, states[state.value]) for state in SessionState],
        ),
        Family(
            "cguest_session_expiry_timestamp_seconds", "gauge",
            "When the first of the present sessions ends, unix time; absent without one.",
            (Sample(min(ends)),) if ends else (),
        ),
        _gauge(
            "handshake_hold_seconds", "Longest time until a failed attestation is tried again.",
            max((keeper.hold_seconds for keeper in keepers), default=0.0),
        ),
    ]  # fmt: skip


def resource_families(counts: HubCounts, brokers: Sequence[Broker]) -> list[Family]:
    """Return the metrics of resources, those of a key broker that is away, and sealed secrets."""
    statuses = [broker.source.status for broker in brokers]
    stale = [status.oldest_seconds for status in statuses if status.since is not None]
    return [
        _by_label(
            "resources_total", "counter", "Requests for a resource; served includes stale ones.",
            "outcome",
            [("served", counts.served), ("refused", counts.refused), ("failed", counts.failed)],
        ),
        _counter(
            "resources_stale_total", "Kept resources given out while their key broker was away.",
            sum(status.served for status in statuses),
        ),
        _gauge(
            "resource_stale_oldest_age_seconds",
            "Age of the oldest kept resource of a key broker that is away; 0 if none is.",
            max(stale, default=0.0),
        ),
        _counter(
            "unseal_failures_total", "Sealed secrets that were not opened.", counts.unseal_failures
        ),
    ]  # fmt: skip


def mount_families(counts: HubCounts, mounts: Iterable[MountStatus]) -> list[Family]:
    """Return the metrics of mounts."""
    states = Counter(mount.state.value for mount in mounts)
    return [
        _by_label(
            "mounts", "gauge", "Mounts by state.", "state",
            [(state.value, states[state.value]) for state in MountState],
        ),
        _counter(
            "mount_restarts_total", "Mount processes started anew.", counts.mount_restarts
        ),
    ]  # fmt: skip


def receipt_families(counts: ReceiptCounts) -> list[Family]:
    """Return the metrics of the receipts that this process keeps."""
    return [
        _counter("receipts_total", "Receipts in the chain, dropped ones too.", counts.sequence + 1),
        _counter("receipts_lost_total", "What happened without a receipt.", counts.lost),
        _gauge("receipts_failing", "Whether receipts cannot be written now.", int(counts.failing)),
    ]


def _counter(name: str, meaning: str, value: int) -> Family:
    return Family(f"cguest_{name}", "counter", meaning, (Sample(value),))


def _gauge(name: str, meaning: str, value: float) -> Family:
    return Family(f"cguest_{name}", "gauge", meaning, (Sample(value),))


def _by_label(
    name: str, kind: Kind, meaning: str, label: str, values: Sequence[tuple[str, int]]
) -> Family:
    samples = tuple(Sample(value, ((label, of),)) for of, value in values)
    return Family(f"cguest_{name}", kind, meaning, samples)
