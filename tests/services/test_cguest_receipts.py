"""``cguest receipts`` on files: what it says, and with which exit code."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from agent.measured_event import MeasuredEvent
from cguest.__main__ import main
from cguest.outcome import Exit
from receipts import (
    DOMAIN,
    OPERATION,
    Access,
    Caller,
    Head,
    LogSettings,
    Subject,
    checkpoint_content,
    encode_export,
    open_log,
)
from tdx.eventlog import encode_event
from tests.rules.receipt_samples import BOOT, GENESIS, RELEASE, UNSEAL, chained, with_checkpoint

LINES, HEADS = with_checkpoint([GENESIS, RELEASE, UNSEAL])


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    path = tmp_path / "receipts.jsonl"
    path.write_bytes(encode_export(LINES, HEADS[-1]))
    return path


def event_log(tmp_path: Path, *contents: str, operation: str = OPERATION) -> Path:
    """An agent's log with other events before and after."""
    path = tmp_path / "eventlog"
    events = [MeasuredEvent.checked("example.com", "Started", "{}")]
    events += [MeasuredEvent.checked(DOMAIN, operation, content) for content in contents]
    events.append(MeasuredEvent.checked("example.com", OPERATION, "{}"))
    path.write_bytes(b"".join(encode_event(event.record(4)) for event in events))
    return path


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["-o", "json", "receipts", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_export_holds(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, found = run(capsys, "verify", exported)
    assert code == Exit.PASS and found["holds"]
    assert (found["first"], found["last"], found["head"]) == (0, 3, HEADS[-1].digest)
    assert "whoever has the file" in found["end_vouched_for_by"]


def test_a_head_and_a_log_vouch_for_more(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = f"{HEADS[2].sequence}:{HEADS[2].digest}"
    log = event_log(tmp_path, checkpoint_content(BOOT, HEADS[2]))
    code, found = run(capsys, "verify", exported, "--head", head, "--event-log", log)
    assert code == Exit.PASS
    assert found["checkpoints_matched"] == 1 and found["covered_to"] == 2
    assert "no quote" in found["event_log_and_quote"]


def test_events_of_others_are_no_checkpoints(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = event_log(tmp_path, checkpoint_content(BOOT, Head(9, "00" * 48)), operation="other")
    code, found = run(capsys, "verify", exported, "--event-log", log)
    assert code == Exit.PASS and found["checkpoints_matched"] == 0
    assert found["checkpoints_later_than_the_log"] == 1


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        pytest.param(Head(2, "00" * 48), "head", id="another"),
        pytest.param(Head(9, "00" * 48), "truncated", id="later"),
    ],
)
def test_another_head_is_refused(
    exported: Path, head: Head, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = run(capsys, "verify", exported, "--head", f"{head.sequence}:{head.digest}")
    assert code == Exit.REFUSED and [p["problem"] for p in found["problems"]] == [problem]


@pytest.mark.parametrize("head", [Head(2, "00" * 48), Head(9, "00" * 48)])
def test_another_measured_head_is_refused(
    exported: Path, tmp_path: Path, head: Head, capsys: pytest.CaptureFixture[str]
) -> None:
    log = event_log(tmp_path, checkpoint_content(BOOT, head))
    code, found = run(capsys, "verify", exported, "--event-log", log)
    assert code == Exit.REFUSED and found["problems"]


@pytest.mark.parametrize("cut", [1, 40, 400])
def test_a_file_that_is_cut_off_is_refused(
    exported: Path, cut: int, capsys: pytest.CaptureFixture[str]
) -> None:
    exported.write_bytes(exported.read_bytes()[:-cut])
    code, found = run(capsys, "verify", exported)
    assert code == Exit.REFUSED and not found["holds"]


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert main(["receipts", "verify", str(tmp_path / "none")]) == Exit.ERROR
    assert main(["receipts", "export", "--directory", str(tmp_path / "none")]) == Exit.ERROR
    assert main(["receipts", "show", "--directory", str(tmp_path)]) == Exit.ERROR


def test_a_log_without_events_of_a_guest_is_an_error(exported: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"{}")
    code = main(["receipts", "verify", str(exported), "--event-log", str(other)])
    assert code == Exit.ERROR


@pytest.mark.parametrize("head", ["", "1", "1:00", "x:" + "0" * 96, "1:" + "g" * 96])
def test_a_head_of_another_form_is_a_usage_error(exported: Path, head: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["receipts", "verify", str(exported), "--head", head])
    assert ended.value.code == Exit.USAGE


def test_what_a_receipt_says_cannot_steer_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = Access(
        "release", "refused", Caller("rest", container="c\x1b[2J"),
        Subject(resource="kbs:///a/b/\x1b]0;c\x07"), "why\r\nnot",
    )  # fmt: skip
    lines, heads = chained([GENESIS, evil])
    path = tmp_path / "receipts.jsonl"
    path.write_bytes(encode_export(lines, heads[-1]))
    assert main(["receipts", "show", str(path)]) == Exit.PASS
    shown = capsys.readouterr().out
    assert "refused" in shown and not set(shown) & set("\x1b\x07\r")


async def _kept(folder: Path) -> None:
    async with open_log(folder, LogSettings()) as log:
        await log.record(RELEASE)


def test_the_directory_is_that_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(_kept(tmp_path / "chain"))
    config = tmp_path / "c.toml"
    config.write_text(f'[receipts]\ndirectory = "{tmp_path}/chain"\n')
    assert main(["-c", str(config), "receipts", "show"]) == Exit.PASS
    assert "kbs:///default/key/1" in capsys.readouterr().out
    assert main(["-c", str(config), "receipts", "export", "--output", str(tmp_path / "e")]) == 0
    assert main(["receipts", "verify", str(tmp_path / "e")]) == Exit.PASS
