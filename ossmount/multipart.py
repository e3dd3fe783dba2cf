"""Multipart uploads of one bucket: initiate, parts by data or by copy, complete, abort.

Only the calls and what can be believed of their answers; order, memory and parallelism belong to
:mod:`ossmount.upload`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ossmount.bucket import Bucket, check_crc, copy_source, written_version
from ossmount.client import OssRequest
from ossmount.documents import parse_etag, parse_upload_id, render_completion
from ossmount.errors import (
    ObjectChangedError,
    OssError,
    OssRefusedError,
    OssTimeoutError,
    OssUnreachableError,
)
from ossmount.objects import ObjectVersion

MAX_PARTS: Final = 10_000
MIN_PART: Final = 100 * 1024  # bytes; the last part may be smaller
MAX_COPY_PART: Final = 1 << 30  # bytes of one part copy; the API allows 5 GB


@dataclass(frozen=True, slots=True)
class Upload:
    """A multipart upload that exists at the server until completed or aborted."""

    key: str
    upload_id: str


class MultipartApi:
    """The five calls of a multipart upload."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._client = bucket.client

    async def initiate(self, key: str, headers: Mapping[str, str]) -> Upload:
        """Start an upload; ``headers`` become the object's metadata."""
        answer = await self._client.call_small(
            OssRequest(
                "InitiateMultipartUpload",
                "POST",
                key,
                params={"uploads": ""},
                headers=headers,
                body=b"",
                idempotent=False,
            )
        )
        return Upload(key, parse_upload_id(answer.body))

    async def put_part(self, upload: Upload, number: int, content: memoryview, crc: int) -> str:
        """Upload one part; return its ETag. Raises ``IntegrityError`` if it arrived changed."""
        answer = await self._client.call_small(
            OssRequest(
                "UploadPart",
                "PUT",
                upload.key,
                params={"partNumber": str(number), "uploadId": upload.upload_id},
                headers={"Content-Type": "application/octet-stream"},
                body=content,
            )
        )
        check_crc("UploadPart", answer, crc)
        return answer.headers.get("etag", "")

    async def copy_part(
        self, upload: Upload, number: int, version: ObjectVersion, start: int, length: int
    ) -> str:
        """Make a part of a range of the present object ``upload.key``; return the part's ETag.

        Raises :class:`ObjectChangedError` when the object is no longer ``version``.
        """
        request = OssRequest(
            "UploadPartCopy",
            "PUT",
            upload.key,
            params={"partNumber": str(number), "uploadId": upload.upload_id},
            headers={
                "x-oss-copy-source": copy_source(self._bucket.name, upload.key),
                "x-oss-copy-source-range": f"bytes={start}-{start + length - 1}",
                "x-oss-copy-source-if-match": version.etag,
            },
            body=b"",
            transfer=length // 16,
        )
        try:
            answer = await self._client.call_small(request)
        except OssRefusedError as error:
            if error.status == 412 or error.code == "NoSuchKey":
                raise ObjectChangedError("UploadPartCopy") from error
            raise
        return parse_etag("UploadPartCopy", answer.body, "CopyPartResult")

    async def complete(
        self, upload: Upload, etags: Sequence[tuple[int, str]], *, size: int, crc: int | None
    ) -> ObjectVersion:
        """Make the object appear and return its version.

        An unclear answer is settled by HEAD: completion goes on at the server when the connection
        breaks, and ``NoSuchUpload`` on a repetition may mean success. ``crc`` is that of the
        whole object where known. Raises :class:`IntegrityError` when the server's differs.
        """
        operation = "CompleteMultipartUpload"
        try:
            answer = await self._client.call_small(
                OssRequest(
                    operation,
                    "POST",
                    upload.key,
                    params={"uploadId": upload.upload_id},
                    headers={"Content-Type": "application/xml"},
                    body=render_completion(etags),
                    idempotent=False,
                    transfer=size // 16,
                )
            )
        except (OssUnreachableError, OssTimeoutError) as error:
            return await self._settle(upload.key, size, crc, error)
        except OssRefusedError as error:
            if error.status < 500 and error.code != "NoSuchUpload":
                raise
            return await self._settle(upload.key, size, crc, error)
        etag = parse_etag(operation, answer.body, "CompleteMultipartUploadResult")
        if crc is not None:
            check_crc(operation, answer, crc)
            if "x-oss-hash-crc64ecma" in answer.headers:
                return written_version(operation, answer, etag=etag, size=size, crc=crc)
        # Without a stated checksum the size is what is left to compare.
        head = await self._bucket.head(upload.key)
        if head is None or head.version.etag != etag or head.version.size != size:
            raise ObjectChangedError(operation)
        return head.version

    async def _settle(self, key: str, size: int, crc: int | None, error: OssError) -> ObjectVersion:
        """Was the lost completion carried out? Only size and CRC together prove it."""
        head = await self._bucket.head(key)
        if head is None or crc is None or (head.version.size, head.version.crc) != (size, crc):
            raise error
        return head.version

    async def abort(self, upload: Upload) -> None:
        """Drop an upload and its parts; one that is gone already is as good."""
        try:
            await self._client.call_small(
                OssRequest(
                    "AbortMultipartUpload",
                    "DELETE",
                    upload.key,
                    params={"uploadId": upload.upload_id},
                )
            )
        except OssRefusedError as error:
            if error.code != "NoSuchUpload":
                raise
