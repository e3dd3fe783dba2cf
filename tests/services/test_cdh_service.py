"""The data hub over real ttRPC sockets: codes, texts, sessions, mounts and the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cdh.compose import open_hub
from cdh.config import CdhConfig, KbcSection, MountsSection
from cdh.errors import AgentUnreachableError, KbsNotConfiguredError
from cdh.hub import ConfidentialDataHub, MountSettings
from cdh.mounts.spec import OSS, MountPolicy, MountRequest
from cdh.mounts.supervisor import MountSupervisor, SupervisionPolicy
from cdh.sealed.keys import SigningKeys
from cdh.sealed.seal import generate_signing_key, seal_vault
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.unseal import Unsealer
from cdh.service import hub_tables
from kbs import (
    PolicyDeniedError,
    ResourceUri,
)
from protos import services
from protos.stubs import (
    GetResourceStub,
    ImagePullStub,
    MountStub,
    SealedSecretStub,
    SecureMountStub,
)
from secrecy import Secret
from tests.conftest import ROOT
from tests.services.scripted_mount import FAKE
from tests.services.table_server import serve
from ttrpc import (
    Client,
    Code,
    DeadlineError,
    StatusError,
)

SIGNER = generate_signing_key("kbs:///sign/key/1")


@dataclass
class Resources:
    """Stands for the key broker."""

    contents: dict[str, bytes] = field(default_factory=dict)

    async def get(self, uri: ResourceUri) -> Secret:
        if str(uri) not in self.contents:
            raise PolicyDeniedError(401, "PolicyDeny", "no", attempted=f"fetching {uri}")
        return Secret(self.contents[str(uri)])


def sealed(name: str) -> str:
    return seal_vault(name, kid=SIGNER.kid, private_jwk=SIGNER.private_jwk)


SEALED_ID = sealed("kbs:///oss/key/id")


@asynccontextmanager
async def hub_client(folder: Path, script: str = "serve") -> AsyncIterator[Client]:
    """A hub with a scripted mount process, and a client connected to it."""
    state = folder / "state"
    state.mkdir()
    resources = Resources(
        {
            "kbs:///a/b/c": b"\x00 value",
            "kbs:///oss/key/id": b"LTAI\n",
            "kbs:///oss/key/secret": b"sesame",
            "kbs:///sign/key/1": SIGNER.public_jwk,
        }
    )
    policy = SupervisionPolicy(stop_seconds=0.5)
    supervisor = MountSupervisor(policy, command=(sys.executable, str(FAKE), script, str(state)))
    hub = ConfidentialDataHub(
        resources,
        Unsealer(resources, SignatureVerifier(SigningKeys(resources))),
        supervisor,
        MountSettings(MountPolicy((str(folder),)), ca_pem=None, memory_bytes=64 << 20),
    )
    path = folder / "cdh.sock"
    async with asyncio.TaskGroup() as tasks:
        background = tasks.create_task(supervisor.run())
        async with serve(hub_tables(hub), path), await Client.connect(str(path)) as client:
            yield client
        background.cancel()


def options(**changes: str) -> dict[str, str]:
    return {
        "akId": sealed("kbs:///oss/key/id"),
        "akSecret": sealed("kbs:///oss/key/secret"),
        "bucket": "data-bucket",
        "path": "/sub",
        "url": "https://oss-cn-x.aliyuncs.com",
        "otherOpts": "-o allow_other",
        "readonly": "true",
        "volumeId": "v",
        **changes,
    }


async def test_one_key_is_wiped_where_the_other_cannot_be_opened(tmp_path: Path) -> None:
    first = Secret(b"LTAI")

    class Unsealing(ConfidentialDataHub):
        async def unseal(self, sealed: bytes) -> Secret:
            if sealed == SEALED_ID.encode():
                return first
            raise PolicyDeniedError(401, "PolicyDeny", "no", attempted="fetching a key")

    resources = Resources({})
    settings = MountSettings(MountPolicy((str(tmp_path),)), ca_pem=None, memory_bytes=64 << 20)
    hub = Unsealing(resources, Unsealer(resources, None), MountSupervisor(), settings)
    place = str(tmp_path / "m")
    wanted = options(akId=SEALED_ID)
    with pytest.raises(PolicyDeniedError):
        await hub.secure_mount(MountRequest(OSS, wanted, (), place))
    assert len(first) == 0


async def test_resources_and_sealed_secrets(tmp_path: Path) -> None:
    async with hub_client(tmp_path) as client:
        resource = await GetResourceStub(client).get_resource("kbs:///a/b/c")
        assert resource.Resource == b"\x00 value"
        text = sealed("kbs:///a/b/c").encode() + b"\n"
        assert (await SealedSecretStub(client).unseal_secret(text)).plaintext == b"\x00 value"


@pytest.mark.parametrize(
    ("uri", "cause"),
    [
        ("kbs:///a/b/denied", "fetching kbs:///a/b/denied: refused by resource policy"),
        ("http://x/a/b/c", "reading a KBS resource URI"),
        ("", "reading a KBS resource URI"),
    ],
)
async def test_resource_errors_begin_as_the_reference(tmp_path: Path, uri: str, cause: str) -> None:
    async with hub_client(tmp_path) as client:
        with pytest.raises(StatusError) as caught:
            await GetResourceStub(client).get_resource(uri)
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith(f"[CDH] [ERROR]: Get Resource failed: {cause}")
    assert caught.value.message.isprintable()


async def test_unseal_errors_begin_as_the_reference(tmp_path: Path) -> None:
    async with hub_client(tmp_path) as client:
        with pytest.raises(StatusError) as caught:
            await SealedSecretStub(client).unseal_secret(b"sealed.fakejwsheader.e30.fake")
    assert caught.value.code is Code.INTERNAL
    assert caught.value.message.startswith("[CDH] [ERROR]: Unseal Secret failed: sealed secret")
    assert "skip_sealed_secret_verification" in caught.value.message


async def test_what_is_absent_answers_not_found(tmp_path: Path) -> None:
    async with hub_client(tmp_path) as client:
        with pytest.raises(StatusError) as caught:
            await ImagePullStub(client).pull_image("i", "b")
        assert caught.value.code is Code.NOT_FOUND
        assert caught.value.message == "/api.ImagePullService/PullImage is not supported"


async def test_mount_list_and_unmount(tmp_path: Path) -> None:
    target = tmp_path / "volume"
    async with hub_client(tmp_path) as client:
        reply = await SecureMountStub(client).secure_mount(OSS, options(), ["ro"], str(target))
        assert reply.mount_path == str(target)  # as releases v0.9 to v0.17
        (mount,) = (await MountStub(client).list_mounts()).mounts
        assert (mount.mount_point, mount.bucket, mount.prefix) == (
            str(target), "data-bucket", "sub/",
        )  # fmt: skip
        assert (mount.state, mount.read_only, mount.volume_id) == ("mounted", True, "v")
        assert target.is_mount()
        await MountStub(client).unmount(str(target))
        assert not target.exists()
        assert not (await MountStub(client).list_mounts()).mounts
        with pytest.raises(StatusError) as caught:
            await MountStub(client).unmount(str(target))
        assert caught.value.code is Code.NOT_FOUND


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"otherOpts": "-ourl=http://evil"}, "secure mount, option url: refused"),
        ({"surprise": "1"}, "secure mount, option surprise: unknown"),
        ({"encPasswd": "x"}, "secure mount, option encPasswd: given while encrypted is empty"),
        ({"akId": "sealed.x.y.z"}, "sealed secret, header"),
        ({"akSecret": "two words"}, "secure mount, akSecret: the value is not an access key"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
async def test_mount_refusals_leave_nothing(
    tmp_path: Path, changes: dict[str, str], cause: str
) -> None:
    target = tmp_path / "volume"
    async with hub_client(tmp_path) as client:
        with pytest.raises(StatusError) as caught:
            await SecureMountStub(client).secure_mount(OSS, options(**changes), [], str(target))
        assert not (await MountStub(client).list_mounts()).mounts
    assert caught.value.message.startswith(f"[CDH] [ERROR]: Secure Mount failed: {cause}")
    assert "two words" not in caught.value.message
    assert not target.exists()
    assert not list((tmp_path / "state").iterdir())


async def test_a_mount_process_that_fails_says_why(tmp_path: Path) -> None:
    async with hub_client(tmp_path, "fail:credentials") as client:
        with pytest.raises(StatusError, match=r"failed \(credentials\): no credentials"):
            await SecureMountStub(client).secure_mount(OSS, options(), [], str(tmp_path / "v"))


async def test_keys_in_plain_are_taken_and_said_loudly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with hub_client(tmp_path) as client:
        plain = options(akId="LTAI-plain", akSecret="plain-sesame")
        await SecureMountStub(client).secure_mount(OSS, plain, [], str(tmp_path / "v"))
    records = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    warned = [r for r in records if r["event"] == "mount key given in plain"]
    assert [r["option"] for r in warned] == ["akId", "akSecret"]
    assert "sesame" not in json.dumps(records)


async def test_a_deadline_during_a_mount_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "volume"
    async with hub_client(tmp_path, "hang") as client:
        with pytest.raises(DeadlineError):
            await SecureMountStub(client).secure_mount(
                OSS, options(), [], str(target), timeout_s=0.5
            )
        # The client's clock runs out first; the server's way out is what counts.
        while (await MountStub(client).list_mounts()).mounts:
            await asyncio.sleep(0.01)
    assert not target.exists()


async def test_composing_needs_neither_agent_nor_key_broker() -> None:
    config = CdhConfig(kbc=KbcSection(url="https://127.0.0.1:1"), mounts=MountsSection())
    async with open_hub(config) as running:
        names = {table.name for table in running.tables}
        assert names == {
            services.GET_RESOURCE, services.SEALED_SECRET, services.SECURE_MOUNT,
            services.CONTAINER, services.IMAGE_PULL, services.KEY_PROVIDER, services.MOUNT,
            services.HUB_STATUS,
        }  # fmt: skip
        with pytest.raises(AgentUnreachableError):
            await running.hub.get_resource("kbs:///a/b/c")
    async with open_hub(CdhConfig()) as running:
        with pytest.raises(KbsNotConfiguredError, match=r"kbc\.url"):
            await running.hub.get_resource("kbs:///a/b/c")


async def start_program(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cdh", *arguments,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def connect_when_there(path: Path) -> Client:
    while not path.exists():
        await asyncio.sleep(0.01)
    # The path appears only when somebody answers.
    return await Client.connect(str(path))


async def test_the_program_serves_and_stops_in_order(tmp_path: Path) -> None:
    path, config = tmp_path / "cdh.sock", tmp_path / "cdh.toml"
    config.write_text('kbc.name = "cc_kbc"\n')
    process = await start_program("-c", str(config), "-s", f"unix://{path}")
    try:
        async with await connect_when_there(path) as client:
            with pytest.raises(StatusError, match="no key broker is configured"):
                await GetResourceStub(client).get_resource("kbs:///a/b/c")
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        assert not path.exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('kbc.name = "sample_kbc"', b"kbc.name: unknown"),
        ("nonsense = 1", b"nonsense"),
        ("[", b"not valid TOML"),
        ('log.level = "loud"', b"level: unknown; choose one of"),
        ('socket = "/x"', b"not an address of a door"),
    ],
)
async def test_the_program_names_what_it_refuses(tmp_path: Path, text: str, problem: bytes) -> None:
    config = tmp_path / "cdh.toml"
    config.write_text(text)
    process = await start_program("--config", str(config))
    _, errors = await process.communicate()
    assert process.returncode == 1
    assert problem in errors
    assert errors.count(b"\n") == 1
