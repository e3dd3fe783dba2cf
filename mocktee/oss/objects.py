"""The stored things: objects, uploads and buckets, and the rules for replacing them.

Bodies are files that are never changed once an object names them, except that appendable objects
grow; so a reader which opened the file keeps what it saw, and a copy is a hard link. The index is
in memory and sorted by key. Nothing here awaits: every method is one indivisible step.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from mocktee.oss.errors import MockOssSettingsError, OssAnswerError
from mocktee.oss.request import valid_bucket_name

RESERVED_BUCKET = "mock"  # its path-style address is the control interface


class ObjectKind(StrEnum):
    NORMAL = "Normal"
    MULTIPART = "Multipart"
    APPENDABLE = "Appendable"
    SYMLINK = "Symlink"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """``etag`` has no quotes; ``modified`` is in unix seconds; ``headers`` are lower case."""

    key: str
    body: Path
    size: int
    etag: str
    crc64: int | None
    modified: float
    kind: ObjectKind
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StoredPart:
    number: int
    body: Path
    size: int
    etag: str
    crc64: int
    modified: float


@dataclass(slots=True)
class Upload:
    upload_id: str
    key: str
    initiated: float
    headers: Mapping[str, str]
    parts: dict[int, StoredPart] = field(default_factory=dict)


@dataclass(slots=True)
class Bucket:
    name: str
    created: float
    objects: dict[str, StoredObject] = field(default_factory=dict)
    ordered: list[str] = field(default_factory=list)
    uploads: dict[str, Upload] = field(default_factory=dict)

    def find(self, key: str) -> StoredObject:
        """Raises :class:`OssAnswerError` (NoSuchKey)."""
        found = self.objects.get(key)
        if found is None:
            raise OssAnswerError(
                "NoSuchKey", "The specified key does not exist.", fields={"Key": key}
            )
        return found

    def find_upload(self, key: str, upload_id: str) -> Upload:
        """Raises :class:`OssAnswerError` (NoSuchUpload)."""
        found = self.uploads.get(upload_id)
        if found is None or found.key != key:
            raise OssAnswerError(
                "NoSuchUpload",
                "The specified upload does not exist. The upload ID may be invalid, or the upload "
                "may have been aborted or completed.",
                fields={"UploadId": upload_id},
            )
        return found

    def refuse_overwrite(self, key: str, headers: Mapping[str, str]) -> None:
        """Raises :class:`OssAnswerError` (FileAlreadyExists) if the request forbids replacing."""
        if headers.get("x-oss-forbid-overwrite", "").lower() == "true" and key in self.objects:
            raise OssAnswerError(
                "FileAlreadyExists",
                "The object you specified already exists and can not be overwritten.",
                fields={"Key": key},
            )


class ObjectStore:
    """All buckets, and the directory their bodies live in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._buckets: dict[str, Bucket] = {}
        self._sequence = itertools.count()
        directory.mkdir(parents=True, exist_ok=True)

    def new_body(self) -> Path:
        """A path that nothing uses yet."""
        return self._directory / f"{next(self._sequence):010x}"

    def add_bucket(self, name: str, created: float) -> Bucket:
        """The bucket, made if it is new. Raises :class:`MockOssSettingsError`."""
        if not valid_bucket_name(name) or name == RESERVED_BUCKET:
            raise MockOssSettingsError(name, "not a usable bucket name")
        return self._buckets.setdefault(name, Bucket(name, created))

    def bucket(self, name: str) -> Bucket:
        """Raises :class:`OssAnswerError` (NoSuchBucket)."""
        found = self._buckets.get(name)
        if found is None:
            raise OssAnswerError(
                "NoSuchBucket", "The specified bucket does not exist.", fields={"BucketName": name}
            )
        return found

    def buckets(self) -> Iterator[Bucket]:
        return iter(self._buckets.values())

    def replace(self, bucket: Bucket, stored: StoredObject) -> None:
        """Make ``stored`` the object of its key; the body it replaces is unlinked."""
        old = bucket.objects.get(stored.key)
        if old is None:
            insort(bucket.ordered, stored.key)
        bucket.objects[stored.key] = stored
        if old is not None and old.body != stored.body:
            discard(old.body)

    def delete(self, bucket: Bucket, key: str) -> bool:
        """False when there was nothing to delete, which is no error in OSS."""
        old = bucket.objects.pop(key, None)
        if old is None:
            return False
        del bucket.ordered[bisect_left(bucket.ordered, key)]
        discard(old.body)
        return True

    def open_upload(self, bucket: Bucket, key: str, now: float, headers: Mapping[str, str]) -> str:
        upload_id = secrets.token_hex(16).upper()
        bucket.uploads[upload_id] = Upload(upload_id, key, now, headers)
        return upload_id

    def put_part(self, upload: Upload, part: StoredPart) -> None:
        old = upload.parts.get(part.number)
        upload.parts[part.number] = part
        if old is not None:
            discard(old.body)

    def close_upload(self, bucket: Bucket, upload: Upload) -> None:
        """Forget the upload and its remaining part files."""
        bucket.uploads.pop(upload.upload_id, None)
        for part in upload.parts.values():
            discard(part.body)

    def link_body(self, source: Path) -> Path:
        """A second name for an unchanging body, so that either object may go first."""
        target = self.new_body()
        os.link(source, target)
        return target


def discard(body: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        body.unlink()


def extend_file(target: Path, source: Path) -> None:
    """Add the bytes of ``source`` to the end of ``target``. Blocking."""
    # Not opened for appending: sendfile(2) refuses such a target.
    with target.open("r+b", buffering=0) as out, source.open("rb", buffering=0) as more:
        out.seek(0, os.SEEK_END)
        offset = 0
        while sent := os.sendfile(out.fileno(), more.fileno(), offset, 1 << 30):
            offset += sent
