"""The commands of docs/secrets.md, run as they are written there, and its sample of rules."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import msgspec
import pytest

from cdh.config import CdhConfig
from demo.stage import Stage, run
from tests.conftest import ROOT
from tests.e2e.test_documents import commands
from tests.services.kms_rig import CLIENT_KEY_ID, INSTANCE, KEY, KmsRig, kms_rig, new_client_key

pytestmark = pytest.mark.asyncio(loop_scope="module")

DOCUMENT = ROOT / "docs" / "secrets.md"


def with_kms(rig: KmsRig, folder: Path) -> str:
    return f"""
[cdh.kms.aliyun]
credentials = "{rig.credentials}"
ca_file = "{folder}/tls/ca.pem"
instance_url = "{rig.mock.url}"
region_url = "{rig.mock.url}"
metadata_url = "{rig.mock.metadata_url}"
"""


def places(stage: Stage, rig: KmsRig) -> dict[str, str]:
    return {
        "CONFIG": str(stage.config),
        "KBS_URL": stage.harness.kbs_url,
        "KBS_CA": str(stage.harness.kbs_ca),
        "ADMIN_TOKEN": str(stage.harness.state / "kbs" / "admin-token"),
        "KMS_URL": f"{rig.mock.url}/",
        "KMS_KEY_ID": KEY,
        "KMS_INSTANCE": INSTANCE,
        "KMS_CA_FILE": str(rig.credentials / f"PrivateKmsCA_{INSTANCE}.pem"),
        "CLIENT_KEY_ID": CLIENT_KEY_ID,
        "CLIENT_KEY_FILE": str(rig.credentials / f"clientKey_{CLIENT_KEY_ID}.json"),
        "PASSWORD_FILE": str(rig.credentials / f"password_{CLIENT_KEY_ID}.json"),
    }


async def test_every_command_works(stage: Stage, tmp_path: Path) -> None:
    lines = commands(DOCUMENT)
    assert len(lines) > 20
    said = {}
    async with kms_rig(tmp_path / "kms", new_client_key()) as rig:
        stage.config.write_text(stage.config.read_text() + with_kms(rig, tmp_path / "kms"))
        await stage.restart()
        program = f'cguest() {{ {sys.executable} -m cguest "$@"; }}; cd {tmp_path}; set -e; '
        for line in lines:
            script = line
            for name, value in places(stage, rig).items():
                script = re.sub(rf"\b{name}\b", value, script)
            done = await run("bash", "-c", program + script)
            assert done.code == 0, f"{line}\n{done.err}"
            said[line] = done
    status = next(done.text for line, done in said.items() if "status" in line)
    assert "sealed secret" in status
    assert [done.text for line, done in said.items() if "unseal - < role.sealed" in line] == [
        "s3cret"
    ]
    refused = next(done.err for line, done in said.items() if "unseal - < unsigned" in line)
    assert "skip_sealed_secret_verification" in refused


async def test_unsigned_forms_open_where_the_configuration_says_so(
    stage: Stage, tmp_path: Path
) -> None:
    text = stage.config.read_text()
    skipping = text.replace("[cdh]\n", "[cdh]\nskip_sealed_secret_verification = true\n", 1)
    stage.config.write_text(skipping)
    await stage.restart()
    try:
        made = await stage.cguest(
            "secret", "keygen", "--kid", "team-key", "--directory", str(tmp_path)
        )
        assert made.code == 0
        key = str(tmp_path / "sealed-signing-private.json")
        sealed = await stage.cguest(
            "secret", "seal", "--resource", "kbs:///default/key/1", "--key", key,
            "--kid", "team-key",
        )  # fmt: skip
        payload = sealed.text.split(".")[2]
        for form in (f"sealed.fakejwsheader.{payload}.fakesignature", f"x.{payload}.y"):
            opened = await stage.cguest("secret", "unseal", "-", stdin=form.encode())
            assert opened.code == 0, opened.err
            assert len(opened.out) == 32
    finally:
        stage.config.write_text(text)


async def test_the_sample_of_rules_is_one_and_refuses(stage: Stage) -> None:
    (block,) = re.findall(r"^```toml\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    msgspec.convert(tomllib.loads(block)["cdh"], CdhConfig).check()
    text = stage.config.read_text()
    stage.config.write_text(f"{text}\n{block}")
    await stage.restart()
    try:
        refused = await stage.cguest("resource", "get", "kbs:///default/key/1")
        assert refused.code == 1
        assert "secrets.resources does not name 'kbs:///default/key/1'" in refused.err
        over_rest = await stage.curl("/cdh/resource/default/key/1")
        assert "secrets.resources does not name" in over_rest.text
    finally:
        stage.config.write_text(text)
