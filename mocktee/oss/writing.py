"""PutObject, AppendObject, CopyObject, PutSymlink, DeleteObject and DeleteMultipleObjects."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote, unquote

from aiohttp import web

from mocktee.oss import crc64
from mocktee.oss.call import Call, quoted, whole_number
from mocktee.oss.conditions import Outcome, check_conditions
from mocktee.oss.documents import element, malformed, parse_document, text_element
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.faults import FaultKind, first
from mocktee.oss.listing_operations import iso_date
from mocktee.oss.metadata import stored_headers
from mocktee.oss.objects import ObjectKind, StoredObject, extend_file
from mocktee.oss.receiving import (
    MAX_SINGLE_BYTES,
    BodyFile,
    Digest,
    receive,
    receive_document,
)
from mocktee.oss.request import decode_key

MAX_DELETED_KEYS: Final = 1000
MAX_DELETE_BYTES: Final = 4 << 20


async def put_object(call: Call) -> web.StreamResponse:
    headers = stored_headers(call.oss.headers)
    call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
    with call.new_body() as body:
        digest = await receive_body(call, body)
        call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
        call.store.replace(
            call.bucket,
            StoredObject(
                call.oss.key,
                body.keep(),
                digest.size,
                digest.etag,
                digest.crc64,
                call.now,
                ObjectKind.NORMAL,
                headers,
            ),
        )
    return call.empty(extra=call.crc_header(digest.crc64) | {"ETag": quoted(digest.etag)})


async def receive_body(call: Call, body: BodyFile) -> Digest:
    """The request body into ``body``, with Content-MD5 checked. Raises :class:`OssAnswerError`."""
    length = call.http.content_length
    if length is None and "chunked" not in call.oss.headers.get("transfer-encoding", "").lower():
        raise OssAnswerError("MissingContentLength", "You must provide the Content-Length header.")
    if length is not None and length > MAX_SINGLE_BYTES:
        raise OssAnswerError("EntityTooLarge", "The object you tried to upload is too big.")
    expected = content_md5(call.oss.headers)
    slow = first(call.faults, FaultKind.BANDWIDTH)

    async def pace(size: int) -> None:
        if slow is not None:
            await asyncio.sleep(size / slow.bytes_per_second)

    digest = await receive(call.http.content, body, pace=pace if slow else None)
    if expected is not None and expected != digest.md5:
        raise _wrong_md5()
    return digest


def content_md5(headers: Mapping[str, str]) -> bytes | None:
    """The binary MD5 a request announces. Raises :class:`OssAnswerError` (InvalidDigest)."""
    text = headers.get("content-md5")
    if text is None:
        return None
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong_md5() from error
    if len(value) != 16:
        raise _wrong_md5()
    return value


def _wrong_md5() -> OssAnswerError:
    return OssAnswerError("InvalidDigest", "The Content-MD5 you specified was invalid.")


# -- append --


async def append_object(call: Call) -> web.StreamResponse:
    position = whole_number(call, "position", None, 0, MAX_SINGLE_BYTES)
    headers = stored_headers(call.oss.headers)
    _appendable(call, position)
    with call.new_body() as body:
        digest = await receive_body(call, body)
        old = _appendable(call, position)  # again: another append may have come first
        if position + digest.size > MAX_SINGLE_BYTES:
            raise OssAnswerError("EntityTooLarge", "The appendable object would exceed 5 GB.")
        if old is None:
            path, crc, kept = body.keep(), digest.crc64, headers
        else:
            # In one step of the loop, so that no second append can come between.
            extend_file(old.body, body.path)
            path, kept = old.body, dict(old.headers)
            crc = crc64.combine(old.crc64 or 0, digest.crc64, digest.size)
        size = position + digest.size
        etag = f"{crc:016X}{size & 0xFFFFFFFF:08X}00000000"  # any, but for its ending
        stored = StoredObject(
            call.oss.key, path, size, etag, crc, call.now, ObjectKind.APPENDABLE, kept
        )
        call.store.replace(call.bucket, stored)
    extra = {"ETag": quoted(etag), "x-oss-next-append-position": str(size)}
    return call.empty(extra=extra | call.crc_header(crc))


def _appendable(call: Call, position: int) -> StoredObject | None:
    """The object to append to, None if it is to be made. Raises :class:`OssAnswerError`."""
    stored = call.bucket.objects.get(call.oss.key)
    if stored is not None and stored.kind is not ObjectKind.APPENDABLE:
        raise OssAnswerError("ObjectNotAppendable", "The object is not appendable.")
    length = 0 if stored is None else stored.size
    if position != length:
        raise OssAnswerError(
            "PositionNotEqualToLength",
            "Position is not equal to file length.",
            headers={"x-oss-next-append-position": str(length)},
        )
    return stored


# -- copy --


def copy_source(call: Call) -> StoredObject:
    """The source of a copy, its conditions checked. Raises :class:`OssAnswerError`."""
    header = call.oss.headers["x-oss-copy-source"]
    path, _, version = header.removeprefix("/").partition("?")
    bucket, slash, raw_key = path.partition("/")
    if not slash or not raw_key or version:
        raise OssAnswerError(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: /sourcebucket/sourcekey.",
        )
    source = call.store.bucket(unquote(bucket)).find(decode_key(raw_key))
    if source.kind is ObjectKind.APPENDABLE:
        raise OssAnswerError(
            "OperationNotSupported",
            "The operation is not supported for this resource: an "
            "appendable object cannot be copied.",
            status=400,
        )
    outcome = check_conditions(
        call.oss.headers, source.etag, source.modified, prefix="x-oss-copy-source-"
    )
    if outcome is Outcome.NOT_MODIFIED:
        raise OssAnswerError("NotModified", "The copy source was not modified.", status=304)
    return source


async def copy_object(call: Call) -> web.StreamResponse:
    source = copy_source(call)
    directive = call.oss.headers.get("x-oss-metadata-directive", "COPY").upper()
    if directive not in {"COPY", "REPLACE"}:
        raise OssAnswerError("InvalidArgument", "Unknown metadata directive.")
    same = call.bucket.objects.get(call.oss.key) is source
    if same and directive == "COPY":
        raise OssAnswerError(
            "InvalidArgument", "Copying an object onto itself needs the REPLACE directive."
        )
    call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
    replaced = directive == "REPLACE"
    stored = replace(
        source,
        key=call.oss.key,
        body=source.body if same else call.store.link_body(source.body),
        modified=call.now,
        headers=stored_headers(call.oss.headers) if replaced else source.headers,
    )
    call.store.replace(call.bucket, stored)
    return call.xml(
        element(
            "CopyObjectResult",
            text_element("LastModified", iso_date(stored.modified)),
            text_element("ETag", quoted(stored.etag)),
        ),
        call.crc_header(stored.crc64) | {"ETag": quoted(stored.etag)},
    )


async def put_symlink(call: Call) -> web.StreamResponse:
    target = unquote(call.oss.headers.get("x-oss-symlink-target", ""))
    if not target:
        raise OssAnswerError("InvalidArgument", "The x-oss-symlink-target header is missing.")
    headers = stored_headers(call.oss.headers)
    call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
    with call.new_body() as body:
        etag = hashlib.md5(target.encode(), usedforsecurity=False).hexdigest().upper()
        stored = StoredObject(
            call.oss.key,
            body.keep(),
            0,
            etag,
            None,
            call.now,
            ObjectKind.SYMLINK,
            headers | {"x-oss-symlink-target": quote(target)},
        )
        call.store.replace(call.bucket, stored)
    return call.empty(extra={"ETag": quoted(etag)})


# -- delete --


async def delete_object(call: Call) -> web.StreamResponse:
    call.store.delete(call.bucket, call.oss.key)
    return call.empty(204)


async def delete_multiple_objects(call: Call) -> web.StreamResponse:
    expected = content_md5(call.oss.headers)
    if expected is None:
        raise OssAnswerError("InvalidArgument", "Missing some required arguments: Content-MD5.")
    body = await receive_document(call.http.content, MAX_DELETE_BYTES)
    if hashlib.md5(body, usedforsecurity=False).digest() != expected:
        raise _wrong_md5()
    root = parse_document(body, "Delete")
    keys = [node.value("Key") for node in root.all("Object")]
    if not 1 <= len(keys) <= MAX_DELETED_KEYS or not all(keys):
        raise malformed(f"1 to {MAX_DELETED_KEYS} keys are accepted")
    quiet = any(node.text.strip().lower() == "true" for node in root.all("Quiet"))
    encoded = call.oss.query.get("encoding-type") == "url"
    for key in keys:
        call.store.delete(call.bucket, key)
    if quiet:
        return call.empty()
    shown = (quote(key, safe="") if encoded else key for key in keys)
    deleted = [element("Deleted", text_element("Key", key)) for key in shown]
    encoding = [text_element("EncodingType", "url")] if encoded else []
    return call.xml(element("DeleteResult", *encoding, *deleted))
