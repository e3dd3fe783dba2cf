"""``[secrets]`` at every door of the hub: one refusal, marked as one, before anybody is asked."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from cdh.compose import RunningHub, open_hub
from cdh.config import CdhConfig
from cdh.sealed.seal import generate_signing_key, seal_vault
from lifecycle import UnixAddress, listen_unix
from protos import keyprovider_pb2, services
from protos.stubs import GetResourceStub, SealedSecretStub, SecureMountStub
from tests.settings_text import decode_toml
from tests.wire.keywrap_samples import KEK, OPTIONS, gcm_packet, reply_options, request_for
from ttrpc import Client, Code, Server, StatusError

KID = "kbs:///sign/key/1"
SIGNER = generate_signing_key(KID)
KEK_PATH = "default/image-kek/test-1"
CONTENTS = {
    "sign/key/1": SIGNER.public_jwk, "app/db/password": b"allowed", "app/other/x": b"not allowed",
    KEK_PATH: KEK,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Served:
    client: Client
    running: RunningHub
    folder: Path


@pytest_asyncio.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Served]:
    """A composed hub that may open ``app/db/*`` only, on a ttRPC socket."""
    offline = {name: base64.b64encode(content).decode() for name, content in CONTENTS.items()}
    (tmp_path / "resources.json").write_text(json.dumps(offline))
    text = f"""
kbc.name = "offline_fs_kbc"
kbc.offline_files = ["{tmp_path}/resources.json"]
mounts.allowed_roots = ["{tmp_path}"]
secrets.resources = ["kbs:///app/db/*"]
secrets.kids = ["{KID}"]
"""
    config = decode_toml(text.encode(), CdhConfig, "cdh.toml")
    path = str(tmp_path / "cdh.sock")
    async with open_hub(config) as running, asyncio.TaskGroup() as tasks:
        with await listen_unix(UnixAddress(path)) as listener:
            serving = tasks.create_task(Server(running.tables).serve(listener.sock))
            async with await Client.connect(path) as client:
                yield Served(client, running, tmp_path)
            serving.cancel()


def sealed(uri: str) -> str:
    return seal_vault(uri, kid=KID, private_jwk=SIGNER.private_jwk)


async def get(hub: Served) -> None:
    await GetResourceStub(hub.client).get_resource("kbs:///app/other/x")


async def unseal(hub: Served) -> None:
    await SealedSecretStub(hub.client).unseal_secret(sealed("kbs:///app/other/x").encode())


async def mount(hub: Served) -> None:
    options = {
        "akId": sealed("kbs:///app/other/x"), "akSecret": sealed("kbs:///app/db/password"),
        "bucket": "data-bucket", "path": "/", "url": "https://oss-cn-x.aliyuncs.com",
        "otherOpts": "", "volumeId": "v",
    }  # fmt: skip
    place = str(hub.folder / "mount")
    await SecureMountStub(hub.client).secure_mount("alibaba-cloud-oss", options, [], place)


async def unwrap(hub: Served) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
    return await hub.client.call(
        services.KEY_PROVIDER, "UnWrapKey",
        keyprovider_pb2.KeyProviderKeyWrapProtocolInput(
            KeyProviderKeyWrapProtocolInput=request_for(gcm_packet())
        ),
        keyprovider_pb2.KeyProviderKeyWrapProtocolOutput,
    )  # fmt: skip


Ask = Callable[[Served], Awaitable[object]]


@pytest.mark.parametrize(
    ("ask", "uri"),
    [
        (get, "kbs:///app/other/x"),
        (unseal, "kbs:///app/other/x"),
        (mount, "kbs:///app/other/x"),
        (unwrap, f"kbs:///{KEK_PATH}"),
    ],
)
async def test_every_door_refuses_what_no_rule_names(hub: Served, ask: Ask, uri: str) -> None:
    with pytest.raises(StatusError) as caught:
        await ask(hub)
    assert caught.value.code is Code.INTERNAL
    assert f"failed: secrets.resources does not name '{uri}'" in str(caught.value)
    assert caught.value.refused


async def test_what_a_rule_names_opens_and_refusals_are_counted(hub: Served) -> None:
    reply = await GetResourceStub(hub.client).get_resource("kbs:///app/db/password")
    assert reply.Resource == b"allowed"
    text = sealed("kbs:///app/db/password").encode()
    assert (await SealedSecretStub(hub.client).unseal_secret(text)).plaintext == b"allowed"
    for ask in (get, unseal):
        with pytest.raises(StatusError):
            await ask(hub)
    counts = hub.running.hub.counts()
    assert (counts.served, counts.refused, counts.failed) == (1, 1, 0)
    assert counts.unseal_failures == 1


async def test_the_signing_key_is_no_resource_for_everybody(hub: Served) -> None:
    with pytest.raises(StatusError, match=r"secrets\.resources does not name"):
        await GetResourceStub(hub.client).get_resource(KID)


async def test_a_watch_says_refused(hub: Served) -> None:
    events = hub.running.hub.watch("kbs:///app/other/x", 60)
    event = await anext(events)
    await events.aclose()
    assert event.state.value == "refused"
    assert "secrets.resources" in event.reason


async def test_without_rules_everything_is_as_before(tmp_path: Path) -> None:
    kek = base64.b64encode(KEK).decode()
    (tmp_path / "resources.json").write_text(json.dumps({KEK_PATH: kek}))
    text = f'kbc.name = "offline_fs_kbc"\nkbc.offline_files = ["{tmp_path}/resources.json"]\n'
    config = decode_toml(text.encode(), CdhConfig, "cdh.toml")
    path = str(tmp_path / "cdh.sock")
    async with open_hub(config) as running, asyncio.TaskGroup() as tasks:
        with await listen_unix(UnixAddress(path)) as listener:
            serving = tasks.create_task(Server(running.tables).serve(listener.sock))
            async with await Client.connect(path) as client:
                output = await unwrap(Served(client, running, tmp_path))
            serving.cancel()
    assert reply_options(output.KeyProviderKeyWrapProtocolOutput) == OPTIONS
