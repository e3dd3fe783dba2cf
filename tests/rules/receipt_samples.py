"""Chains for tests: one of every kind of receipt, and strategies for any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from hypothesis import strategies as st

from receipts import (
    START,
    Access,
    Act,
    Body,
    Caller,
    Checkpoint,
    Gap,
    Genesis,
    Head,
    Restart,
    Stop,
    Subject,
    Verdict,
)

BOOT = "5a" * 32
NOW = 1_700_000_000_000_000
GENESIS = Genesis(BOOT, NOW)
RELEASE = Access(
    "release", "allowed", Caller("ttrpc", 41, 0), Subject(resource="kbs:///default/key/1")
)
UNSEAL = Access(
    "unseal",
    "refused",
    Caller("rest", container="c0ffee"),
    Subject(kid="kbs:///default/signing/1", sealed_sha384="ab" * 48),
    "its signature does not hold",
)

texts = st.text(max_size=40)
accesses = st.builds(
    Access,
    st.sampled_from(get_args(Act)),
    st.sampled_from(get_args(Verdict)),
    st.builds(
        Caller,
        st.sampled_from(["guest", "ttrpc", "grpc", "rest"]),
        st.integers(0, 2**22),
        st.integers(0, 2**32 - 1),
        texts,
    ),
    st.builds(Subject, texts, texts, st.sampled_from(["", "0a" * 48]), texts),
    texts,
)
bodies = st.one_of(
    accesses,
    st.builds(Gap, st.integers(1, 9), st.sampled_from(["queue-full", "write-failed"])),
    st.builds(Restart, st.integers(0, 9)),
    st.just(Stop()),
)


def chained(
    bodies: Sequence[Body], head: Head = START, time_us: int = NOW
) -> tuple[list[bytes], list[Head]]:
    """Return the receipts as lines, and the head after each."""
    lines: list[bytes] = []
    heads: list[Head] = []
    for body in bodies:
        head, line = head.following(body, time_us)
        lines.append(line)
        heads.append(head)
    return lines, heads


def with_checkpoint(before: Sequence[Body]) -> tuple[list[bytes], list[Head]]:
    """Return a chain that ends with a checkpoint of all before it."""
    lines, heads = chained(before)
    last = heads[-1]
    more, ends = chained([Checkpoint(1, last.sequence, last.digest, "measured")], last)
    return lines + more, heads + ends
