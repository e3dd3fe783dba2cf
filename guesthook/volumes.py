"""A volume that the host shares: does it hold sealed files, and what is in it.

Everything here is the host's: names, links, sizes, and that it answers at all. So there are bounds,
no link is followed out of the volume, nothing but regular files is opened, and nothing is written:
whatever is put into this directory, the host can read.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from guesthook.beneath import open_beneath
from guesthook.errors import RefusedError
from guesthook.kernel import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, open_in
from guesthook.spec import Mount

MARK: Final = b"sealed."
MAX_LOOKED_AT: Final = 4096  # first-level names; a volume with more is data, not secrets
MAX_ENTRIES: Final = 1024  # of a volume with sealed files; Kubernetes limits a secret to 1 MiB
MAX_BYTES: Final = 16 * 1024 * 1024
MAX_FILE: Final = 3 * 1024 * 1024  # bytes; with its envelope it has to fit into one message
MAX_DEPTH: Final = 8
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS
_PERMISSIONS: Final = 0o777


@dataclass(frozen=True, slots=True)
class Owner:
    """Permissions and owner, as the volume has them; no set-id bits."""

    mode: int
    uid: int
    gid: int

    @classmethod
    def of(cls, status: os.stat_result) -> Owner:
        return cls(stat.S_IMODE(status.st_mode) & _PERMISSIONS, status.st_uid, status.st_gid)


@dataclass(frozen=True, slots=True)
class Folder:
    path: str
    owner: Owner


@dataclass(frozen=True, slots=True)
class Link:
    path: str
    target: str


@dataclass(frozen=True, slots=True)
class File:
    """``content`` is sealed if it begins with the mark."""

    path: str
    owner: Owner
    content: bytes

    def is_sealed(self) -> bool:
        return self.content.startswith(MARK)


Entry: TypeAlias = Folder | Link | File


def sealed_among(mounts: Sequence[Mount], roots: Sequence[str]) -> tuple[Mount, ...]:
    """Return those of ``mounts`` that hold sealed files. Raises :class:`RefusedError`, or
    ``BundleError`` for a source that is not reached straight below ``roots``."""
    found = []
    for mount in mounts:
        volume = open_beneath(mount.source, roots)
        try:
            if holds_sealed(f"volume {mount.destination}", volume):
                found.append(mount)
        finally:
            os.close(volume)
    return tuple(found)


def _read(handle: int, limit: int) -> bytes:
    """Read a regular file that is held by an ``O_PATH`` descriptor; b"" for anything else."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        return b""
    # Opened anew through the descriptor: the thing that was looked at, whatever its name is now.
    file = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(file, "rb") as stream:
        return stream.read(limit)


def holds_sealed(subject: str, volume: int) -> bool:
    """Whether a first-level file, or link to a file inside, begins with ``sealed.``.

    ``volume`` is an ``O_PATH`` descriptor; one of a file (``subPath``) is judged itself. Links
    that lead out of the volume are not followed. Raises :class:`RefusedError` if the host does not
    let us look: "could not be read" is not "nothing sealed".
    """
    try:
        if not stat.S_ISDIR(os.fstat(volume).st_mode):
            return _read(volume, len(MARK)) == MARK
        return any(_begins_sealed(volume, name) for name in _names(volume))
    except OSError as error:
        raise RefusedError(subject, f"cannot be read: {_reason(error)}") from error


def _names(directory: int) -> Iterator[str]:
    listing = os.open(f"/proc/self/fd/{directory}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(listing) as entries:
            for count, entry in enumerate(entries):
                if count >= MAX_LOOKED_AT:
                    return
                yield entry.name
    finally:
        os.close(listing)


def _begins_sealed(volume: int, name: str) -> bool:
    try:
        handle = open_in(volume, name, _INSIDE)
    except OSError as error:
        # Gone meanwhile, or a link to nowhere, out of the volume or to itself.
        if error.errno in (errno.ENOENT, errno.EXDEV, errno.ELOOP, errno.ENOTDIR):
            return False
        raise
    try:
        return _read(handle, len(MARK)) == MARK
    finally:
        os.close(handle)


def snapshot(subject: str, volume: int) -> list[Entry]:
    """Return everything in the volume, parents before children, links as they are.

    Raises :class:`RefusedError` if it is larger than a volume of secrets can be, or holds what is
    neither file, directory nor link.
    """
    found: list[Entry] = []
    try:
        _walk(subject, volume, "", found, 0)
    except OSError as error:
        raise RefusedError(subject, f"cannot be read: {_reason(error)}") from error
    return found


def single_file(subject: str, volume: int, name: str) -> File:
    """Return a volume that is one file (``subPath``) as a file ``name``. Raises
    :class:`RefusedError`."""
    try:
        return _file(subject, volume, name, [])
    except OSError as error:
        raise RefusedError(subject, f"cannot be read: {_reason(error)}") from error


def _walk(subject: str, directory: int, prefix: str, found: list[Entry], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise RefusedError(subject, f"has sealed files and is deeper than {MAX_DEPTH} directories")
    for name in sorted(_names(directory)):
        path = f"{prefix}{name}"
        if len(found) >= MAX_ENTRIES:
            raise RefusedError(subject, f"has sealed files and more than {MAX_ENTRIES} names")
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            status = os.fstat(handle)
            if stat.S_ISLNK(status.st_mode):
                found.append(Link(path, os.readlink("", dir_fd=handle)))
            elif stat.S_ISDIR(status.st_mode):
                found.append(Folder(path, Owner.of(status)))
                _walk(subject, handle, f"{path}/", found, depth + 1)
            elif stat.S_ISREG(status.st_mode):
                found.append(_file(subject, handle, path, found))
            else:
                raise RefusedError(subject, f"{path} is neither file, directory nor link")
        finally:
            os.close(handle)


def _file(subject: str, handle: int, path: str, found: list[Entry]) -> File:
    content = _read(handle, MAX_FILE + 1)
    total = sum(len(entry.content) for entry in found if isinstance(entry, File))
    if len(content) > MAX_FILE or total + len(content) > MAX_BYTES:
        raise RefusedError(
            subject, f"{path}: larger than {MAX_FILE} bytes, or {MAX_BYTES} with the others"
        )
    return File(path, Owner.of(os.fstat(handle)), content)


def _reason(error: OSError) -> str:
    return os.strerror(error.errno or errno.EIO)
