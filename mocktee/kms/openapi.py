"""The shared gateway's RPC-style OpenAPI: signature, time and nonce first. No I/O."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Final
from urllib.parse import quote

from mocktee.kms.keys import MockKeys

SKEW_SECONDS: Final = 900
REQUEST_ID: Final = "mock-request"


class OpenApi:
    """Reads secrets for whoever has one of the temporary access keys."""

    def __init__(self, keys: MockKeys) -> None:
        self._keys = keys
        self._used: set[str] = set()
        self.access_keys: dict[str, tuple[str, str]] = {}  # id to secret and token

    def answer(self, parameters: Mapping[str, str], now: float) -> tuple[int, bytes]:
        """Return status and JSON body."""
        refusal = self._authenticate(dict(parameters), now)
        if refusal is not None:
            return refusal
        if parameters.get("Action") != "GetSecretValue":
            return _error(400, "UnsupportedOperation", "this action is absent in the mock")
        found = self._keys.secret(
            parameters.get("SecretName", ""),
            parameters.get("VersionStage", ""),
            parameters.get("VersionId", ""),
        )
        if found is None:
            return _error(404, "Forbidden.ResourceNotFound", "no such secret")
        value, version = found
        reply = {"SecretData": value, "VersionId": version, "RequestId": REQUEST_ID}
        return 200, json.dumps(reply).encode()

    def _authenticate(self, parameters: dict[str, str], now: float) -> tuple[int, bytes] | None:
        given = parameters.pop("Signature", "")
        known = self.access_keys.get(parameters.get("AccessKeyId", ""))
        if known is None:
            return _error(404, "InvalidAccessKeyId.NotFound", "unknown access key")
        secret, token = known
        if parameters.get("SecurityToken") != token:
            return _error(400, "InvalidSecurityToken.Malformed", "not this key's token")
        if not hmac.compare_digest(_signature(parameters, secret), given):
            return _error(400, "SignatureDoesNotMatch", "the signature does not hold")
        text = parameters.get("Timestamp", "").removesuffix("Z")
        try:
            sent = datetime.fromisoformat(f"{text}+00:00").timestamp()
        except ValueError:
            return _error(400, "InvalidTimeStamp.Format", "not ISO 8601 in UTC")
        if abs(sent - now) > SKEW_SECONDS:
            return _error(400, "InvalidTimeStamp.Expired", "the time is too far off")
        nonce = parameters.get("SignatureNonce", "")
        if not nonce or nonce in self._used:
            return _error(400, "SignatureNonceUsed", "the nonce was used before")
        self._used.add(nonce)
        return None


def _signature(parameters: dict[str, str], secret: str) -> str:
    def encode(text: str) -> str:
        return quote(text, safe="-_.~")

    pairs = sorted((encode(name), encode(value)) for name, value in parameters.items())
    joined = "&".join(f"{name}={value}" for name, value in pairs)
    signed = f"POST&{encode('/')}&{encode(joined)}"
    mac = hmac.new(f"{secret}&".encode(), signed.encode(), hashlib.sha1)
    return base64.b64encode(mac.digest()).decode()


def _error(status: int, code: str, text: str) -> tuple[int, bytes]:
    reply = {"HttpStatus": status, "Code": code, "Message": text, "RequestId": REQUEST_ID}
    return status, json.dumps(reply).encode()
