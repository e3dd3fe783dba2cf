"""Object operations of one bucket: the calls of the OSS API that a file system needs.

Everything the server says about ranges, lengths and checksums is verified before it is believed.
Multipart uploads are in :mod:`ossmount.multipart`.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import quote

import aiohttp

from ossmount.client import CALL_SECONDS, Answer, OssClient, OssRequest, lower_headers
from ossmount.crc64 import crc64
from ossmount.documents import ListPage, parse_etag, parse_list, render_deletion
from ossmount.errors import IntegrityError, ObjectChangedError, OssAnswerError, OssRefusedError
from ossmount.objects import SECOND_NS, ObjectHead, ObjectVersion, crc_header

PAGE_KEYS: Final = 1000  # the largest page; the default would be 100
MAX_PAGE_BYTES: Final = 8 << 20  # 1000 keys of 1023 bytes, percent-encoded, with their markup
MAX_DELETED: Final = 1000  # keys of one DeleteMultipleObjects
CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")


class Bucket:
    """The bucket behind a mount. Keys are whole object keys, prefix included."""

    def __init__(self, name: str, client: OssClient) -> None:
        self.name = name
        self.client = client

    async def head(self, key: str) -> ObjectHead | None:
        """Return what is known of an object, ``None`` only if the server says it is absent."""
        try:
            answer = await self.client.call_small(OssRequest("HeadObject", "HEAD", key))
        except OssRefusedError as error:
            # A missing bucket is a fault, not an absent file. HEAD without x-oss-err has no code.
            if error.status == 404 and error.code in {"", "NoSuchKey"}:
                return None
            raise
        return ObjectHead.from_headers(answer.headers)

    async def list_page(
        self,
        prefix: str,
        *,
        delimiter: str = "",
        token: str | None = None,
        limit: int = PAGE_KEYS,
        seconds: float = CALL_SECONDS,
    ) -> ListPage:
        """Return one page of keys below ``prefix``, grouped by ``delimiter``."""
        params = {"list-type": "2", "max-keys": str(limit), "encoding-type": "url"}
        if prefix:
            params["prefix"] = prefix
        if delimiter:
            params["delimiter"] = delimiter
        if token is not None:
            params["continuation-token"] = token
        answer = await self.client.call_small(
            OssRequest("ListObjectsV2", "GET", params=params, call_seconds=seconds),
            limit=MAX_PAGE_BYTES,
        )
        return parse_list(answer.body, limit=limit)

    async def get_range(
        self,
        key: str,
        version: ObjectVersion,
        start: int,
        target: memoryview,
        progress: Callable[[int], None] | None = None,
    ) -> None:
        """Fill ``target`` with the bytes of ``version`` from ``start`` on.

        ``progress`` is told how many bytes have arrived; after a broken attempt it starts again
        from a lower number. Raises :class:`ObjectChangedError` when the object is another one
        now, :class:`OssAnswerError` when range or length are not exactly what was asked for.
        """
        length = len(target)
        request = OssRequest(
            "GetObject",
            "GET",
            key,
            headers={
                "Range": f"bytes={start}-{start + length - 1}",
                "If-Match": version.etag,
                "x-oss-range-behavior": "standard",
            },
            transfer=length,
        )

        async def consume(response: aiohttp.ClientResponse) -> None:
            _check_range(response, start, length, version.size)
            filled = 0
            async for chunk in response.content.iter_any():
                if filled + len(chunk) > length:
                    raise OssAnswerError("GetObject", f"{length} bytes", "more")
                target[filled : filled + len(chunk)] = chunk
                filled += len(chunk)
                if progress is not None:
                    progress(filled)
            if filled != length:
                raise OssAnswerError("GetObject", f"{length} bytes", str(filled))

        try:
            await self.client.call(request, consume)
        except OssRefusedError as error:
            # 416: If-Match passed, yet the range lies outside: the object is not what it was.
            if error.status in {404, 412, 416} and error.code != "NoSuchBucket":
                raise ObjectChangedError("GetObject") from error
            raise

    async def put(
        self,
        key: str,
        content: bytes | bytearray | memoryview,
        headers: Mapping[str, str],
        *,
        exclusive: bool = False,
    ) -> ObjectVersion:
        """Store an object in one call and return its version.

        Raises :class:`IntegrityError` when the server received other bytes, and
        :class:`OssRefusedError` with ``FileAlreadyExists`` when ``exclusive`` and present.
        """
        sent = dict(headers)
        if exclusive:
            sent["x-oss-forbid-overwrite"] = "true"
        answer = await self.client.call_small(
            OssRequest(
                "PutObject", "PUT", key, headers=sent, body=content, idempotent=not exclusive
            )
        )
        crc = crc64(content)
        check_crc("PutObject", answer, crc)
        etag = answer.headers.get("etag", "")
        return written_version("PutObject", answer, etag=etag, size=len(content), crc=crc)

    async def copy(
        self,
        source: str,
        target: str,
        version: ObjectVersion,
        headers: Mapping[str, str] | None = None,
        *,
        exclusive: bool = False,
    ) -> str:
        """Copy inside the bucket and return the new ETag. ``headers`` replace the metadata.

        Raises :class:`ObjectChangedError` when the source is no longer ``version``.
        """
        sent = {
            "x-oss-copy-source": copy_source(self.name, source),
            "x-oss-copy-source-if-match": version.etag,
            "x-oss-metadata-directive": "COPY" if headers is None else "REPLACE",
            **(headers or {}),
        }
        if exclusive:
            sent["x-oss-forbid-overwrite"] = "true"
        request = OssRequest(
            "CopyObject",
            "PUT",
            target,
            headers=sent,
            body=b"",
            idempotent=not exclusive,
            transfer=version.size // 16,  # the server's own work, far faster than a transfer
        )
        try:
            answer = await self.client.call_small(request)
        except OssRefusedError as error:
            if error.status == 412:
                raise ObjectChangedError("CopyObject") from error
            raise
        return parse_etag("CopyObject", answer.body, "CopyObjectResult")

    async def delete(self, key: str) -> None:
        """Delete an object; absent is as good as deleted."""
        await self.client.call_small(OssRequest("DeleteObject", "DELETE", key))

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Delete up to 1000 objects in one call. Quiet: only errors would be reported."""
        if len(keys) > MAX_DELETED:
            raise ValueError(f"{len(keys)} keys in one deletion")
        body = render_deletion(keys)
        md5 = hashlib.md5(body, usedforsecurity=False).digest()
        await self.client.call_small(
            OssRequest(
                "DeleteMultipleObjects",
                "POST",
                params={"delete": ""},
                headers={
                    "Content-MD5": base64.b64encode(md5).decode(),
                    "Content-Type": "application/xml",
                },
                body=body,
            ),
            limit=MAX_PAGE_BYTES,
        )


