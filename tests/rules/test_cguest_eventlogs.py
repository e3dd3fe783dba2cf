"""``cguest eventlog show|replay`` on files, in-process."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from cguest.__main__ import main
from cguest.outcome import Exit
from mocktee.bootlog import BootInputs, boot, ccel_table
from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4
from mocktee.td import TdState

PKI = MockPki.create()
TD = TdState.booted()
LOG = TD.boot_log.data_file()
OTHER = boot(BootInputs(kernel=b"another kernel")).data_file()


def quote_of(td: TdState = TD) -> bytes:
    return build_quote_v4(PKI, bytes(64), td)


def evidence(log: bytes | None = LOG, quote: bytes | None = None) -> bytes:
    encoded = None if log is None else base64.b64encode(log).decode()
    taken = base64.b64encode(quote or quote_of()).decode()
    return json.dumps({"quote": taken, "cc_eventlog": encoded}).encode()


def written(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def test_show_describes_each_event(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = written(tmp_path, "log", LOG)
    assert main(["-o", "json", "eventlog", "show", file]) == Exit.PASS
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["entries"]) == len(TD.boot_log.events)
    kernel = next(e for e in shown["entries"] if e["summary"] == "EFI image kernel")
    assert kernel["register"] == "RTMR1"
    assert kernel["digest_covers"] == "image (Authenticode)"
    assert kernel["digest_holds"] is None
    assert main(["eventlog", "show", file]) == Exit.PASS
    text = capsys.readouterr().out
    assert "RTMR2     EVENT_TAG" in text and "kernel command line (EFI stub)" in text


def test_evidence_is_compared_with_its_own_quote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["-o", "json", "eventlog", "replay", written(tmp_path, "e", evidence())]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert [r["agrees"] for r in shown["registers"]] == [True] * 4
    assert [r["value"] for r in shown["registers"]] == [value.hex() for value in TD.rtmrs]
    assert shown["registers"][1]["last_event"] == (
        "EFI action: Exit Boot Services Returned with Success"
    )
    assert shown["entries"][-1]["value_after"] == TD.rtmrs[2].hex()


def test_a_log_without_a_quote_is_replayed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eventlog", "replay", written(tmp_path, "log", LOG)]) == Exit.PASS
    text = capsys.readouterr().out
    assert f"RTMR0     {TD.rtmrs[0].hex()}  not compared" in text


def test_a_difference_is_refused_and_a_reference_finds_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, quote = written(tmp_path, "log", OTHER), written(tmp_path, "quote", quote_of())
    assert main(["eventlog", "replay", log, "--quote", quote]) == Exit.REFUSED
    text = capsys.readouterr().out
    assert text.count("DIFFERS") == 1
    assert "hashes alone do not tell" in text
    good = written(tmp_path, "good", LOG)
    code = main(["eventlog", "replay", log, "--quote", quote, "--reference", good])
    assert code == Exit.REFUSED
    text = capsys.readouterr().out
    assert "RTMR1 departs from the reference at its event 3:\n  here       EFI image kernel" in text
    assert main(["-o", "json", "eventlog", "replay", log, "--reference", good]) == Exit.REFUSED
    (found,) = json.loads(capsys.readouterr().out)["divergences"]
    assert (found["register"], found["position"]) == ("RTMR1", 3)


def test_an_extended_register_without_an_event_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    td = TdState.booted()
    td.extend(3, b"\1" * 48)
    file = written(tmp_path, "e", evidence(quote=quote_of(td)))
    assert main(["-o", "json", "eventlog", "replay", file]) == Exit.REFUSED
    registers = json.loads(capsys.readouterr().out)["registers"]
    assert [r["agrees"] for r in registers] == [True, True, True, False]
    assert main(["eventlog", "replay", file]) == Exit.REFUSED
    assert "DIFFERS: the log has no event of it" in capsys.readouterr().out


def test_the_agents_text_log_speaks_of_rtmr3_only(
    shared_vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared_vectors / "tdx"
    quote = str(folder / "quotes" / "trustee_v4_text_aael.bin")
    log = str(folder / "aael" / "text_1.txt")
    assert main(["-o", "json", "eventlog", "replay", log, "--quote", quote]) == Exit.PASS
    registers = json.loads(capsys.readouterr().out)["registers"]
    assert [r["agrees"] for r in registers] == [None, None, None, True]


def test_a_tdreport_serves_as_well_as_a_quote(
    shared_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = str(shared_vectors / "tdx" / "tdreports" / "azure.bin")
    log = written(tmp_path, "log", LOG)
    assert main(["eventlog", "replay", log, "--quote", report]) == Exit.REFUSED
    assert capsys.readouterr().out.count("DIFFERS") == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(evidence(None), "this evidence JSON carries no event log", id="no log"),
        pytest.param(quote_of(), "this quote carries no event log", id="quote"),
        pytest.param(LOG[:200], "event log, digest at byte", id="cut"),
    ],
)
@pytest.mark.parametrize("verb", ["show", "replay"])
def test_files_without_a_log_are_errors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], verb: str, content: bytes, says: str
) -> None:
    assert main(["eventlog", verb, written(tmp_path, "file", content)]) == Exit.ERROR
    assert says in capsys.readouterr().err


def test_the_acpi_table_is_told_from_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["eventlog", "show", written(tmp_path, "CCEL", ccel_table())]) == Exit.ERROR
    printed = capsys.readouterr().err
    assert "points to a log area of 65536 bytes for TDX" in printed
    assert "the log itself is /sys/firmware/acpi/tables/data/CCEL" in printed


def test_what_cannot_be_replayed_is_an_error(
    shared_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(shared_vectors / "tdx" / "ccel" / "csv_sm3_not_tdx.bin")
    assert main(["eventlog", "show", log]) == Exit.PASS
    assert main(["eventlog", "replay", log]) == Exit.ERROR
    assert "SHA-384" in capsys.readouterr().err
    good = written(tmp_path, "log", LOG)
    assert main(["eventlog", "replay", good, "--quote", good]) == Exit.ERROR
    assert "neither a quote nor a TDREPORT" in capsys.readouterr().err
