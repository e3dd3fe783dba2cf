"""Ten thousand damaged copies of each recorded quote, and fewer of everything else we parse."""

from __future__ import annotations

import itertools
import random
import tracemalloc
from pathlib import Path

import pytest

from tests.fuzz.mutations import mutations
from tests.fuzz.targets import QUOTES, TARGETS, Target

SEED = 20260601
PER_QUOTE = 10_000
PER_INPUT = 200


def damaged(path: Path, count: int) -> itertools.islice[bytes]:
    return itertools.islice(mutations(path.read_bytes(), random.Random(SEED)), count)


def test_recorded_quotes_raise_our_error_only(shared_vectors: Path) -> None:
    paths = QUOTES.inputs()
    assert len(paths) == 15
    for path in paths:
        for data in damaged(path, PER_QUOTE):
            QUOTES.holds(data)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_every_parser_raises_its_error_only(shared_vectors: Path, target: Target) -> None:
    paths = target.inputs()
    assert paths
    for path in paths:
        for data in damaged(path, PER_INPUT):
            target.holds(data)


def test_memory_is_bounded_by_the_input(shared_vectors: Path) -> None:
    """A length field cannot make the parser allocate: it keeps slices of what is there."""
    for path in QUOTES.inputs():
        limit = 8 * path.stat().st_size + 64 * 1024
        for data in damaged(path, 100):
            tracemalloc.start()
            try:
                QUOTES.holds(data)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert peak < limit, f"{path.name}: {peak} bytes"


def test_mutations_repeat_with_their_seed() -> None:
    base = bytes(range(256))
    first = list(itertools.islice(mutations(base, random.Random(1)), 50))
    assert first == list(itertools.islice(mutations(base, random.Random(1)), 50))
    assert len(set(first)) > 40