def copy_source(bucket: str, key: str) -> str:
    """Return the value of ``x-oss-copy-source``."""
    return f"/{bucket}/{quote(key, safe='/~')}"


def check_crc(operation: str, answer: Answer, crc: int) -> None:
    """Raise :class:`IntegrityError` unless the server states ``crc``, or states none."""
    stated = crc_header(operation, answer.headers)
    if stated is not None and stated != crc:
        raise IntegrityError(operation, expected=stated, got=crc)


def written_version(
    operation: str, answer: Answer, *, etag: str, size: int, crc: int
) -> ObjectVersion:
    """Return the version a write made. Its time is the server's, from the answer's ``Date``."""
    if not etag:
        raise OssAnswerError(operation, "an ETag", "none")
    try:
        moment = parsedate_to_datetime(answer.headers.get("date", "")).timestamp()
    except ValueError:
        moment = time.time()
    return ObjectVersion(etag, size, int(moment) * SECOND_NS, crc)


def _check_range(response: aiohttp.ClientResponse, start: int, length: int, size: int) -> None:
    """Accept a body only as exactly the range asked for, of an object of the expected size."""
    operation = "GetObject"
    if response.status != 206:
        raise OssAnswerError(operation, "HTTP 206", str(response.status))
    headers = lower_headers(response)
    if headers.get("content-encoding", "identity") != "identity":
        raise OssAnswerError(operation, "an unencoded body", headers["content-encoding"])
    expected = f"bytes {start}-{start + length - 1}/{size}"
    found = CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
    if found is None or found.group(0) != expected:
        raise OssAnswerError(operation, expected, found.group(0) if found else "no Content-Range")
    if headers.get("content-length") != str(length):
        raise OssAnswerError(operation, f"Content-Length {length}", "another")
