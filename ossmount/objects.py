"""Object versions and user metadata: answers of the store as frozen values.

Modes, owners and times live in ``x-oss-meta-{mode,uid,gid,mtime}`` exactly as ossfs 1 keeps them
(decimal; mode with type bits; seconds), so each reads what the other wrote.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Final

from ossmount.errors import OssAnswerError

META: Final = "x-oss-meta-"
FILE_TYPE: Final = "application/octet-stream"
DIRECTORY_TYPE: Final = "application/x-directory"
MAX_NUMBER_TEXT: Final = 20  # characters of a decimal in metadata
SECOND_NS: Final = 1_000_000_000
#: Headers a self-copy with REPLACE must repeat, or the server forgets them.
KEPT_HEADERS: Final = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
)


@dataclass(frozen=True, slots=True)
class StoredAttributes:
    """What metadata says about an object; ``None`` where it says nothing."""

    mode: int | None = None  # permission bits only
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> StoredAttributes:
        """Read leniently: metadata written by others may hold anything."""
        mode = _decimal(headers.get(META + "mode"))
        mtime = _decimal(headers.get(META + "mtime", "").partition(".")[0])
        return cls(
            mode=None if mode is None else stat.S_IMODE(mode),
            uid=_decimal(headers.get(META + "uid"), maximum=0xFFFFFFFE),
            gid=_decimal(headers.get(META + "gid"), maximum=0xFFFFFFFE),
            mtime_ns=None if mtime is None else mtime * SECOND_NS,
        )

    def to_headers(self, kind: int) -> dict[str, str]:
        """Return the metadata headers; ``kind`` is ``S_IFREG`` or ``S_IFDIR``."""
        values = {
            "mode": None if self.mode is None else kind | self.mode,
            "uid": self.uid,
            "gid": self.gid,
            "mtime": None if self.mtime_ns is None else self.mtime_ns // SECOND_NS,
        }
        return {META + name: str(value) for name, value in values.items() if value is not None}

    def merged(self, newer: StoredAttributes) -> StoredAttributes:
        """Return these with every value that ``newer`` has."""
        return replace(
            self,
            mode=self.mode if newer.mode is None else newer.mode,
            uid=self.uid if newer.uid is None else newer.uid,
            gid=self.gid if newer.gid is None else newer.gid,
            mtime_ns=self.mtime_ns if newer.mtime_ns is None else newer.mtime_ns,
        )


def _decimal(text: str | None, *, maximum: int = 1 << 40) -> int | None:
    if not text or len(text) > MAX_NUMBER_TEXT or not (text.isascii() and text.isdigit()):
        return None
    value = int(text)
    return value if value <= maximum else None


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object's content. The ETag pins it; ``crc`` may be unknown."""

    etag: str
    size: int
    modified_ns: int
    crc: int | None = None


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """The answer to HeadObject."""

    version: ObjectVersion
    stored: StoredAttributes
    kept: Mapping[str, str]  # headers to repeat in a self-copy, metadata of others included

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> ObjectHead:
        """Raises :class:`OssAnswerError` when length, ETag or date is missing or malformed.

        ``headers`` has lower-case names.
        """
        operation = "HeadObject"
        size = _decimal(headers.get("content-length"), maximum=1 << 62)
        etag = headers.get("etag", "")
        if size is None or not etag:
            raise OssAnswerError(operation, "Content-Length and ETag", "none")
        try:
            modified = parsedate_to_datetime(headers.get("last-modified", ""))
        except ValueError as error:
            raise OssAnswerError(operation, "a Last-Modified date", "none") from error
        kept = {
            name: value
            for name, value in headers.items()
            if name in KEPT_HEADERS or name.startswith(META)
        }
        return cls(
            version=ObjectVersion(
                etag=etag,
                size=size,
                modified_ns=int(modified.timestamp()) * SECOND_NS,
                crc=crc_header(operation, headers),
            ),
            stored=StoredAttributes.from_headers(headers),
            kept=kept,
        )


def crc_header(operation: str, headers: Mapping[str, str]) -> int | None:
    """Return ``x-oss-hash-crc64ecma``; ``None`` when absent, which means "not checkable".

    Raises :class:`OssAnswerError` when present and not a 64-bit decimal.
    """
    text = headers.get("x-oss-hash-crc64ecma")
    if text is None:
        return None
    value = _decimal(text, maximum=(1 << 64) - 1)
    if value is None:
        raise OssAnswerError(operation, "a decimal CRC-64", "something else")
    return value
