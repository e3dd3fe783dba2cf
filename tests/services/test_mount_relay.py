"""What a mount process says on stderr reaches our log cut, counted and at its own level."""

from __future__ import annotations

import asyncio
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.mounts.relay import MAX_LINE, MAX_LINES, WINDOW_SECONDS, LineBudget, relay_stderr
from secrecy.journal import configure_logging


async def relayed(data: bytes, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    reader = asyncio.StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    await relay_stderr(reader, "/m")
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


@pytest.mark.parametrize(
    ("line", "level"),
    [
        (b'{"event":"x","level":"info"}', "info"),
        (b'{"event":"x","level":"debug"}', "info"),
        (b'{"event":"x","level":"warning"}', "warning"),
        (b'{"event":"x","level":"error"}', "warning"),
        (b"Traceback (most recent call last):", "warning"),
        (b'{"level":7}', "warning"),
        (b"\xff\xfe", "warning"),
    ],
    ids=str,
)
async def test_levels(line: bytes, level: str, capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = await relayed(line + b"\n\n  \n", capsys)
    assert record["level"] == level
    assert record["mount_point"] == "/m"


async def test_a_last_line_without_end_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert [r["text"] for r in await relayed(b"one\ntwo", capsys)] == ["one", "two"]


async def test_control_characters_do_not_reach_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    (record,) = await relayed(b"\x1b[31mred\x07\n", capsys)
    assert record["text"] == "?[31mred?"


def test_the_budget_is_renewed_with_each_window() -> None:
    now = 0.0
    budget = LineBudget(lambda: now)
    assert sum(budget.admit() for _ in range(MAX_LINES + 5)) == MAX_LINES
    now = WINDOW_SECONDS
    assert budget.admit()
    assert budget.dropped == 5


@given(st.lists(st.binary(max_size=6000), max_size=6))
def test_any_bytes_in_any_split_stay_bounded(chunks: list[bytes]) -> None:
    log = io.StringIO()
    configure_logging("debug", log)

    async def run() -> None:
        reader = asyncio.StreamReader()
        for chunk in chunks:
            reader.feed_data(chunk)
        reader.feed_eof()
        await relay_stderr(reader, "/m")

    asyncio.run(run())
    texts = [json.loads(line).get("text", "") for line in log.getvalue().splitlines()]
    assert all(len(text) <= MAX_LINE + 1 for text in texts)
    assert len(texts) <= MAX_LINES + 1
