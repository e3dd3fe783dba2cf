"""Each bad input gives one clear error where it was asked: what, on what, and what to do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from cguest.outcome import Exit
from demo.mounting import oss_options, sealed_oss_keys
from demo.stage import Daemon, Finished, Stage, run
from mocktee.certs import provide_tls

pytestmark = pytest.mark.asyncio(loop_scope="module")
RESOURCE = ("resource", "get", "kbs:///default/key/1")


def _check(done: Finished, code: Exit, *words: str) -> None:
    assert done.code == code, (done.code, done.err)
    assert len(done.err.splitlines()) == 1, "one error, on one line"
    for word in words:
        assert word in done.err, (word, done.err)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        pytest.param({"kind": "status", "status": 403}, 1, ["HTTP 403"], id="403"),
        pytest.param({"kind": "status", "status": 404}, 3, ["HTTP 404", "hint"], id="404"),
        pytest.param({"kind": "status", "status": 413}, 3, ["HTTP 413"], id="413"),
        pytest.param({"kind": "status", "status": 500}, 3, ["HTTP 500", "attempts"], id="500"),
        pytest.param(
            {"kind": "refuse", "status": 401, "type": "PolicyDeny", "detail": "Access denied"},
            1,
            ["resource policy", "PolicyDeny"],
            id="policy",
        ),
        pytest.param({"kind": "corrupt"}, 3, ["cannot be opened"], id="jwe-tampered"),
        pytest.param({"kind": "cut"}, 3, ["before the whole answer"], id="cut"),
        pytest.param({"kind": "never_ending_body"}, 3, ["larger than the limit"], id="too-large"),
        pytest.param(
            {"kind": "redirect", "location": "http://127.0.0.1:9/"}, 3, ["redirect"], id="redirect"
        ),
        pytest.param(
            {"kind": "wrong_size", "part": "tag", "size": 3}, 3, ["tag of 16"], id="jwe-size"
        ),
    ],
)
async def test_kbs_faults(
    stage: Stage, fault: dict[str, Any], code: Exit, words: list[str]
) -> None:
    assert (await stage.cguest("attest")).code == 0
    await stage.harness.kbs.add_fault(path="/kbs/v0/resource", count=None, **fault)
    try:
        done = await stage.cguest("--timeout", "20", *RESOURCE)
    finally:
        await stage.harness.kbs.clear_faults()
    _check(done, code, "kbs:///default/key/1", stage.harness.kbs_url, *words)
    # Nothing half-done: the next request is served.
    assert (await stage.cguest(*RESOURCE)).code == 0


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        pytest.param({"kind": "no_provider", "count": None}, ["ENXIO", "no TD"], id="no-provider"),
        pytest.param(
            {"kind": "wrong_provider", "provider": "sev_guest", "count": None},
            ["'tdx_guest'", "'sev_guest'"],
            id="wrong-provider",
        ),
        pytest.param({"kind": "wrong_report_data", "count": None}, ["report data"], id="binding"),
        pytest.param({"kind": "truncated", "length": 700, "count": None}, ["700"], id="truncated"),
    ],
)
async def test_tee_faults(stage: Stage, fault: dict[str, Any], words: list[str]) -> None:
    await stage.harness.tsm.set_faults([fault])
    try:
        done = await stage.cguest("--timeout", "8", "evidence", "get", "--runtime-data", "x")
    finally:
        await stage.harness.tsm.clear_faults()
    _check(done, Exit.ERROR, "AA-KBC get evidence failed", *words)


async def _with_other_config(
    stage: Stage, name: str, old: str, new: str, *command: str
) -> Finished:
    """Run ``command`` against a second daemon whose configuration differs in one place."""
    folder = stage.folder / name
    config = stage.folder / f"{name}.toml"
    stage.harness.write_config(config, folder, rest_bind="127.0.0.1:0")
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    daemon = await Daemon.start(config, folder)
    try:
        return await run(sys.executable, "-m", "cguest", "-c", str(config), *command)
    finally:
        await daemon.stop()


async def test_kbs_that_is_not_there(stage: Stage) -> None:
    done = await _with_other_config(
        stage, "down", stage.harness.kbs_url, "https://127.0.0.1:1", "attest"
    )
    _check(done, Exit.ERROR, "https://127.0.0.1:1", "Connection refused", "hint")


async def test_wrong_ca(stage: Stage) -> None:
    other = provide_tls(stage.folder / "other-ca")
    done = await _with_other_config(
        stage, "ca", stage.harness.kbs_ca_pem or "", other.ca.read_text(), "attest"
    )
    _check(done, Exit.ERROR, "could not be authenticated over TLS", "CA certificate")


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        pytest.param(("resource", "get", "http://a/b"), 3, ["scheme must be kbs"], id="uri-scheme"),
        pytest.param(("resource", "get", "kbs:///a/b"), 3, ["2 segment(s)"], id="uri-short"),
        pytest.param(("secret", "unseal", "nonsense"), 3, ["header.payload.signature"], id="text"),
        pytest.param(("secret", "unseal", "sealed.e30.e30.AA"), 3, ["header"], id="header"),
        pytest.param(("mount", "remove", "/nope"), 3, ["/nope", "list"], id="unmount"),
    ],
)
async def test_malformed_requests(
    stage: Stage, command: tuple[str, ...], code: Exit, words: list[str]
) -> None:
    _check(await stage.cguest(*command), code, *words)


async def _mount(stage: Stage, point: Path | str, **changes: str) -> Finished:
    key_id, key = await sealed_oss_keys(stage)
    options = changes.pop("opts", "")
    return await stage.cguest(
        "mount", "oss", changes.pop("bucket", stage.harness.bucket), str(point),
        "--url", changes.pop("url", stage.harness.oss_endpoint), "--ak-id", key_id,
        "--ak-secret", key_id if changes.pop("wrong_key", "") else key,
        "--other-opts", f"{oss_options(stage)} {options}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        pytest.param({"wrong_key": "y"}, 1, ["SignatureDoesNotMatch", "request "], id="key"),
        pytest.param({"bucket": "absent-bucket"}, 3, ["NoSuchBucket"], id="bucket"),
        pytest.param({"url": "https://127.0.0.1:9"}, 3, ["127.0.0.1:9"], id="endpoint"),
        pytest.param({"url": "http://127.0.0.1:9"}, 1, ["plain http is refused"], id="http"),
        pytest.param({"opts": "-o frob=1"}, 1, ["option frob", "unknown"], id="unknown-option"),
        pytest.param({"opts": "-ourl=https://x"}, 1, ["option url"], id="url-option"),
        pytest.param({"opts": "-o passwd_file=/x"}, 1, ["passwd_file"], id="key-option"),
        pytest.param({"opts": "-o no_check_certificate"}, 1, ["no_check_cert"], id="tls-option"),
    ],
)
async def test_mounts_that_are_refused_leave_nothing(
    stage: Stage, changes: dict[str, str], code: Exit, words: list[str]
) -> None:
    point = stage.folder / "mnt" / "refused"
    _check(await _mount(stage, point, **changes), code, "Secure Mount failed", *words)
    assert not point.exists()
    assert (await stage.cguest("mount", "list")).text == "no mounts"


async def test_bad_mount_points(stage: Stage) -> None:
    file = stage.folder / "a-file"
    file.write_text("x")
    taken = stage.folder / "mnt" / "taken"
    _check(await _mount(stage, "mnt/relative"), Exit.ERROR, "not an absolute path")
    _check(await _mount(stage, "/etc/elsewhere"), Exit.ERROR, "outside the allowed roots")
    _check(await _mount(stage, file), Exit.ERROR, "is not a directory")
    assert (await _mount(stage, taken)).code == 0
    _check(await _mount(stage, taken), Exit.ERROR, "already at", "unmount it first")
    assert (await stage.cguest("mount", "remove", str(taken))).code == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(None, ["cannot be read", "No such file"], id="absent"),
        pytest.param("[agent]\nscoket = 'x'\n", ["scoket"], id="unknown-key"),
        pytest.param("[agent\n", ["TOML"], id="not-toml"),
        pytest.param("[agent]\nsocket = 'tcp://x'\n", ["unix:///"], id="address"),
        pytest.param("[rest]\nbind = '0.0.0.0:80'\n", ["loopback"], id="bind"),
        pytest.param("[cdh.kbc]\nname = 'sample_kbc'\n", ["unknown", "cc_kbc"], id="absent-part"),
    ],
)
async def test_bad_configuration(tmp_path: Path, content: str | None, words: list[str]) -> None:
    path = tmp_path / "cguest.toml"
    if content is not None:
        path.write_text(content)
    done = await run(sys.executable, "-m", "cguestd", "-c", str(path), "--check-config")
    assert done.code == 1
    for word in words:
        assert word in done.err
    assert "Traceback" not in done.err


async def test_no_configfs_is_an_error_at_start(stage: Stage) -> None:
    config = stage.folder / "no-tsm.toml"
    stage.harness.write_config(config, stage.folder / "no-tsm", rest_bind="127.0.0.1:0")
    root = str(stage.harness.report_root)
    config.write_text(config.read_text().replace(root, "/nonexistent/tsm/report"))
    done = await run(sys.executable, "-m", "cguestd", "-c", str(config))
    assert done.code == 1
    assert "/nonexistent/tsm/report" in done.err
    assert "tdx_guest" in done.err


@pytest.mark.parametrize(
    ("services", "words"),
    [
        pytest.param("agent", "another process writes this log", id="agent"),
        pytest.param("hub", "another process already answers there", id="hub"),
        pytest.param("rest", "Address already in use", id="rest"),
    ],
)
async def test_taken_addresses(stage: Stage, services: str, words: str) -> None:
    config = stage.folder / "second.toml"
    # With receipts of its own; the receipts of the first are the next test's matter.
    own = str(stage.folder / "run" / "receipts")
    config.write_text(stage.config.read_text().replace(own, str(stage.folder / "receipts-2")))
    command = (sys.executable, "-m", "cguestd", "-c", str(config))
    done = await run(*command, "--services", services)
    assert done.code == 1
    assert words in done.err
    assert (await stage.cguest("status")).code == 0, "the running daemon is not disturbed"


async def test_taken_receipts(stage: Stage) -> None:
    command = (sys.executable, "-m", "cguestd", "-c", str(stage.config))
    done = await run(*command, "--services", "hub")
    assert done.code == 1
    assert "another process writes it" in done.err
    assert (await stage.cguest("status")).code == 0, "the running daemon is not disturbed"
