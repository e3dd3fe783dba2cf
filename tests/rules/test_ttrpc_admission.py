"""Who stays connected when there is not room for all."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ttrpc.admission import Admission
from ttrpc.limits import Limits


@dataclass(eq=False, slots=True)
class Peer:
    process: int | None
    is_busy: bool = False
    has_completed: bool = False
    active_at: float = 0.0
    partial_since: float | None = None


LIMITS = Limits(connections=4, connections_per_process=3, partial_bytes=100)
AGENT, OTHER, NEW = 1, 2, 3


def admission_of(*peers: Peer) -> Admission[Peer]:
    admission: Admission[Peer] = Admission(LIMITS)
    for peer in peers:
        admission.enter(peer)
    return admission


def idle(process: int | None, at: float) -> Peer:
    return Peer(process, active_at=at)


def used(process: int | None, at: float) -> Peer:
    return Peer(process, active_at=at, has_completed=True)


def busy(process: int | None, at: float) -> Peer:
    return Peer(process, active_at=at, is_busy=True)


@pytest.mark.parametrize(
    ("peers", "newcomer", "may_stay", "displaced"),
    [
        pytest.param([], NEW, True, None, id="first"),
        pytest.param([idle(OTHER, n) for n in range(3)], NEW, True, None, id="room-left"),
        pytest.param(
            [idle(OTHER, 2), idle(OTHER, 1), idle(OTHER, 3)], OTHER, True, 1,
            id="own-idle-longest",
        ),
        pytest.param(
            [used(OTHER, 1), busy(OTHER, 0), idle(OTHER, 3)], OTHER, True, 2,
            id="own-that-never-called",
        ),
        pytest.param([busy(OTHER, n) for n in range(3)], OTHER, False, None, id="own-all-busy"),
        pytest.param(
            [used(AGENT, 0), used(OTHER, 1), used(OTHER, 2), used(OTHER, 3)], NEW, True, 1,
            id="the-process-with-most-pays",
        ),
        pytest.param(
            [used(AGENT, 0), busy(OTHER, 1), busy(OTHER, 2), busy(OTHER, 3)], NEW, True, 1,
            id="busy-ones-as-well",
        ),
        pytest.param([used(n, n) for n in range(10, 14)], NEW, False, None, id="nobody-has-more"),
        pytest.param(
            [used(AGENT, 0), used(10, 1), idle(11, 2), used(12, 3)], NEW, True, 2,
            id="one-each-and-one-never-called",
        ),
        pytest.param(
            [used(None, 0), idle(None, 1), used(None, 2)], None, True, 1,
            id="the-unknown-are-one-process",
        ),
    ],
)  # fmt: skip
def test_who_leaves_for_a_newcomer(
    peers: list[Peer], newcomer: int | None, *, may_stay: bool, displaced: int | None
) -> None:
    admitted, victim = admission_of(*peers).admits(newcomer)
    assert admitted is may_stay
    assert victim is (None if displaced is None else peers[displaced])


def test_a_lack_of_descriptors_costs_no_busy_connection() -> None:
    assert admission_of(busy(OTHER, 0), busy(OTHER, 1), used(AGENT, 0)).expendable() is None
    peers = [busy(OTHER, 0), used(OTHER, 1), used(AGENT, 0)]
    assert admission_of(*peers).expendable() is peers[1]
    peers = [used(OTHER, 0), used(OTHER, 1), idle(AGENT, 5)]
    assert admission_of(*peers).expendable() is peers[2]
    assert admission_of().expendable() is None


def test_the_oldest_incomplete_frame_goes_when_they_hold_too_much() -> None:
    peers = [Peer(n, partial_since=float(since)) for n, since in enumerate((7, 5, 9))]
    admission = admission_of(*peers)
    assert admission.holds(peers[0], 60) is None
    assert admission.holds(peers[1], 40) is None
    assert admission.holds(peers[2], 1) is peers[1]
    admission.leave(peers[1])
    assert admission.holds(peers[2], 40) is None
    assert admission.holds(peers[1], 1000) is None  # who has left holds nothing
    admission.leave(peers[1])
    assert len(admission) == 2


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), max_size=60))
def test_the_agents_only_connection_survives_any_arrivals(
    arrivals: list[tuple[int, bool, bool]],
) -> None:
    agent = used(0, 0.0)
    admission = admission_of(agent)
    for at, (process, is_busy, has_completed) in enumerate(arrivals):
        admitted, victim = admission.admits(process)
        assert victim is not agent
        if victim is not None:
            admission.leave(victim)
        if admitted:
            admission.enter(Peer(process, is_busy, has_completed, float(at)))
        assert len(admission) <= LIMITS.connections
