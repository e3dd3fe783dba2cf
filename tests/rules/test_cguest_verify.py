"""``cguest quote verify`` on quotes of the mock authority, in-process."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cguest.__main__ import main
from cguest.outcome import Exit
from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4
from mocktee.td import TdState

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKI = MockPki.create(now=NOW)
OLD = MockPki.create(now=NOW, tcb_status="OutOfDate")
CONFIG = b"\7" * 48
TD = TdState.booted(mrconfigid=CONFIG)
DATA = b"hello".ljust(64, b"\0")
AT = ("--at", "2026-06-01T00:00:00Z")


class Files:
    """The files a user would have in a folder."""

    def __init__(self, folder: Path, pki: MockPki = PKI) -> None:
        self.quote = folder / "quote"
        self.quote.write_bytes(build_quote_v4(pki, DATA, TD))
        self.root = folder / "root.der"
        self.root.write_bytes(pki.root_ca_der)
        self.collateral = folder / "collateral.json"
        self.collateral.write_text(json.dumps(pki.collateral()))
        self.evidence = folder / "evidence.json"
        members = {"quote": self.quote.read_bytes(), "cc_eventlog": TD.boot_log.data_file()}
        encoded = {name: base64.b64encode(value).decode() for name, value in members.items()}
        self.evidence.write_text(json.dumps(encoded))

    def verify(self, *more: str, file: Path | None = None) -> list[str]:
        return ["quote", "verify", str(file or self.quote), "--root", str(self.root),
                "--collateral", str(self.collateral), *AT, *more]  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def checks(text: str) -> dict[str, str]:
    return {check["name"]: check["state"] for check in json.loads(text)["checks"]}


def test_a_verdict_in_json(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    more = ("--runtime-data", "hello", "--mr-config-id", CONFIG.hex(),
            "--expect", f"mr_td={TD.mrtd.hex()}")  # fmt: skip
    assert main(["-o", "json", *files.verify(*more, file=files.evidence)]) == Exit.PASS
    out = capsys.readouterr().out
    shown = json.loads(out)
    assert (shown["state"], shown["level"], shown["advisories"]) == ("passed", "UpToDate", [])
    assert shown["expires"] == (NOW + timedelta(days=30)).isoformat()
    assert set(checks(out).values()) == {"passed"}


def test_a_verdict_in_text_says_what_was_not_checked(
    files: Files, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(files.verify()) == Exit.PASS
    text = capsys.readouterr().out
    assert "level       UpToDate" in text
    assert "not checked  report_data          no expected value was given" in text


@pytest.mark.parametrize(
    ("more", "name"),
    [
        pytest.param(("--report-data", "00"), "report_data", id="report data"),
        pytest.param(("--mr-config-id", "00" * 32), "mr_config_id", id="MRCONFIGID"),
        pytest.param(("--expect", f"rt_mr0={'00' * 48}"), "measurements", id="register"),
    ],
)
def test_a_failed_check_is_a_refusal(
    files: Files, capsys: pytest.CaptureFixture[str], more: tuple[str, str], name: str
) -> None:
    assert main(["-o", "json", *files.verify(*more)]) == Exit.REFUSED
    assert checks(capsys.readouterr().out)[name] == "failed"


def test_the_policy_is_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = Files(tmp_path, OLD)
    assert main(files.verify()) == Exit.REFUSED
    text = capsys.readouterr().out
    assert "OutOfDate, accepted are: UpToDate" in text
    assert "tcb_level: the host's firmware or TDX module has to be updated" in text
    assert main(files.verify("--accept-level", "OutOfDate")) == Exit.PASS


def test_the_time_is_the_users(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-o", "json", *files.verify("--at", "2026-08-01T00:00:00")]) == Exit.REFUSED
    assert checks(capsys.readouterr().out)["collateral_time"] == "failed"


def test_a_log_beside_the_quote(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_bytes(TD.boot_log.data_file())
    assert main(["-o", "json", *files.verify("--event-log", str(log))]) == Exit.PASS
    assert checks(capsys.readouterr().out)["event_log"] == "passed"
    assert main(files.verify("--event-log", str(files.quote))) == Exit.ERROR
    assert "no event log" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        pytest.param(("--report-data", "xy"), id="no hex"),
        pytest.param(("--report-data", "00" * 65), id="65 bytes"),
        pytest.param(("--runtime-data", "x" * 65), id="long text"),
        pytest.param(("--runtime-data", "x", "--report-data", "00"), id="both"),
        pytest.param(("--mr-config-id", "00" * 64), id="SHA-512"),
        pytest.param(("--mr-config-id", ""), id="empty"),
        pytest.param(("--at", "yesterday"), id="no time"),
        pytest.param(("--accept-level", "Good"), id="no level"),
        pytest.param(("--expect", "rtmr0=00"), id="no register"),
        pytest.param(("--expect", "rt_mr0=00"), id="short register"),
    ],
)
def test_misuse_is_a_usage_error(
    files: Files, capsys: pytest.CaptureFixture[str], more: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(files.verify(*more))
    assert caught.value.code == Exit.USAGE
    assert "usage: cguest quote verify" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["quote", "root", "collateral"])
def test_files_that_do_not_parse_are_errors(
    files: Files, capsys: pytest.CaptureFixture[str], broken: str
) -> None:
    path: Path = getattr(files, broken)
    path.write_bytes(b"\x81" + bytes(1023))
    assert main(files.verify()) == Exit.ERROR
    assert "error: " in capsys.readouterr().err
