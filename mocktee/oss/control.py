"""The control interface below ``/mock/``: faults, buckets, keys, objects and counters over HTTP.

Every request carries the token from the state directory in ``x-mock-token``; whoever can read the
directory may steer the server. The server itself listens on loopback only.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from aiohttp import web

from mocktee.oss.authentication import AccessKey
from mocktee.oss.errors import MockOssSettingsError, OssAnswerError
from mocktee.oss.faults import Fault
from mocktee.oss.objects import StoredObject
from mocktee.oss.receiving import receive_document

if TYPE_CHECKING:
    from mocktee.oss.server import MockOss

TOKEN_HEADER: Final = "x-mock-token"
MAX_CONTROL_BYTES: Final = 64 << 20


class ControlInterface:
    """Translates control requests into calls on the server."""

    def __init__(self, server: MockOss, token: str) -> None:
        self._server = server
        self._token = token

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        given = request.headers.get(TOKEN_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            return _answer(403, {"error": f"{TOKEN_HEADER} is missing or wrong"})
        try:
            return await self._dispatch(request)
        except MockOssSettingsError as error:
            return _answer(400, {"error": str(error)})
        except OssAnswerError as error:
            return _answer(error.status, {"error": error.code})

    async def _dispatch(self, request: web.BaseRequest) -> web.StreamResponse:
        server = self._server
        name, _, rest = request.path.removeprefix("/mock/").partition("/")
        match request.method, name:
            case "GET", "state":
                return _answer(200, server.state())
            case "POST", "faults":
                for fault in _faults(await _json(request)):
                    server.faults.put(fault)
            case "DELETE", "faults":
                server.faults.clear()
            case "POST", "buckets":
                server.add_bucket(_text(await _json(request), "name"))
            case "POST", "keys":
                server.add_access_key(_access_key(await _json(request)))
            case "POST", "objects":
                for key, content in _contents(await _json(request)):
                    server.put(rest, key, content)
            case "GET", "objects":
                bucket, _, key = rest.partition("/")
                return web.Response(body=server.get(bucket, key))
            case "GET", "stored":
                bucket, _, key = rest.partition("/")
                return _answer(200, _described(server.stored(bucket, key)))
            case _:
                return _answer(404, {"error": "no such control call"})
        return _answer(200, {"ok": True})


def _answer(status: int, value: Mapping[str, object]) -> web.Response:
    return web.Response(status=status, body=json.dumps(value), content_type="application/json")


async def _json(request: web.BaseRequest) -> object:
    try:
        return json.loads(await receive_document(request.content, MAX_CONTROL_BYTES))
    except ValueError as error:
        raise MockOssSettingsError("request body", "not JSON") from error


def _faults(value: object) -> list[Fault]:
    """One fault or a list of them."""
    return [Fault.from_json(item) for item in (value if isinstance(value, list) else [value])]


def _contents(value: object) -> list[tuple[str, bytes]]:
    """Keys and contents, the latter in base64."""
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise MockOssSettingsError("objects", "not an object of base64 texts")
    try:
        return [(key, base64.b64decode(text, validate=True)) for key, text in value.items()]
    except binascii.Error as error:
        raise MockOssSettingsError("objects", "not base64") from error


def _described(stored: StoredObject) -> dict[str, object]:
    return {
        "key": stored.key,
        "size": stored.size,
        "etag": stored.etag,
        "crc64": stored.crc64,
        "type": str(stored.kind),
        "headers": dict(stored.headers),
    }


def _text(value: object, name: str) -> str:
    found = value.get(name) if isinstance(value, dict) else None
    if not isinstance(found, str) or not found:
        raise MockOssSettingsError(name, "missing or not a string")
    return found


def _access_key(value: object) -> AccessKey:
    token = value.get("token") if isinstance(value, dict) else None
    if token is not None and not isinstance(token, str):
        raise MockOssSettingsError("token", "not a string")
    return AccessKey(_text(value, "id"), _text(value, "secret"), token)
