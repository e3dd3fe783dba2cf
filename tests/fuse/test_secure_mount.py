"""The hub's mounts with the real mount process against a local OSS server, over TLS."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from cdh.compose import RunningHub
from cdh.config import CdhConfig, MountsSection
from cdh.errors import CdhError, MountFailedError
from cdh.hub import ConfidentialDataHub, MountSettings
from cdh.mounts.spec import OSS, MountRequest
from cdh.mounts.supervisor import MountState, MountSupervisor, SupervisionPolicy
from cdh.sealed.keys import SigningKeys
from cdh.sealed.seal import generate_signing_key, seal_vault
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.unseal import Unsealer
from cdh.service import hub_tables
from kbs import ResourceUri
from mocktee.certs import provide_tls
from mocktee.oss import MockOss
from secrecy import Secret

pytestmark = pytest.mark.real

KEY_ID, KEY_SECRET, BUCKET = "LTAItestkey", "test-key-secret", "data-bucket"
SIGNER = generate_signing_key("kbs:///sign/key/1")


class Resources:
    """Stands for the key broker."""

    def __init__(self) -> None:
        self.contents = {
            "kbs:///oss/key/id": KEY_ID.encode(),
            "kbs:///oss/key/secret": KEY_SECRET.encode(),
            "kbs:///sign/key/1": SIGNER.public_jwk,
        }

    async def get(self, uri: ResourceUri) -> Secret:
        return Secret(self.contents[str(uri)])


@dataclass
class Stage:
    """A hub and an OSS server with one bucket; ``request`` makes requests that work."""

    hub: ConfidentialDataHub
    oss: MockOss
    resources: Resources
    target: Path

    def request(self, **changes: str) -> MountRequest:
        options = {
            "akId": seal_vault("kbs:///oss/key/id", kid=SIGNER.kid, private_jwk=SIGNER.private_jwk),
            "akSecret": seal_vault(
                "kbs:///oss/key/secret", kid=SIGNER.kid, private_jwk=SIGNER.private_jwk
            ),
            "bucket": BUCKET,
            "path": "/",
            "url": self.oss.endpoint,
            "otherOpts": f"-o region={self.oss.region}",
            "readonly": "false",
            "targetPath": "/x",
            "volumeId": "vol-1",
            **changes,
        }
        return MountRequest(OSS, options, (), str(self.target))


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    tls = provide_tls(folder / "tls")
    settings = MountsSection(allowed_roots=(str(folder),), ca_file=str(tls.ca), memory_mib=64)
    CdhConfig(mounts=settings).check()
    resources = Resources()
    supervisor = MountSupervisor(SupervisionPolicy(restart_delays=(0.05, 0.2, 1.0)))
    hub = ConfidentialDataHub(
        resources,
        Unsealer(resources, SignatureVerifier(SigningKeys(resources))),
        supervisor,
        MountSettings(settings.policy(), settings.ca_pem(), settings.memory_mib << 20),
    )
    running = RunningHub(hub, hub_tables(hub), supervisor.run, supervisor)
    async with MockOss.start(folder / "oss", tls=tls.server_context()) as oss:
        oss.add_bucket(BUCKET)
        oss.add_key(KEY_ID, KEY_SECRET)
        async with asyncio.TaskGroup() as tasks:
            background = tasks.create_task(running.background())
            yield Stage(hub, oss, resources, folder / "volume")
            background.cancel()


async def test_sealed_keys_mount_a_bucket(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.hub.secure_mount(on.request())
        (mount,) = on.hub.list_mounts()
        assert mount.state is MountState.MOUNTED
        file = on.target / "file"
        await asyncio.to_thread(file.write_bytes, b"content")
        assert await asyncio.to_thread(file.read_bytes) == b"content"
        await on.hub.unmount(str(on.target))
        assert not on.target.exists()
        # Mounted again, the object is there: it went to the server.
        await on.hub.secure_mount(on.request(readonly="true"))
        assert await asyncio.to_thread(file.read_bytes) == b"content"
        with pytest.raises(OSError, match="Read-only"):
            await asyncio.to_thread(file.write_bytes, b"x")
    assert not on.target.exists()


async def test_keys_are_in_no_place_of_the_process(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.hub.secure_mount(on.request())
        (mount,) = on.hub.list_mounts()
        seen = b"".join(
            Path(f"/proc/{mount.pid}/{name}").read_bytes() for name in ("cmdline", "environ")
        )
        assert b"ossmount" in seen
        assert KEY_ID.encode() not in seen
        assert KEY_SECRET.encode() not in seen


@pytest.mark.parametrize(
    ("changes", "kind", "problem"),
    [
        ({"bucket": "absent-bucket"}, "bucket", "NoSuchBucket"),
        ({"url": "https://127.0.0.1:1"}, "endpoint", "127.0.0.1:1"),
    ],
    ids=["no bucket", "no server"],
)
async def test_the_server_says_no(
    tmp_path: Path, changes: dict[str, str], kind: str, problem: str
) -> None:
    async with stage(tmp_path) as on:
        with pytest.raises(MountFailedError, match=problem) as caught:
            await on.hub.secure_mount(on.request(**changes))
        assert caught.value.kind == kind
        assert on.hub.list_mounts() == ()
        assert not on.target.exists()


@pytest.mark.parametrize("name", ["id", "secret"])
async def test_wrong_keys_are_named_and_not_shown(tmp_path: Path, name: str) -> None:
    async with stage(tmp_path) as on:
        on.resources.contents[f"kbs:///oss/key/{name}"] = b"another-key-value"
        with pytest.raises(MountFailedError) as caught:
            await on.hub.secure_mount(on.request())
        assert caught.value.kind == "credentials"
        assert "another-key-value" not in str(caught.value)
        assert KEY_SECRET not in str(caught.value)
        assert not on.target.exists()


async def test_a_server_without_our_trust_is_refused(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        other = provide_tls(tmp_path / "other")
        async with MockOss.start(tmp_path / "oss2", tls=other.server_context()) as stranger:
            with pytest.raises(MountFailedError) as caught:
                await on.hub.secure_mount(on.request(url=stranger.endpoint))
            assert caught.value.kind == "tls"
            assert not stranger.counters


async def test_a_mount_process_that_dies_is_replaced(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.hub.secure_mount(on.request())
        file = on.target / "file"
        await asyncio.to_thread(file.write_bytes, b"before")
        (first,) = on.hub.list_mounts()
        os.kill(first.pid, signal.SIGKILL)
        while (now := on.hub.list_mounts()[0]).state is not MountState.MOUNTED or now.restarts == 0:
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(file.read_bytes) == b"before"
        assert "signal 9" in now.last_error


async def test_an_outsiders_umount_ends_the_record(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.hub.secure_mount(on.request())
        process = await asyncio.create_subprocess_exec("umount", str(on.target))
        assert await process.wait() == 0
        while on.hub.list_mounts():
            await asyncio.sleep(0.02)
        assert not on.target.exists()


async def test_a_mount_in_use_goes_when_the_hub_stops(tmp_path: Path) -> None:
    async with stage(tmp_path) as on:
        await on.hub.secure_mount(on.request())
        held = os.open(on.target, os.O_RDONLY | os.O_DIRECTORY)
        try:
            await on.hub.unmount(str(on.target))
        finally:
            os.close(held)
        assert not on.target.exists()
        with pytest.raises(CdhError):
            await on.hub.unmount(str(on.target))
