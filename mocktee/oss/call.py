"""One authenticated request on its way through an operation, and the answers operations share."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Final

from aiohttp import web

from mocktee.oss.documents import document
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.faults import Fault, FaultKind, first
from mocktee.oss.objects import Bucket, ObjectStore, StoredObject
from mocktee.oss.receiving import BodyFile
from mocktee.oss.request import OssRequest

XML_TYPE: Final = "application/xml"
MIN_PART_BYTES: Final = 100 << 10


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What the operations need to know of the server; ``clock`` returns unix seconds.

    ``fast_etags`` departs from OSS: ETags of uploads without Content-MD5 are no MD5. MD5 takes half
    of an upload's processor time here, which a bench of a client would count as the client's.
    """

    region: str
    clock: Callable[[], float]
    min_part_bytes: int = MIN_PART_BYTES
    fast_etags: bool = False


@dataclass(slots=True)
class Call:
    http: web.BaseRequest
    oss: OssRequest
    store: ObjectStore
    bucket: Bucket
    settings: ServerSettings
    faults: list[Fault] = field(default_factory=list)
    request_id: str = ""

    @property
    def now(self) -> float:
        return self.settings.clock()

    def new_body(self) -> BodyFile:
        fast = self.settings.fast_etags and "content-md5" not in self.oss.headers
        return BodyFile(self.store.new_body(), fast=fast)

    def headers(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        return {"x-oss-request-id": self.request_id, "Server": "AliyunOSS", **(extra or {})}

    def crc_header(self, crc: int | None) -> dict[str, str]:
        """The checksum header, falsified if a fault says so; absent when unknown."""
        if crc is None:
            return {}
        if first(self.faults, FaultKind.WRONG_CRC) is not None:
            crc ^= 1
        return {"x-oss-hash-crc64ecma": str(crc)}

    def empty(self, status: int = 200, extra: Mapping[str, str] | None = None) -> web.Response:
        return web.Response(status=status, headers=self.headers(extra))

    def xml(self, root: str, extra: Mapping[str, str] | None = None) -> web.Response:
        headers = self.headers(extra) | {"Content-Type": XML_TYPE}
        return web.Response(body=document(root), headers=headers)


Operation = Callable[[Call], Awaitable[web.StreamResponse]]


def new_request_id() -> str:
    return secrets.token_hex(12).upper()


def http_date(seconds: float) -> str:
    return formatdate(int(seconds), usegmt=True)


def quoted(etag: str) -> str:
    return f'"{etag}"'


def object_headers(call: Call, stored: StoredObject) -> dict[str, str]:
    """What GetObject and HeadObject say about an object, without length and range."""
    headers = dict(stored.headers)
    headers.setdefault("content-type", "application/octet-stream")
    headers.setdefault("x-oss-storage-class", "Standard")
    headers |= {
        "ETag": quoted(stored.etag),
        "Last-Modified": http_date(stored.modified),
        "Accept-Ranges": "bytes",
        "x-oss-object-type": str(stored.kind),
    }
    if stored.kind == "Appendable":
        headers["x-oss-next-append-position"] = str(stored.size)
    return call.headers(headers | call.crc_header(stored.crc64))


def whole_number(call: Call, name: str, default: int | None, low: int, high: int) -> int:
    """A bounded query parameter. Raises :class:`OssAnswerError` (InvalidArgument)."""
    text = call.oss.query.get(name)
    if not text and default is not None:  # SDKs send empty parameters
        return default
    if text is None or not text.isascii() or not text.isdigit() or len(text) > 19:
        raise _argument(name, text)
    if not low <= int(text) <= high:
        raise _argument(name, text)
    return int(text)


def _argument(name: str, value: str | None) -> OssAnswerError:
    return OssAnswerError(
        "InvalidArgument",
        f"The argument {name} is missing or invalid.",
        fields={"ArgumentName": name, "ArgumentValue": (value or "")[:64]},
    )
