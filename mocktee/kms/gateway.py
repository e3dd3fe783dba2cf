"""A dedicated instance: who signs, may call. Decides on bytes and headers; no I/O."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from google.protobuf.message import DecodeError

from mocktee.kms.keys import MockKeys
from mocktee.kms.messages import message

SKEW_SECONDS: Final = 900
PROTOBUF: Final = "application/x-protobuf"
REQUEST_ID: Final = "mock-request"


class GatewayRefusalError(Exception):
    """The service's own form of no."""

    def __init__(self, status: int, code: str, text: str) -> None:
        self.status = status
        self.code = code
        self.text = text
        super().__init__(f"{status} {code}: {text}")

    def body(self) -> bytes:
        error = message("Error")
        error.StatusCode, error.ErrorCode = self.status, self.code
        error.ErrorMessage, error.RequestId = self.text, REQUEST_ID
        encoded: bytes = error.SerializeToString()
        return encoded


def answer(keys: MockKeys, headers: Mapping[str, str], body: bytes, now: float) -> bytes:
    """Return the reply to one signed request. Raises :class:`GatewayRefusalError`."""
    authenticate(keys, headers, body, now)
    api = headers.get("x-kms-apiname", "")
    perform = {"Encrypt": _encrypt, "Decrypt": _decrypt, "GetSecretValue": _secret}.get(api)
    if perform is None:
        raise GatewayRefusalError(400, "UnsupportedOperation", f"no API {api}")
    request = message(f"{api}Request")
    try:
        request.ParseFromString(body)
    except DecodeError as error:
        raise GatewayRefusalError(400, "InvalidParameter", "the body does not parse") from error
    encoded: bytes = perform(keys, request).SerializeToString()
    return encoded


def authenticate(keys: MockKeys, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Check digest, time, version, method and signature. Raises :class:`GatewayRefusalError`."""
    digest = hashlib.sha256(body).hexdigest().upper()
    if headers.get("Content-Sha256") != digest:
        raise GatewayRefusalError(400, "InvalidParameter", "Content-Sha256 does not match")
    if headers.get("Content-Type") != PROTOBUF or headers.get("Accept") != PROTOBUF:
        raise GatewayRefusalError(415, "UnsupportedMediaType", "not x-protobuf")
    if headers.get("x-kms-apiversion") != "dkms-gcs-0.2":
        raise GatewayRefusalError(400, "UnsupportedApiVersion", "not dkms-gcs-0.2")
    if headers.get("x-kms-signaturemethod") != "RSA_PKCS1_SHA_256":
        raise GatewayRefusalError(400, "InvalidParameter", "unknown signature method")
    date = headers.get("date", "")
    try:
        skew = abs(parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, TypeError) as error:
        raise GatewayRefusalError(400, "InvalidParameter", "no date") from error
    if skew > SKEW_SECONDS:
        raise GatewayRefusalError(400, "Forbidden.DateExpired", "the date is too far off")
    key = keys.client_keys.get(headers.get("x-kms-acccesskeyid", ""))
    if key is None:
        raise GatewayRefusalError(403, "Forbidden.AccessKeyNotFound", "unknown client key")
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    names = sorted(name.lower() for name in headers if name.lower().startswith("x-kms-"))
    signed = "\n".join(
        ["POST", digest, PROTOBUF, date, *(f"{name}:{headers[name]}" for name in names), "/"]
    )
    try:
        if scheme != "Bearer":
            raise InvalidSignature
        key.verify(
            base64.b64decode(encoded, validate=True),
            signed.encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )
    except (InvalidSignature, binascii.Error) as error:
        raise GatewayRefusalError(
            403, "Forbidden.SignatureDoesNotMatch", "the signature does not hold"
        ) from error


def _encrypt(keys: MockKeys, request: Any) -> Any:
    _know(keys, request)
    reply = message("EncryptResponse")
    reply.CiphertextBlob, reply.Iv = keys.encrypt(request.KeyId, request.Plaintext)
    reply.KeyId, reply.Algorithm, reply.RequestId = request.KeyId, "AES_GCM", REQUEST_ID
    return reply


def _decrypt(keys: MockKeys, request: Any) -> Any:
    _know(keys, request)
    plaintext = keys.decrypt(request.KeyId, request.CiphertextBlob, request.Iv)
    if plaintext is None:
        raise GatewayRefusalError(400, "InvalidParameter.Ciphertext", "does not decrypt")
    reply = message("DecryptResponse")
    reply.Plaintext, reply.KeyId, reply.RequestId = plaintext, request.KeyId, REQUEST_ID
    return reply


def _know(keys: MockKeys, request: Any) -> None:
    if request.Algorithm != "AES_GCM":
        raise GatewayRefusalError(400, "UnsupportedAlgorithm", "not AES_GCM")
    if request.KeyId not in keys.data_keys:
        raise GatewayRefusalError(404, "Forbidden.KeyNotFound", "no such key")


def _secret(keys: MockKeys, request: Any) -> Any:
    found = keys.secret(request.SecretName, request.VersionStage, request.VersionId)
    if found is None:
        raise GatewayRefusalError(404, "Forbidden.ResourceNotFound", "no such secret")
    reply = message("GetSecretValueResponse")
    reply.SecretData, reply.VersionId = found
    reply.SecretName, reply.SecretDataType = request.SecretName, "text"
    reply.RequestId = REQUEST_ID
    return reply
