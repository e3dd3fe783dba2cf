"""Files in guest memory that no path of the guest leads to, for one container.

A tmpfs is made, filled through its descriptor and set read-only before it is mounted anywhere; only
the container gets to see it, and it is gone with the container's mount namespace.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

from guesthook.errors import DeliveryError
from guesthook.kernel import make_read_only, new_tmpfs
from guesthook.volumes import MAX_BYTES, Entry, File, Folder, Link, Owner
from secrecy import Secret

TMPFS_BYTES: Final = 2 * MAX_BYTES  # contents, which a page each may round up, and directories
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def private_tree(
    subject: str, entries: Sequence[Entry], owner: Owner, plaintext: Callable[[File], Secret]
) -> int:
    """Return a read-only tmpfs with ``entries``, sealed files replaced by their ``plaintext``.

    ``owner`` is that of the root directory. The secrets are wiped. Raises :class:`DeliveryError`.
    """
    try:
        tree = new_tmpfs(TMPFS_BYTES)
        try:
            for entry in entries:
                _add(tree, entry, plaintext)
            # Directories last: one without write permission still had to be filled.
            for entry in reversed(entries):
                if isinstance(entry, Folder):
                    _give(tree, entry.path, entry.owner)
            _give(tree, ".", owner)
            make_read_only(tree)
        except BaseException:  # closed and passed on
            os.close(tree)
            raise
    except OSError as error:
        raise DeliveryError(subject, f"files in memory: {os.strerror(error.errno or 0)}") from error
    return tree


def _add(tree: int, entry: Entry, plaintext: Callable[[File], Secret]) -> None:
    match entry:
        case Folder(path, _):
            os.mkdir(path, 0o700, dir_fd=tree)
        case Link(path, target):
            os.symlink(target, path, dir_fd=tree)
        case File(path, owner, content):
            handle = os.open(path, _NEW, 0o600, dir_fd=tree)
            try:
                os.fchown(handle, owner.uid, owner.gid)
                os.fchmod(handle, owner.mode)
                if entry.is_sealed():
                    secret = plaintext(entry)
                    _write(handle, secret.reveal())
                    secret.wipe()
                else:
                    _write(handle, content)
            finally:
                os.close(handle)


def _write(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]


def _give(tree: int, path: str, owner: Owner) -> None:
    os.chown(path, owner.uid, owner.gid, dir_fd=tree)
    os.chmod(path, owner.mode, dir_fd=tree)
