"""Every door, fuzzed for a moment: by atheris, with damaged seeds, with frames of any kind."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.stage import run
from tests.conftest import ROOT
from tests.fuzz.door_parsers import PARSERS, DoorTarget
from tests.fuzz.mutations import mutations
from tests.services.ttrpc.rig import HEADER, SERVICE, Rig, call
from ttrpc.envelope_pb2 import Request, Response

SEED = 20260601
RUNS = 3000
MUTATIONS = 500


async def test_atheris_finds_nothing() -> None:
    """Deterministic and short; ``make fuzz`` is the long run."""
    done = await run(
        sys.executable, "-m", "tests.fuzz.guided", "--runs", str(RUNS), "--seed", str(SEED)
    )
    assert done.code == 0, done.text[-2000:] + done.err[-4000:]
    assert done.text.count("no finding") >= len(PARSERS) + 3


@pytest.mark.parametrize("target", PARSERS, ids=lambda target: target.name)
def test_damaged_seeds_raise_our_errors_only(target: DoorTarget) -> None:
    for seed in target.seeds:
        target.holds(seed)
        source = mutations(seed, random.Random(SEED))
        for data in itertools.islice(source, MUTATIONS):
            target.holds(data)


ENVELOPES = st.builds(
    lambda service, method, payload, nano: Request(
        service=service, method=method, payload=payload, timeout_nano=nano
    ).SerializeToString(),
    st.sampled_from([SERVICE, "no.Such", ""]),
    st.sampled_from(["Echo", "Refuse", "Crash", "Lapse", "Absent", "WrongType", "Nope", ""]),
    st.binary(max_size=20),
    st.sampled_from([0, 1, -1, 10**9, 2**63 - 1]),
)
FRAMES = st.tuples(
    st.integers(0, 2**32 - 1) | st.integers(0, 9),  # stream id
    st.integers(0, 255) | st.sampled_from([1, 1, 1, 2, 3]),  # type
    st.integers(0, 255) | st.sampled_from([0, 0, 1, 2, 5, 6]),  # flags
    ENVELOPES | st.binary(max_size=40),
)


@pytest_asyncio.fixture(loop_scope="function")
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Rig.running(tmp_path) as running:
        yield running


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(frames=st.lists(FRAMES, max_size=12), cut=st.integers(0, 60))
async def test_any_frames_are_answered_in_frames(
    rig: Rig, frames: list[tuple[int, int, int, bytes]], cut: int
) -> None:
    """Whatever comes, also cut off: only whole answers to streams that were named, then the end.

    Afterwards a new client is served, and one that was there all the time.
    """
    sent = b"".join(HEADER.pack(len(data), sid, kind, fl) + data for sid, kind, fl, data in frames)
    async with await rig.client() as kept, rig.peer() as peer:
        peer.writer.write(sent[: len(sent) - cut] if cut < len(sent) else sent)
        assert await call(kept, "Echo", "beside") == b"beside"
        peer.writer.write_eof()
        said = await peer.end_of_stream()
        assert await call(kept, "Echo", "after") == b"after"
    while said:
        length, stream_id, kind, _ = HEADER.unpack(said[: HEADER.size])
        assert stream_id in {frame[0] for frame in frames}
        if kind == 2:
            Response.FromString(said[HEADER.size :][:length])
        said = said[HEADER.size + length :]


def test_make_fuzz_runs_both() -> None:
    text = (ROOT / "Makefile").read_text()
    assert "-m tests.fuzz $(FUZZ)" in text
    assert "-m tests.fuzz.guided $(FUZZ)" in text
