"""File names to object keys and back.

A key is a path of UTF-8 text of at most 1023 bytes; a directory is the prefix that ends with
``/``. Keys that have no file name - empty, ``.`` and ``..`` parts, parts over 255 bytes, NUL - are
hidden, never an error: anyone may put such objects into the bucket.
"""

from __future__ import annotations

import errno
import hashlib
from typing import Final

from ossmount.errors import NameRefusedError

MAX_KEY: Final = 1023  # bytes, OSS object naming rules
MAX_NAME: Final = 255  # bytes of one component, NAME_MAX


def component(name: bytes) -> str:
    """Return a file name as text. Raises :class:`NameRefusedError` (EILSEQ or ENAMETOOLONG)."""
    if len(name) > MAX_NAME:
        raise NameRefusedError(errno.ENAMETOOLONG, "name", f"{len(name)} bytes long")
    try:
        return name.decode()
    except UnicodeDecodeError as error:
        raise NameRefusedError(errno.EILSEQ, "name", "not UTF-8") from error


def child_key(prefix: str, name: str) -> str:
    """Return the key of file ``name`` in directory ``prefix`` (empty, or ending with ``/``).

    Raises :class:`NameRefusedError` when it is too long, leaving room for a directory's ``/``, or
    begins with a backslash, which OSS refuses.
    """
    key = prefix + name
    if len(key.encode()) >= MAX_KEY:
        raise NameRefusedError(errno.ENAMETOOLONG, "name", "the object key would be too long")
    if key.startswith("\\"):
        raise NameRefusedError(errno.EINVAL, "name", "an object key cannot begin with a backslash")
    return key


def visible_name(key: str, prefix: str) -> str | None:
    """Return the name that a listed key or common prefix has in directory ``prefix``.

    ``None`` when it has none. The inverse of :func:`child_key` wherever it returns a name.
    """
    if not key.startswith(prefix):
        return None
    name = key[len(prefix) :].removesuffix("/")
    hidden = name in {"", ".", ".."} or "/" in name or "\0" in name
    if hidden or len(name.encode()) > MAX_NAME or len(key.encode()) > MAX_KEY:
        return None
    return name if prefix or not name.startswith("\\") else None


def path_digest(key: str) -> str:
    """Return what logs show in place of a key: enough to match lines, not to read the name."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]
