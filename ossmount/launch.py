"""The launch document: what one mount process is told, once, through an inherited pipe.

Strict: unknown members, missing members and values out of range are refused. Credentials go
straight into :class:`~secrecy.Secret`; nothing here is ever logged.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from dataclasses import dataclass
from select import POLLHUP, POLLIN, poll
from typing import Final, Literal

import msgspec

from ossmount.errors import LaunchError
from secrecy import Secret

MAX_DOCUMENT: Final = 64 * 1024  # bytes
READ_SECONDS: Final = 10.0  # the parent writes at once; a silent one is a fault
MIN_MEMORY: Final = 32 << 20  # below this not even two parts and one read-ahead block fit
MAX_MEMORY: Final = 1 << 40
MAX_ATTRIBUTE_SECONDS: Final = 3600.0
BUCKET_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")  # OSS bucket naming rules
FS_NAME: Final = re.compile(r"[\x21-\x2b\x2d-\x5b\x5d-\x7e]{1,200}")  # no comma, no backslash
MAX_PREFIX: Final = 1000  # bytes; an object key has at most 1023
MODE_MASK: Final = 0o777


class LaunchDocument(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """The wire form. Every member is required, so that none is forgotten by the writer."""

    version: Literal[1]
    mount_point: str
    bucket: str
    prefix: str
    endpoint: str
    region: str | None
    signature: Literal["v4", "v1"]
    access_key_id: str
    access_key_secret: str
    security_token: str | None
    read_only: bool
    allow_other: bool
    uid: int | None
    gid: int | None
    umask: int | None
    mp_umask: int | None
    ca_pem: str | None
    path_style: bool
    attribute_seconds: float
    memory_bytes: int
    fs_name: str


@dataclass(frozen=True, slots=True)
class Credentials:
    """An access key, and the token that belongs to it when it is a temporary one."""

    access_key_id: Secret
    access_key_secret: Secret
    security_token: Secret | None


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns what in the mount, after the options of ossfs 1 (``uid gid umask mp_umask``)."""

    uid: int | None
    gid: int | None
    umask: int | None
    mp_umask: int | None
    allow_other: bool


@dataclass(frozen=True, slots=True)
class LaunchSpec:
    """A checked launch document."""

    mount_point: str
    bucket: str
    prefix: str
    endpoint: str
    region: str | None
    signature: Literal["v4", "v1"]
    credentials: Credentials
    read_only: bool
    ownership: Ownership
    ca_pem: str | None
    path_style: bool
    attribute_seconds: float
    memory_bytes: int
    fs_name: str

    @classmethod
    def parse(cls, document: bytes) -> LaunchSpec:
        """Decode and check. Raises :class:`LaunchError`, whose text never quotes a value."""
        if len(document) > MAX_DOCUMENT:
            raise LaunchError(f"longer than {MAX_DOCUMENT} bytes")
        try:
            wire = msgspec.json.decode(document, type=LaunchDocument)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Without "from": the decoder's text may quote the document.
            raise LaunchError("not the JSON object of the launch contract, version 1") from None
        _check(wire)
        return cls(
            mount_point=os.path.normpath(wire.mount_point),
            bucket=wire.bucket,
            prefix=wire.prefix,
            endpoint=wire.endpoint,
            region=wire.region,
            signature=wire.signature,
            credentials=Credentials(
                Secret(wire.access_key_id),
                Secret(wire.access_key_secret),
                None if wire.security_token is None else Secret(wire.security_token),
            ),
            read_only=wire.read_only,
            ownership=Ownership(wire.uid, wire.gid, wire.umask, wire.mp_umask, wire.allow_other),
            ca_pem=wire.ca_pem,
            path_style=wire.path_style,
            attribute_seconds=wire.attribute_seconds,
            memory_bytes=wire.memory_bytes,
            fs_name=wire.fs_name,
        )


def _check(wire: LaunchDocument) -> None:
    rules = (
        (wire.mount_point.startswith("/") and "\0" not in wire.mount_point, "mount_point", "path"),
        (BUCKET_NAME.fullmatch(wire.bucket) is not None, "bucket", "3-63 of a-z 0-9 -"),
        (_is_prefix(wire.prefix), "prefix", "empty, or a clean path that ends with /"),
        (wire.signature == "v1" or bool(wire.region), "region", "given, V4 signs with it"),
        (0 < len(wire.access_key_id) <= 256, "access_key_id", "1-256 characters"),
        (0 < len(wire.access_key_secret) <= 256, "access_key_secret", "1-256 characters"),
        (_is_header_text(wire.access_key_id), "access_key_id", "printable ASCII"),
        (wire.security_token != "", "security_token", "null or not empty"),
        (_is_header_text(wire.security_token or ""), "security_token", "printable ASCII"),
        (_in_range(wire.uid, 0xFFFFFFFE), "uid", "a user id"),
        (_in_range(wire.gid, 0xFFFFFFFE), "gid", "a group id"),
        (_in_range(wire.umask, MODE_MASK), "umask", "0-0777"),
        (_in_range(wire.mp_umask, MODE_MASK), "mp_umask", "0-0777"),
        (0 <= wire.attribute_seconds <= MAX_ATTRIBUTE_SECONDS, "attribute_seconds", "0-3600"),
        (MIN_MEMORY <= wire.memory_bytes <= MAX_MEMORY, "memory_bytes", f"at least {MIN_MEMORY}"),
        (FS_NAME.fullmatch(wire.fs_name) is not None, "fs_name", "1-200 printable, no , or \\"),
    )
    for holds, member, rule in rules:
        if not holds:
            raise LaunchError(f"{member} must be: {rule}")


def _is_prefix(prefix: str) -> bool:
    if not prefix:
        return True
    parts = prefix[:-1].split("/")
    return (
        prefix.endswith("/")
        and len(prefix.encode(errors="replace")) <= MAX_PREFIX
        and not any(part in {"", ".", ".."} for part in parts)
        and not prefix.startswith("\\")
    )


def _is_header_text(text: str) -> bool:
    return text.isascii() and (not text or text.isprintable()) and " " not in text


def _in_range(value: int | None, maximum: int) -> bool:
    return value is None or 0 <= value <= maximum


def read_document(fd: int) -> bytes:
    """Read the launch pipe to its end, close it and return the content.

    Blocks for at most ten seconds. Raises :class:`LaunchError` when the parent stays silent,
    writes more than allowed, or ``fd`` is not open.
    """
    deadline = time.monotonic() + READ_SECONDS
    chunks = bytearray()
    try:
        watcher = poll()
        watcher.register(fd, POLLIN | POLLHUP)
        while len(chunks) <= MAX_DOCUMENT:
            left = deadline - time.monotonic()
            if left <= 0 or not watcher.poll(left * 1000):
                raise LaunchError(f"incomplete after {READ_SECONDS:.0f} s")
            chunk = os.read(fd, MAX_DOCUMENT)
            if not chunk:
                return bytes(chunks)
            chunks += chunk
        raise LaunchError(f"longer than {MAX_DOCUMENT} bytes")
    except OSError as error:
        raise LaunchError(f"unreadable ({os.strerror(error.errno or 0)})") from error
    finally:
        # Not open at all: the read above has already reported it.
        with contextlib.suppress(OSError):
            os.close(fd)
