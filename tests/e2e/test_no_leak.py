"""The whole journey at debug level, and no canary where the host or a neighbour could see it."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from demo.mounting import oss_options
from demo.stage import Stage, run
from protos.stubs import (
    AttestationAgentStub,
    GetResourceStub,
    MountStub,
    SealedSecretStub,
    SecureMountStub,
)
from tests.e2e.searching import in_files, in_processes

KID = "kbs:///default/signing-key/sealed"


async def _seal(stage: Stage, resource: str) -> str:
    done = await stage.cguest(
        "secret", "seal", "--resource", resource, "--kid", KID,
        "--key", str(stage.folder / "sealed-signing-private.json"),
    )  # fmt: skip
    assert done.code == 0, done.err
    return done.text


async def _canaries(stage: Stage) -> dict[str, bytes]:
    """Make or learn every secret of the journey."""
    values = {
        "resource": secrets.token_bytes(24),
        "file content": secrets.token_bytes(32),
        "OSS key id": stage.harness.access_key_id.encode(),
        "OSS key": stage.harness.access_key_secret.encode(),
    }
    await stage.harness.put_resource("leak/canary/1", values["resource"])
    async with await stage.agent() as client:
        reply = await AttestationAgentStub(client).get_token("kbs", timeout_s=50)
    session = json.loads(reply.Token)
    values["token"] = session["token"].rpartition(".")[2].encode()
    pem_lines = session["tee_keypair"].splitlines()
    values["TEE key"] = pem_lines[1].encode()
    return values


async def _journey(stage: Stage, canaries: dict[str, bytes], point: Path) -> list[str]:
    """Use everything once; return what the processes showed while it was in use."""
    shown: list[str] = []
    async with await stage.hub() as client:
        got = await GetResourceStub(client).get_resource("kbs:///leak/canary/1", timeout_s=50)
        assert got.Resource == canaries["resource"]
        sealed = await _seal(stage, "kbs:///leak/canary/1")
        plain = await SealedSecretStub(client).unseal_secret(sealed.encode(), timeout_s=50)
        assert plain.plaintext == canaries["resource"]
        options = {
            "akId": await _seal(stage, "kbs:///default/oss/access-key-id"),
            "akSecret": await _seal(stage, "kbs:///default/oss/access-key-secret"),
            "bucket": stage.harness.bucket, "path": "/", "url": stage.harness.oss_endpoint,
            "otherOpts": oss_options(stage), "readonly": "false",
            "targetPath": "", "volumeId": "leak",
        }  # fmt: skip
        await SecureMountStub(client).secure_mount(
            "alibaba-cloud-oss", options, [], str(point), timeout_s=50
        )
        shown += await asyncio.to_thread(lambda: list(in_processes(canaries)))
        await asyncio.to_thread((point / "f").write_bytes, canaries["file content"] * 100)
        assert (await stage.curl("/cdh/resource/leak/canary/1")).out == canaries["resource"]
        refused = await run("sh", "-c", f"cat {point}/absent")
        assert refused.code != 0
        shown += await asyncio.to_thread(lambda: list(in_processes(canaries)))
        await MountStub(client).unmount(str(point), timeout_s=50)
    return shown


@pytest.mark.asyncio(loop_scope="module")
async def test_no_secret_is_in_any_log_argument_environment_or_file(stage: Stage) -> None:
    keygen = await stage.cguest("secret", "keygen", "--kid", KID, "--directory", str(stage.folder))
    assert keygen.code == 0, keygen.err
    public = (stage.folder / "sealed-signing-public.json").read_bytes()
    await stage.harness.put_resource("default/signing-key/sealed", public)
    canaries = await _canaries(stage)

    shown = await _journey(stage, canaries, stage.folder / "mnt" / "leak")
    code = await stage.daemon.stop()

    assert code == 0
    assert not shown
    log = stage.daemon.log.read_bytes()
    assert b'"level":"debug"' in log, "the journey must really have run at debug level"
    outside = stage.folder / "harness"  # the key broker and the cloud keep what is theirs
    found = [hit for hit in in_files(stage.folder, canaries) if str(outside) not in hit]
    found += in_files(Path("/run"), canaries)
    assert not found


@pytest.mark.parametrize("place", ["argument", "environment", "file"])
def test_a_planted_leak_is_found(tmp_path: Path, place: str) -> None:
    canary = secrets.token_hex(16)
    canaries = {"planted": canary.encode()}
    if place == "file":
        (tmp_path / "leak.log").write_bytes(b"\x01\x02" + canary.encode().hex().encode())
        assert list(in_files(tmp_path, canaries))
        return
    arguments = [canary] if place == "argument" else []
    environ = {"LEAK": canary} if place == "environment" else {}
    code = "import sys; print('up', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments], env=environ,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        found = list(in_processes(canaries))
        process.communicate()
    assert found
