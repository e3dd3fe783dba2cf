"""The client of the shared KMS gateway: reads secrets with a temporary access key."""

from __future__ import annotations

import re
import secrets
import ssl
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from yarl import URL

from kms.aliyun.credentials import AccessKey
from kms.aliyun.gateway import PROVIDER, SecretAnnotations
from kms.aliyun.openapi_signing import signed_query
from kms.errors import KmsAnswerError, KmsRefusedError
from kms.http import Answer, Question, ask
from kms.members import read_members
from kms.ports import JsonMembers
from secrecy import Secret

ACTION: Final = "GetSecretValue"
VERSION: Final = "2016-01-20"
# A refused signature is answered with the request that was signed, and that has the token in it.
_ECHO: Final = re.compile("(?:server )?string ?to ?sign", re.IGNORECASE)
ATTEMPTED: Final = f"KMS {ACTION}"


class _SecretReply(msgspec.Struct, rename="pascal"):
    secret_data: str


class _ErrorReply(msgspec.Struct, rename="pascal"):
    code: str = "unknown"
    message: str = "the error is not in the service's form"
    request_id: str = ""


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _nonce() -> str:
    return secrets.token_hex(16).upper()


class OpenApiClient:
    """Reads secrets of one region. The access key is asked for anew at each call."""

    def __init__(
        self,
        url: str,
        region: str,
        access_key: Callable[[], Awaitable[AccessKey]],
        tls: ssl.SSLContext,
        *,
        timestamp: Callable[[], str] = _now,
        nonce: Callable[[], str] = _nonce,
    ) -> None:
        self._url = url.rstrip("/")
        self._region = region
        self._access_key = access_key
        self.tls = tls
        self._timestamp = timestamp
        self._nonce = nonce

    async def secret(self, name: str, annotations: JsonMembers) -> Secret:
        """Read a secret. Raises :class:`~kms.errors.KmsError`."""
        version = read_members(PROVIDER, "annotations", annotations, SecretAnnotations)
        key = await self._access_key()
        answer = await ask(lambda: self._question(name, version, key), self.tls)
        return _value(URL(self._url).authority, answer)

    def _question(self, name: str, version: SecretAnnotations, key: AccessKey) -> Question:
        """Sign a request with a nonce and time of its own: the service takes a nonce once."""
        parameters = {
            "Action": ACTION,
            "Version": VERSION,
            "Format": "json",
            "RegionId": self._region,
            "Timestamp": self._timestamp(),
            "SignatureMethod": "HMAC-SHA1",
            "SignatureType": "",
            "SignatureVersion": "1.0",
            "SignatureNonce": self._nonce(),
            "AccessKeyId": key.key_id,
            "SecurityToken": key.token.reveal_text(),
            "SecretName": name,
            "VersionStage": version.version_stage,
            "VersionId": version.version_id,
            "FetchExtendedConfig": "true",
        }
        query = signed_query(parameters, key.secret)
        headers = {"x-acs-version": VERSION, "x-acs-action": ACTION}
        return Question("POST", f"{self._url}/?{query}", ATTEMPTED, headers)


def _value(host: str, answer: Answer) -> Secret:
    if answer.status != 200:
        try:
            error = msgspec.json.decode(answer.body, type=_ErrorReply)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            error = _ErrorReply()
        raise KmsRefusedError(
            host,
            ATTEMPTED,
            status=answer.status,
            code=error.code,
            text=_ECHO.split(error.message)[0],
            request_id=error.request_id,
        )
    try:
        return Secret(msgspec.json.decode(answer.body, type=_SecretReply).secret_data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise KmsAnswerError(host, ATTEMPTED, "the answer has no text SecretData") from None
