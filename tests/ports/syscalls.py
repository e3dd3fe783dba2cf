"""Plain system calls for tests on real mounts: unbuffered, and strict about the errno."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def refused(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:
        yield
    assert errno.errorcode[caught.value.errno or 0] == errno.errorcode[code]


def read(path: Path) -> bytes:
    with opened(path, os.O_RDONLY) as descriptor:
        return b"".join(iter(lambda: os.read(descriptor, 4096), b""))


def store(entry: Path, data: bytes) -> None:
    """One open, one write, one close of ``inblob``."""
    with opened(entry / "inblob", os.O_WRONLY) as descriptor:
        assert os.write(descriptor, data) == len(data)


def generation(entry: Path) -> int:
    text = read(entry / "generation")
    assert text.endswith(b"\n")
    return int(text)
