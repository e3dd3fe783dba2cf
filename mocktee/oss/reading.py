"""GetObject, HeadObject, GetObjectMeta and GetSymlink."""

from __future__ import annotations

import gzip
from typing import BinaryIO, Final
from urllib.parse import unquote

from aiohttp import HttpVersion11, web

from mocktee.oss.call import Call, http_date, object_headers, quoted
from mocktee.oss.conditions import Outcome, check_conditions
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.metadata import response_overrides
from mocktee.oss.objects import ObjectKind, StoredObject
from mocktee.oss.ranges import select_range
from mocktee.oss.sending import BodyFaults, send_faulty, send_file

MIN_COMPRESSED_BYTES: Final = 1 << 10
MAX_COMPRESSED_BYTES: Final = 64 << 20  # compressed in memory here; larger ones go out plain
_COMPRESSIBLE: Final = (
    "text/",
    "application/javascript",
    "application/json",
    "application/x-javascript",
    "application/xml",
)


async def get_object(call: Call) -> web.StreamResponse:
    stored = _followed(call)
    if _unmodified(call, stored):
        return _not_modified(call, stored)
    wanted = select_range(
        call.oss.header("range"),
        stored.size,
        standard=call.oss.header("x-oss-range-behavior") == "standard",
    )
    headers = object_headers(call, stored) | response_overrides(call.oss.query)
    faults = BodyFaults.of(call.faults)
    # Opened before the first await: whatever replaces the object later, this body is complete.
    with _open(stored) as file:
        if _compresses(call, stored) and not faults.any:
            return await _send_compressed(call, headers, file)
        status = 206 if wanted.partial else 200
        if wanted.partial:
            headers["Content-Range"] = wanted.content_range(stored.size)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = wanted.length
        if faults.any:
            await send_faulty(call.http, response, file, wanted, faults)
        else:
            await send_file(call.http, response, file, wanted)
        return response


async def head_object(call: Call) -> web.StreamResponse:
    stored = _followed(call)
    if _unmodified(call, stored):
        return _not_modified(call, stored)
    return await _head(call, object_headers(call, stored), stored.size)


async def get_object_meta(call: Call) -> web.StreamResponse:
    stored = call.bucket.find(call.oss.key)
    headers = {
        "ETag": quoted(stored.etag),
        "Last-Modified": http_date(stored.modified),
        "x-oss-object-type": str(stored.kind),
    }
    return await _head(call, call.headers(headers | call.crc_header(stored.crc64)), stored.size)


async def get_symlink(call: Call) -> web.StreamResponse:
    stored = call.bucket.find(call.oss.key)
    if stored.kind is not ObjectKind.SYMLINK:
        raise OssAnswerError("NotSymlink", "The object is not a symlink.")
    return call.empty(extra=object_headers(call, stored))


def _followed(call: Call) -> StoredObject:
    stored = call.bucket.find(call.oss.key)
    if stored.kind is not ObjectKind.SYMLINK:
        return stored
    # OSS follows a link to an object, not to another link.
    target = call.bucket.objects.get(unquote(stored.headers["x-oss-symlink-target"]))
    if target is None or target.kind is ObjectKind.SYMLINK:
        raise OssAnswerError("SymlinkTargetNotExist", "The symlink target object does not exist.")
    return target


def _unmodified(call: Call, stored: StoredObject) -> bool:
    outcome = check_conditions(call.oss.headers, stored.etag, stored.modified)
    return outcome is Outcome.NOT_MODIFIED


def _not_modified(call: Call, stored: StoredObject) -> web.StreamResponse:
    return call.empty(
        304, {"ETag": quoted(stored.etag), "Last-Modified": http_date(stored.modified)}
    )


async def _head(call: Call, headers: dict[str, str], size: int) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    await response.prepare(call.http)
    await response.write_eof()
    return response


def _open(stored: StoredObject) -> BinaryIO:
    return stored.body.open("rb", buffering=0)


def _compresses(call: Call, stored: StoredObject) -> bool:
    """OSS compresses larger text for clients that accept it, and then hides ETag and length."""
    kind = stored.headers.get("content-type", "")
    return (
        "gzip" in call.oss.headers.get("accept-encoding", "")
        and call.oss.header("range") is None
        and MIN_COMPRESSED_BYTES <= stored.size <= MAX_COMPRESSED_BYTES
        and kind.startswith(_COMPRESSIBLE)
        and "content-encoding" not in stored.headers
        and call.http.version >= HttpVersion11
    )


async def _send_compressed(
    call: Call, headers: dict[str, str], file: BinaryIO
) -> web.StreamResponse:
    del headers["ETag"]
    response = web.StreamResponse(headers=headers | {"Content-Encoding": "gzip"})
    response.enable_chunked_encoding()
    await response.prepare(call.http)
    await response.write(gzip.compress(file.read(), compresslevel=1))
    await response.write_eof()
    return response
