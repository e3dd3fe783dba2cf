"""``cguest explain`` and ``cguest reference-values`` on files: containers, bounds, exit codes."""

from __future__ import annotations

import base64
import io
import json
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from cguest.__main__ import main
from cguest.bundle_files import MAX_MEMBERS, load_bundle, save_bundle
from cguest.connection import CommandError
from cguest.outcome import Exit
from explain import Bundle, BundleError, ExplainError, Part
from tdx.errors import TdxError
from tests.bundles import BOOT, Guest
from tests.refusals import REFUSALS

PARTS = REFUSALS[8].make()  # another kernel command line


def as_directory(folder: Path) -> Path:
    path = folder / "bundle"
    path.mkdir()
    for name, content in PARTS.items():
        (path / name).write_bytes(content)
    return path


def as_tar(folder: Path) -> Path:
    path = folder / "bundle.tar"
    with tarfile.open(path, "w") as archive:
        archive.add(as_directory(folder), "ticket-4711")
    return path


def as_json(folder: Path) -> Path:
    path = folder / "bundle.json"
    texts = {
        name: base64.b64encode(content).decode() if name.endswith(".bin") else content.decode()
        for name, content in PARTS.items()
    }
    path.write_text(json.dumps({"cguest-bundle": 1, "parts": texts}))
    return path


@pytest.mark.parametrize("form", [as_directory, as_tar, as_json])
def test_every_container_holds_the_same_bundle(
    form: Callable[[Path], Path], tmp_path: Path
) -> None:
    path = form(tmp_path)
    assert {str(part): data for part, data in load_bundle(path).parts.items()} == PARTS
    assert main(["explain", str(path)]) == Exit.REFUSED


def test_what_is_saved_is_private_and_can_be_loaded(tmp_path: Path) -> None:
    bundle = Bundle.of(PARTS)
    folder = tmp_path / "new" / "ticket"
    save_bundle(folder, bundle)
    assert load_bundle(folder) == bundle
    for path in (folder, *folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    with pytest.raises(CommandError, match="not empty"):
        save_bundle(folder, bundle)


@pytest.mark.parametrize("request_body", [True, False], ids=["attestation body", "evidence"])
def test_a_bare_file_will_do(
    request_body: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = Guest()
    path = tmp_path / "file.json"
    path.write_text(json.dumps(guest.request() if request_body else guest.evidence()))
    root = tmp_path / "root.pem"
    root.write_bytes(guest.root())
    flags = ["--trusted-root", str(root), "--nonce", "another nonce"]
    code = main(["-o", "json", "explain", str(path), *flags])
    codes = {item["code"] for item in json.loads(capsys.readouterr().out)["findings"]}
    assert ("report-data-nonce" in codes) == request_body
    assert code == (Exit.REFUSED if request_body else Exit.PASS)


def test_a_bare_quote_in_hex(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "quote.hex"
    path.write_text(Guest().quote().hex())
    assert main(["explain", str(path)]) == Exit.REFUSED
    assert "root-unknown" in capsys.readouterr().out


def hostile_tar(path: Path, *members: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w") as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([member("bundle.json", tarfile.SYMTYPE)], id="symbolic link"),
        pytest.param([member("bundle.json", tarfile.LNKTYPE)], id="hard link"),
        pytest.param([member("bundle.json", tarfile.FIFOTYPE)], id="fifo"),
        pytest.param([member("a/bundle.json"), member("b/bundle.json")], id="twice"),
        pytest.param([member("../../etc/shadow")], id="no part"),
        pytest.param([member(str(i)) for i in range(MAX_MEMBERS + 1)], id="too many"),
    ],
)
def test_a_hostile_archive_is_refused(members: list[tarfile.TarInfo], tmp_path: Path) -> None:
    with pytest.raises((CommandError, BundleError)):
        load_bundle(hostile_tar(tmp_path / "x.tar", *members))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 257 + b"ustar" + b"\xff" * 300, id="broken tar"),
        pytest.param(b'{"cguest-bundle":1,"parts":3}', id="parts is a number"),
        pytest.param(b'{"cguest-bundle":1,"parts":{"a":1}}', id="a part is a number"),
        pytest.param(
            b'{"cguest-bundle":1,"parts":{"reference-eventlog.bin":"?"}}', id="not base64"
        ),
        pytest.param(b'{"cguest-bundle":1,"parts":{"x":"y"}}', id="no part"),
        pytest.param(b"hello", id="text"),
    ],
)
def test_what_is_no_bundle_is_one_clear_error(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises((CommandError, ExplainError, TdxError)):
        load_bundle(path)
    assert main(["explain", str(path)]) == Exit.ERROR
    assert capsys.readouterr().err.startswith("error: ")


def test_an_unknown_file_in_a_directory_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (as_directory(tmp_path) / "notes.txt").write_text("")
    assert main(["explain", str(tmp_path / "bundle")]) == Exit.ERROR
    assert "notes.txt" in capsys.readouterr().err


def test_an_outage_is_an_error_and_no_refusal(tmp_path: Path) -> None:
    path = tmp_path / "bundle"
    save_bundle(path, Bundle.of({Part.ANSWER: b'{"outcome":"tls","message":"m"}'}))
    assert main(["explain", str(path)]) == Exit.ERROR


# -- reference values --


def test_values_of_evidence_as_table_and_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    guest = Guest()
    path = tmp_path / "evidence.json"
    path.write_text(json.dumps(guest.evidence()))
    assert main(["reference-values", "--evidence", str(path)]) == Exit.PASS
    text = capsys.readouterr().out
    assert guest.td.rtmrs[2].hex() in text
    assert "rtmr_3: differs between boots" in text
    assert main(["-o", "json", "reference-values", "--evidence", str(path)]) == Exit.PASS
    data = json.loads(capsys.readouterr().out)
    message = json.loads(data["message"])
    assert json.loads(base64.b64decode(message["payload"])) == data["values"]
    assert data["kernel_digests"].keys() == {"tdvfkernel", "tdvfkernelparams"}


def test_the_message_is_all_that_is_printed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    initrd = tmp_path / "initrd"
    initrd.write_bytes(BOOT.initrd)
    flags = ["--cmdline", BOOT.command_line, "--initrd", str(initrd), "--message"]
    assert main(["reference-values", *flags]) == Exit.PASS
    message = json.loads(capfdbinary.readouterr().out)
    assert message["type"] == "sample"
    assert json.loads(base64.b64decode(message["payload"])).keys() == {"rtmr_2"}


def test_nothing_to_compute_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference-values"]) == Exit.ERROR
    assert "--evidence" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["zz", "00", ""])
def test_an_mrtd_that_is_none(value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["reference-values", "--mrtd", value])
    assert caught.value.code == Exit.USAGE
