"""A whole hub process whose sealed secrets lie with a key management service."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cdh.sealed.seal import Signer, envelope_payload, generate_signing_key, held_payload
from kms.aliyun.gateway import GatewayClient
from mocktee.kms import KmsClientKey
from protos.stubs import SealedSecretStub
from secrecy import Secret
from tests.conftest import ROOT
from tests.services.kms_rig import GATEWAY, KEY, KmsRig, kms_rig, new_client_key
from ttrpc import Client, Code, StatusError

VALUE = b"the value inside"
HELD = b"s3cret"  # what the rig's KMS holds as "database"
KID = "kbs:///sign/key/1"
SETTINGS = {name: json.loads(value) for name, value in GATEWAY.items()}
SIGNER = generate_signing_key(KID)
LIMIT_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Ground:
    """A folder with the files of a hub, and the KMS it is configured for."""

    rig: KmsRig
    folder: Path

    def configure(self, instance_url: str | None = None) -> None:
        """Write ``cdh.toml`` and the public half of the signing key."""
        url = self.rig.mock.url
        public = base64.b64encode(SIGNER.public_jwk).decode()
        (self.folder / "resources.json").write_text(json.dumps({"sign/key/1": public}))
        (self.folder / "cdh.toml").write_text(
            f"""
socket = "unix://{self.folder}/cdh.sock"
kbc.name = "offline_fs_kbc"
kbc.offline_files = ["{self.folder}/resources.json"]
log.level = "debug"
[kms.aliyun]
credentials = "{self.rig.credentials}"
ca_file = "{self.folder}/tls/ca.pem"
instance_url = "{instance_url or url}"
region_url = "{url}"
metadata_url = "{self.rig.mock.metadata_url}"
"""
        )

    @asynccontextmanager
    async def hub(self) -> AsyncIterator[Client]:
        """Run the program; afterwards nothing secret is in its log."""
        program = (sys.executable, "-m", "cdh", "-c", str(self.folder / "cdh.toml"))
        process = await asyncio.create_subprocess_exec(
            *program, cwd=ROOT, stderr=asyncio.subprocess.PIPE
        )
        said = asyncio.create_task(process.communicate())
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                while not (self.folder / "cdh.sock").exists():
                    assert not said.done(), said.result()[1].decode()
                    await asyncio.sleep(0.01)
            async with await Client.connect(str(self.folder / "cdh.sock")) as client:
                yield client
        finally:
            process.terminate()
            async with asyncio.timeout(LIMIT_SECONDS):
                log = (await said)[1]
        assert process.returncode == 0
        for secret in (VALUE, HELD, b"role-secret", b"sts-secret", base64.b64encode(VALUE)):
            assert secret not in log


@pytest.fixture(scope="module")
def client_key() -> KmsClientKey:
    return new_client_key()


@pytest_asyncio.fixture
async def ground(tmp_path: Path, client_key: KmsClientKey) -> AsyncIterator[Ground]:
    async with kms_rig(tmp_path, client_key) as rig:
        yield Ground(rig, tmp_path)


def signed(payload: dict[str, Any]) -> bytes:
    return Signer(KID, SIGNER.private_jwk).sign(payload).encode()


async def envelope(rig: KmsRig) -> bytes:
    client = await rig.directory.decrypter("aliyun", GATEWAY)
    assert isinstance(client, GatewayClient)
    return signed(await envelope_payload(Secret(VALUE), KEY, client, "aliyun", SETTINGS))


async def test_envelopes_and_held_secrets_open_over_ttrpc(ground: Ground) -> None:
    ground.configure()
    inside = await envelope(ground.rig)
    held = signed(held_payload("database", "aliyun", SETTINGS, {}))
    of_role = signed(held_payload("database", "aliyun", {"client_type": "ecs_ram_role"}, {}))
    async with ground.hub() as client:
        for sealed, value in ((inside, VALUE), (held, HELD), (of_role, HELD)):
            reply = await SealedSecretStub(client).unseal_secret(sealed, timeout_s=LIMIT_SECONDS)
            assert reply.plaintext == value


async def test_a_kms_that_is_away_is_told_with_the_reason(ground: Ground) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: a refused connection
        ground.configure(f"https://127.0.0.1:{nobody.getsockname()[1]}")
        sealed = await envelope(ground.rig)
        async with ground.hub() as client:
            with pytest.raises(StatusError) as caught:
                await SealedSecretStub(client).unseal_secret(sealed, timeout_s=LIMIT_SECONDS)
    assert caught.value.code is Code.INTERNAL
    text = str(caught.value)
    assert "[CDH] [ERROR]: Unseal Secret failed: sealed secret of type envelope: " in text
    assert "127.0.0.1" in text
    assert "refused" in text.lower()
    assert not caught.value.refused


async def test_credential_files_that_are_absent_are_named(ground: Ground) -> None:
    ground.configure()
    (ground.rig.credentials / "ecsRamRole.json").unlink()
    sealed = signed(held_payload("database", "aliyun", {"client_type": "ecs_ram_role"}, {}))
    async with ground.hub() as client:
        with pytest.raises(StatusError, match=r"ecsRamRole\.json: cannot be read"):
            await SealedSecretStub(client).unseal_secret(sealed, timeout_s=LIMIT_SECONDS)
