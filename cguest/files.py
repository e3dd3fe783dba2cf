"""Reading and making the files a user names: bounded, and with errors that say which file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from cguest.connection import CommandError

STDIN: Final = Path("-")


def read_file(path: Path, limit: int) -> bytes:
    """Return the content, at most ``limit`` bytes; ``-`` is stdin. Raises ``CommandError``."""
    try:
        if path == STDIN:
            content = sys.stdin.buffer.read(limit + 1)
        else:
            with path.open("rb") as file:
                content = file.read(limit + 1)
    except OSError as error:
        raise CommandError(f"reading {path}: {error.strerror}") from error
    if len(content) > limit:
        raise CommandError(f"reading {path}: larger than {limit} bytes")
    return content


def write_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600; an existing file is kept and is a ``CommandError``."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"writing {path}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as file:
        file.write(content)
