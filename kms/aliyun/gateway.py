"""The client of a dedicated KMS instance: opens data keys and reads secrets, by client key."""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Callable
from email.utils import formatdate
from typing import Annotated, Final, TypeVar

import msgspec
from google.protobuf.message import DecodeError, Message

from kms.aliyun import gateway_pb2 as pb
from kms.aliyun.credentials import ClientKey
from kms.aliyun.gateway_signing import signed_headers
from kms.errors import KmsAnswerError, KmsRefusedError, KmsRequestError
from kms.http import Answer, Question, ask
from kms.members import read_members
from kms.ports import JsonMembers
from secrecy import Secret

PROVIDER: Final = "aliyun"
ALGORITHM: Final = "AES_GCM"
MAX_CIPHERTEXT: Final = 16 * 1024  # bytes; the service takes 6 KiB of plaintext

MessageT = TypeVar("MessageT", bound=Message)
Text = Annotated[str, msgspec.Meta(max_length=1024)]


class _DecryptAnnotations(msgspec.Struct):
    """``iv``: base64, as the service gave it when it encrypted."""

    iv: Text


class SecretAnnotations(msgspec.Struct):
    """Which version of a secret; both may be left out."""

    version_stage: Text = ""
    version_id: Text = ""


class GatewayClient:
    """One instance, one client key. Holds no connection between calls."""

    def __init__(
        self,
        url: str,
        key: ClientKey,
        tls: ssl.SSLContext,
        *,
        date: Callable[[], str] = lambda: formatdate(usegmt=True),
    ) -> None:
        self._url = url
        self._key = key
        self.tls = tls
        self._date = date

    async def decrypt(self, key_id: str, ciphertext: bytes, annotations: JsonMembers) -> Secret:
        """Open a data key. Raises :class:`~kms.errors.KmsError`."""
        if len(ciphertext) > MAX_CIPHERTEXT:
            raise KmsRequestError(PROVIDER, f"encrypted_key is longer than {MAX_CIPHERTEXT} bytes")
        text = read_members(PROVIDER, "annotations", annotations, _DecryptAnnotations).iv
        try:
            iv = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise KmsRequestError(PROVIDER, "annotations: iv is not base64") from None
        request = pb.DecryptRequest(
            KeyId=key_id, CiphertextBlob=ciphertext, Iv=iv, Algorithm=ALGORITHM
        )
        return Secret((await self._call("Decrypt", request, pb.DecryptResponse)).Plaintext)

    async def secret(self, name: str, annotations: JsonMembers) -> Secret:
        """Read a secret. Binary ones come as the base64 text that the service keeps."""
        version = read_members(PROVIDER, "annotations", annotations, SecretAnnotations)
        request = pb.GetSecretValueRequest(
            SecretName=name,
            VersionStage=version.version_stage,
            VersionId=version.version_id,
            FetchExtendedConfig=True,
        )
        reply = await self._call("GetSecretValue", request, pb.GetSecretValueResponse)
        return Secret(reply.SecretData)

    async def encrypt(self, key_id: str, plaintext: Secret) -> tuple[bytes, bytes]:
        """Return ciphertext and iv. For the operator's tools; a guest has no use for it."""
        request = pb.EncryptRequest(KeyId=key_id, Plaintext=plaintext.reveal(), Algorithm=ALGORITHM)
        reply = await self._call("Encrypt", request, pb.EncryptResponse)
        return reply.CiphertextBlob, reply.Iv

    async def _call(self, api: str, request: Message, reply_type: type[MessageT]) -> MessageT:
        body = request.SerializeToString()
        headers = await asyncio.to_thread(signed_headers, self._key, api, body, self._date())
        question = Question("POST", self._url, f"KMS {api}", headers, body)
        answer = await ask(lambda: question, self.tls)
        if answer.status != 200:
            raise _refusal(question.host, api, answer)
        return _parsed(question.host, api, answer.body, reply_type)


def _parsed(host: str, api: str, body: bytes, kind: type[MessageT]) -> MessageT:
    message = kind()
    try:
        message.ParseFromString(body)
    except DecodeError:
        raise KmsAnswerError(
            host, f"KMS {api}", f"the answer is not a {kind.DESCRIPTOR.name} message"
        ) from None
    return message


def _refusal(host: str, api: str, answer: Answer) -> KmsRefusedError:
    try:
        error = _parsed(host, api, answer.body, pb.Error)
    except KmsAnswerError:
        error = pb.Error(ErrorCode="unknown", ErrorMessage="the error is not in the service's form")
    return KmsRefusedError(
        host,
        f"KMS {api}",
        status=answer.status,
        code=error.ErrorCode,
        text=error.ErrorMessage,
        request_id=error.RequestId,
    )
