"""Multipart uploads: initiate, parts by body or by copy, complete, abort, and their listings."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

from aiohttp import web

from mocktee.oss import crc64
from mocktee.oss.call import Call, quoted, whole_number
from mocktee.oss.documents import element, malformed, parse_document, text_element
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.listing_operations import MAX_PAGE, encoder, iso_date, owner
from mocktee.oss.metadata import stored_headers
from mocktee.oss.objects import Bucket, ObjectKind, StoredObject, StoredPart, Upload, extend_file
from mocktee.oss.receiving import BodyFile, Digest, receive_document
from mocktee.oss.writing import copy_source, receive_body

MAX_PART_NUMBER: Final = 10_000
MAX_COMPLETE_BYTES: Final = 4 << 20
COPY_BYTES: Final = 1 << 20
_SOURCE_RANGE: Final = re.compile(r"bytes=(\d{1,19})-(\d{1,19})")


async def initiate_multipart_upload(call: Call) -> web.StreamResponse:
    headers = stored_headers(call.oss.headers)
    call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
    upload_id = call.store.open_upload(call.bucket, call.oss.key, call.now, headers)
    encode = encoder(call.oss.query)
    return call.xml(
        element(
            "InitiateMultipartUploadResult",
            *([text_element("EncodingType", "url")] if "encoding-type" in call.oss.query else []),
            text_element("Bucket", call.bucket.name),
            text_element("Key", encode(call.oss.key)),
            text_element("UploadId", upload_id),
        )
    )


async def upload_part(call: Call) -> web.StreamResponse:
    number = _part_number(call)
    _upload(call)
    with call.new_body() as body:
        digest = await receive_body(call, body)
        _keep_part(call, number, body, digest)
    return call.empty(extra=call.crc_header(digest.crc64) | {"ETag": quoted(digest.etag)})


async def upload_part_copy(call: Call) -> web.StreamResponse:
    number = _part_number(call)
    _upload(call)
    source = copy_source(call)
    first, length = _source_range(call.oss.header("x-oss-copy-source-range"), source.size)
    with source.body.open("rb", buffering=0) as opened, call.new_body() as body:
        digest = await asyncio.to_thread(_copy, opened.fileno(), body, first, length)
        part = _keep_part(call, number, body, digest)
    return call.xml(
        element(
            "CopyPartResult",
            text_element("LastModified", iso_date(part.modified)),
            text_element("ETag", quoted(digest.etag)),
        ),
        call.crc_header(digest.crc64) | {"ETag": quoted(digest.etag)},
    )


async def complete_multipart_upload(call: Call) -> web.StreamResponse:
    upload = _upload(call)
    body = await receive_document(call.http.content, MAX_COMPLETE_BYTES)
    named = [
        (_number(node.value("PartNumber")), node.value("ETag"))
        for node in parse_document(body, "CompleteMultipartUpload").all("Part")
    ]
    parts = choose_parts(_upload(call), named, call.settings.min_part_bytes)
    call.bucket.refuse_overwrite(call.oss.key, call.oss.headers)
    # From here on the upload is gone: a second complete gets NoSuchUpload, as from OSS.
    call.bucket.uploads.pop(upload.upload_id)
    stored = await _join(call, upload, parts)
    call.store.replace(call.bucket, stored)
    call.store.close_upload(call.bucket, upload)
    encode = encoder(call.oss.query)
    return call.xml(
        element(
            "CompleteMultipartUploadResult",
            *([text_element("EncodingType", "url")] if "encoding-type" in call.oss.query else []),
            text_element("Location", f"http://{call.http.host}/{encode(call.oss.key)}"),
            text_element("Bucket", call.bucket.name),
            text_element("Key", encode(call.oss.key)),
            text_element("ETag", quoted(stored.etag)),
        ),
        call.crc_header(stored.crc64) | {"ETag": quoted(stored.etag)},
    )


async def abort_multipart_upload(call: Call) -> web.StreamResponse:
    call.store.close_upload(call.bucket, _upload(call))
    return call.empty(204)


async def list_parts(call: Call) -> web.StreamResponse:
    upload = _upload(call)
    encode = encoder(call.oss.query)
    limit = whole_number(call, "max-parts", MAX_PAGE, 1, MAX_PAGE)
    marker = whole_number(call, "part-number-marker", 0, 0, MAX_PART_NUMBER)
    numbers = [number for number in sorted(upload.parts) if number > marker]
    shown = [upload.parts[number] for number in numbers[:limit]]
    return call.xml(
        element(
            "ListPartsResult",
            *([text_element("EncodingType", "url")] if "encoding-type" in call.oss.query else []),
            text_element("Bucket", call.bucket.name),
            text_element("Key", encode(upload.key)),
            text_element("UploadId", upload.upload_id),
            text_element("StorageClass", "Standard"),
            text_element("PartNumberMarker", marker),
            text_element("NextPartNumberMarker", shown[-1].number if shown else marker),
            text_element("MaxParts", limit),
            text_element("IsTruncated", str(len(numbers) > limit).lower()),
            *map(_part_element, shown),
        )
    )


async def list_multipart_uploads(call: Call) -> web.StreamResponse:
    query = call.oss.query
    encode = encoder(query)
    limit = whole_number(call, "max-uploads", MAX_PAGE, 1, MAX_PAGE)
    after = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    uploads = _uploads_after(call.bucket, query.get("prefix", ""), after)
    shown = uploads[:limit]
    truncated = len(uploads) > limit
    return call.xml(
        element(
            "ListMultipartUploadsResult",
            *([text_element("EncodingType", "url")] if "encoding-type" in query else []),
            text_element("Bucket", call.bucket.name),
            text_element("KeyMarker", encode(after[0])),
            text_element("UploadIdMarker", after[1]),
            text_element("NextKeyMarker", encode(shown[-1].key) if truncated else ""),
            text_element("NextUploadIdMarker", shown[-1].upload_id if truncated else ""),
            text_element("Delimiter", encode(query.get("delimiter", ""))),
            text_element("Prefix", encode(query.get("prefix", ""))),
            text_element("MaxUploads", limit),
            text_element("IsTruncated", str(truncated).lower()),
            *(_upload_element(upload, encode(upload.key)) for upload in shown),
        )
    )


def choose_parts(
    upload: Upload, named: Sequence[tuple[int, str]], min_part_bytes: int
) -> list[StoredPart]:
    """The parts a complete request names, in order. Raises :class:`OssAnswerError`."""
    if not named:
        raise malformed("no parts")
    if any(one >= other for (one, _), (other, _) in pairwise(named)):
        raise OssAnswerError("InvalidPartOrder", "The list of parts was not in ascending order.")
    chosen: list[StoredPart] = []
    for number, etag in named:
        part = upload.parts.get(number)
        if part is None or part.etag != etag.strip().strip('"').upper():
            raise OssAnswerError(
                "InvalidPart",
                "One or more of the specified parts could not be found or the specified entity "
                "tag might not have matched the part's entity tag.",
                fields={"PartNumber": str(number)},
            )
        chosen.append(part)
    for part in chosen[:-1]:
        if part.size < min_part_bytes:
            raise OssAnswerError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size.",
                fields={"PartNumber": str(part.number), "ProposedSize": str(part.size)},
            )
    return chosen


def _upload(call: Call) -> Upload:
    return call.bucket.find_upload(call.oss.key, call.oss.query.get("uploadId", ""))


def _part_number(call: Call) -> int:
    return whole_number(call, "partNumber", None, 1, MAX_PART_NUMBER)


def _number(text: str) -> int:
    text = text.strip()
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise malformed("a part number is not a number")
    return int(text)


def _keep_part(call: Call, number: int, body: BodyFile, digest: Digest) -> StoredPart:
    """The upload is looked up again: it may have been aborted while the body came in."""
    upload = _upload(call)
    part = StoredPart(number, body.keep(), digest.size, digest.etag, digest.crc64, call.now)
    call.store.put_part(upload, part)
    return part


def _source_range(header: str | None, size: int) -> tuple[int, int]:
    if header is None:
        return 0, size
    match = _SOURCE_RANGE.fullmatch(header.strip())
    if match is None:
        return 0, size
    first, last = int(match[1]), int(match[2])
    if last < first or last >= size:
        raise OssAnswerError("InvalidRange", "The copy source range is not within the object.")
    return first, last - first + 1


def _copy(source: int, body: BodyFile, first: int, length: int) -> Digest:
    while length > 0:
        chunk = os.pread(source, min(length, COPY_BYTES), first)
        body.add([chunk])
        first, length = first + len(chunk), length - len(chunk)
    return body.digest()


async def _join(call: Call, upload: Upload, parts: list[StoredPart]) -> StoredObject:
    target = call.store.new_body()
    await asyncio.to_thread(_concatenate, target, [part.body for part in parts])
    crc, size = 0, 0
    for part in parts:
        crc = crc64.combine(crc, part.crc64, part.size)
        size += part.size
    joined = b"".join(bytes.fromhex(part.etag) for part in parts)
    md5 = hashlib.md5(joined, usedforsecurity=False).hexdigest().upper()
    return StoredObject(
        upload.key,
        target,
        size,
        f"{md5}-{len(parts)}",
        crc,
        call.now,
        ObjectKind.MULTIPART,
        upload.headers,
    )


def _concatenate(target: Path, bodies: Sequence[Path]) -> None:
    """The first part's file becomes the object and the others are added to it."""
    bodies[0].rename(target)
    for body in bodies[1:]:
        extend_file(target, body)


def _uploads_after(bucket: Bucket, prefix: str, after: tuple[str, str]) -> list[Upload]:
    """Sorted by key, then id. Without an id marker the whole key of the marker is passed over."""
    key_marker, id_marker = after
    found = [
        upload
        for upload in bucket.uploads.values()
        if upload.key.startswith(prefix)
        and (
            upload.key > key_marker
            or (bool(id_marker) and upload.key == key_marker and upload.upload_id > id_marker)
        )
    ]
    return sorted(found, key=lambda upload: (upload.key, upload.upload_id))


def _part_element(part: StoredPart) -> str:
    return element(
        "Part",
        text_element("PartNumber", part.number),
        text_element("LastModified", iso_date(part.modified)),
        text_element("ETag", quoted(part.etag)),
        text_element("HashCrc64ecma", part.crc64),
        text_element("Size", part.size),
    )


def _upload_element(upload: Upload, key: str) -> str:
    return element(
        "Upload",
        text_element("Key", key),
        text_element("UploadId", upload.upload_id),
        text_element("Initiated", iso_date(upload.initiated)),
        text_element("StorageClass", "Standard"),
        owner(),
    )
