"""``cguest quote inspect`` on files in every form, in-process."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest

from cguest.__main__ import main
from cguest.outcome import Exit
from tests.ports.fake_tsm import formed_quote

QUOTE = formed_quote(bytes(range(64)))
NAMES = {
    "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rt_mr0", "rt_mr1", "rt_mr2",
    "rt_mr3", "report_data", "td_attributes", "xfam", "tee_tcb_svn", "mr_seam",
    "mrsigner_seam", "seam_attributes",
}  # fmt: skip


def written(folder: Path, content: bytes) -> str:
    file = folder / "file"
    file.write_bytes(content)
    return str(file)


def test_json_has_the_names_of_the_specification(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = written(tmp_path, json.dumps({"quote": base64.b64encode(QUOTE).decode()}).encode())
    assert main(["-o", "json", "quote", "inspect", file]) == Exit.PASS
    shown = json.loads(capsys.readouterr().out)
    assert shown["form"] == "evidence JSON"
    assert set(shown["body"]) == NAMES | {"type", "type_name"}
    assert shown["body"]["report_data"] == bytes(range(64)).hex()
    assert shown["body"]["td_attributes"]["bits"]["debug"] is False
    assert shown["header"]["version"] == 4
    assert shown["certification"]["type"] == 6
    assert shown["certification"]["nested"]["type"] == 5


def test_text_is_for_a_person(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quote", "inspect", written(tmp_path, QUOTE.hex().encode())]) == Exit.PASS
    text = capsys.readouterr().out
    assert "  mr_config_id     zeros (48 bytes)" in text
    assert text.rstrip().endswith("parsed, not verified: see cguest quote verify --help")


def test_stdin(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(QUOTE)))
    assert main(["-o", "json", "quote", "inspect", "-"]) == Exit.PASS
    assert json.loads(capsys.readouterr().out)["form"] == "quote"


def test_a_recorded_report(shared_vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = shared_vectors / "tdx" / "tdreports" / "azure.bin"
    assert main(["quote", "inspect", str(file)]) == Exit.PASS
    assert "the MAC can be checked only on the machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"hello, world", "in no form known here", id="prose"),
        pytest.param(QUOTE[:700], "TDX quote, quote at byte 0", id="cut quote"),
        pytest.param(b"INIT sha384/00\n", "the file is an event log, not a quote", id="log"),
        pytest.param(b"\x81" + bytes(1023), "TDREPORT, tee_tcb_info_hash", id="zero report"),
    ],
)
def test_other_files_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, says: str
) -> None:
    assert main(["quote", "inspect", written(tmp_path, content)]) == Exit.ERROR
    printed = capsys.readouterr()
    assert says in printed.err
    assert not printed.out


def test_a_missing_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quote", "inspect", str(tmp_path / "none")]) == Exit.ERROR
    assert "No such file" in capsys.readouterr().err
