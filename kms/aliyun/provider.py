"""From the settings of a sealed secret to a client with its credentials: the three client types.

Credential files are read at each use, so a file that the data hub has replaced is in force at once;
an opened client key is kept while its files do not change, because opening one takes milliseconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec

from kms.aliyun.credentials import (
    AccessKey,
    ClientKey,
    Region,
    parse_client_key,
    parse_metadata,
    parse_password,
    parse_ram_role,
    parse_token_file,
)
from kms.aliyun.gateway import PROVIDER, GatewayClient
from kms.aliyun.openapi import OpenApiClient
from kms.credential_files import file_name_part, read_credential
from kms.errors import KmsAnswerError, KmsRequestError
from kms.http import Question, ask, tls_context
from kms.members import read_members
from kms.places import AliyunPlaces
from kms.ports import JsonMembers, KeyDecrypter, SecretHolder
from secrecy import Secret

ROLE_FILE: Final = "ecsRamRole.json"
METADATA_PATH: Final = "/latest/meta-data/ram/security-credentials/"
MAX_KEPT_KEYS: Final = 16
Identity = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class ClientKeySettings(msgspec.Struct, tag_field="client_type", tag="client_key"):
    client_key_id: Identity
    kms_instance_id: Identity


class RamRoleSettings(msgspec.Struct, tag_field="client_type", tag="ecs_ram_role"):
    """Role and region are in a credential file."""


class TokenSettings(msgspec.Struct, tag_field="client_type", tag="sts_token"):
    token_path: Annotated[str, msgspec.Meta(pattern="^/", max_length=1024)]
    region_id: Region


class _OldSettings(msgspec.Struct):
    """Of guest-components before v0.9, which knew client keys only."""

    client_key_id: Identity
    kms_instance_id: Identity


Settings: TypeAlias = ClientKeySettings | RamRoleSettings | TokenSettings
_AskAccessKey: TypeAlias = Callable[[], Awaitable[AccessKey]]


def parse_settings(members: JsonMembers) -> Settings:
    """Raises :class:`~kms.errors.KmsRequestError`."""
    if "client_type" not in members:
        old = read_members(PROVIDER, "provider_settings", members, _OldSettings)
        return ClientKeySettings(old.client_key_id, old.kms_instance_id)
    parsed: Settings = read_members(PROVIDER, "provider_settings", members, Settings)  # type: ignore[arg-type]
    return parsed


class AliyunKms:
    """Gives clients for settings. Keeps opened client keys, nothing else."""

    def __init__(self, places: AliyunPlaces, ca_pem: str | None = None) -> None:
        """``ca_pem`` are further trust anchors for every service, beside the system's."""
        self._places = places
        self._ca_pem = ca_pem
        self._keys: dict[bytes, ClientKey] = {}

    async def decrypter(self, settings: JsonMembers) -> KeyDecrypter:
        """Raises :class:`~kms.errors.KmsError`."""
        match parse_settings(settings):
            case ClientKeySettings() as client_key:
                return await self._gateway(client_key)
            case _:
                raise KmsRequestError(
                    PROVIDER, "only client_type client_key can open an envelope",
                    hint="seal it with a client key, or as a vault secret",
                )  # fmt: skip

    async def holder(self, settings: JsonMembers) -> SecretHolder:
        """Raises :class:`~kms.errors.KmsError`."""
        match parse_settings(settings):
            case ClientKeySettings() as client_key:
                return await self._gateway(client_key)
            case RamRoleSettings():
                path = self._places.credentials / ROLE_FILE
                role = parse_ram_role(await read_credential(path), str(path))
                return await self._regional(
                    role.region_id, lambda: self._of_role(role.ecs_ram_role_name)
                )
            case TokenSettings(token_path, region):
                path = self._token_path(token_path)
                return await self._regional(region, lambda: _of_file(path))

    async def _gateway(self, settings: ClientKeySettings) -> GatewayClient:
        key_id = file_name_part(PROVIDER, "client_key_id", settings.client_key_id)
        instance = file_name_part(PROVIDER, "kms_instance_id", settings.kms_instance_id)
        folder = self._places.credentials
        key_path = folder / f"clientKey_{key_id}.json"
        key = await self._opened(
            await read_credential(key_path),
            await read_credential(folder / f"password_{key_id}.json"),
            str(key_path),
        )
        ca_path = folder / f"PrivateKmsCA_{instance}.pem"
        ca_pem = (await read_credential(ca_path)).reveal().decode("ascii", "replace")
        tls = await self._trusting(ca_pem, str(ca_path))
        return GatewayClient(self._places.instance_url.format(instance=instance), key, tls)

    async def _opened(self, content: Secret, password: Secret, path: str) -> ClientKey:
        mark = hashlib.sha256(content.reveal() + b"\0" + password.reveal()).digest()
        if mark not in self._keys:
            key = await asyncio.to_thread(parse_client_key, content, parse_password(password), path)
            while len(self._keys) >= MAX_KEPT_KEYS:
                del self._keys[next(iter(self._keys))]
            self._keys[mark] = key
        return self._keys[mark]

    async def _trusting(self, ca_pem: str | None, source: str) -> ssl.SSLContext:
        """Trust ``ca_pem`` beside the other roots. Made anew each time, as roots may be replaced.

        In a thread, because reading the system's roots takes 20 ms.
        """
        given = [pem for pem in (self._ca_pem, ca_pem) if pem is not None]
        pem = "\n".join(given) if given else None
        return await asyncio.to_thread(tls_context, pem, source)

    async def _regional(self, region: str, access_key: _AskAccessKey) -> OpenApiClient:
        tls = await self._trusting(None, "kms.aliyun.ca_file")
        return OpenApiClient(self._places.region_url.format(region=region), region, access_key, tls)

    async def _of_role(self, role: str) -> AccessKey:
        """Ask the machine's metadata service, which is the host's: it may lie, or refuse."""
        attempted = "asking for the credentials of the RAM role"
        url = f"{self._places.metadata_url}{METADATA_PATH}{role}"
        question = Question("GET", url, attempted, {})
        answer = await ask(lambda: question, None)
        key = parse_metadata(answer.body) if answer.status == 200 else None
        if key is None:
            raise KmsAnswerError(
                question.host,
                attempted,
                f"status {answer.status} without an access key (does the machine have the role?)",
            )
        return key

    def _token_path(self, text: str) -> Path:
        path = Path(text)
        if ".." in path.parts or not path.is_relative_to(self._places.token_root):
            raise KmsRequestError(
                PROVIDER, f"token_path is not below {self._places.token_root}",
                hint="have the data hub fetch the token there by [[credentials]]",
            )  # fmt: skip
        return path


async def _of_file(path: Path) -> AccessKey:
    return parse_token_file(await read_credential(path), str(path))
