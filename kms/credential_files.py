"""Reading credential files of the guest: bounded, no symbolic link at the end, never logged.

They lie on the guest's memory file system, put there by the data hub's ``credentials``.
"""

from __future__ import annotations

import asyncio
import os
import re
import stat
from pathlib import Path
from typing import Final

from kms.errors import KmsCredentialError, KmsRequestError
from secrecy import Secret

MAX_BYTES: Final = 64 * 1024
# What may stand in a file name: identities of keys, instances and roles.
_NAME: Final = re.compile(r"[A-Za-z0-9_.*\-]{1,128}", re.ASCII)


def file_name_part(provider: str, setting: str, value: str) -> str:
    """Return ``value`` if it can be part of a file name. Raises :class:`KmsRequestError`."""
    if not _NAME.fullmatch(value) or value in {".", ".."}:
        raise KmsRequestError(provider, f"the setting {setting} cannot be part of a file name")
    return value


async def read_credential(path: Path, *, max_bytes: int = MAX_BYTES) -> Secret:
    """Return the content of ``path``. Raises :class:`KmsCredentialError`."""
    return await asyncio.to_thread(_read, path, max_bytes)


def _read(path: Path, max_bytes: int) -> Secret:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise KmsCredentialError(str(path), "not a regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise KmsCredentialError(
            str(path),
            f"cannot be read: {os.strerror(error.errno or 0)}",
            hint="name it in the data hub's [[credentials]], so that it is fetched at start",
        ) from error
    if len(content) > max_bytes:
        raise KmsCredentialError(str(path), f"longer than {max_bytes} bytes")
    return Secret(content)
