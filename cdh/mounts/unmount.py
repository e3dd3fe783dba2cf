"""Taking a mount of the hub away by its path, through no symbolic link."""

from __future__ import annotations

import errno
import os

from lifecycle.detaching import detach_below
from lifecycle.directories import open_directory


def detach(mount_point: str) -> bool:
    """Take the topmost mount at ``mount_point`` out of the tree, even if it is busy or dead.

    Returns False if nothing is mounted there. No link on the way is followed. Raises ``OSError``
    otherwise. Blocks: call it in a worker thread. The caller has made sure that the mount is its
    own.
    """
    parent, _, name = mount_point.rstrip("/").rpartition("/")
    try:
        directory = open_directory(parent)
    except FileNotFoundError:
        return False
    try:
        code = detach_below(directory, name)
    finally:
        os.close(directory)
    if code == 0:
        return True
    if code in (errno.EINVAL, errno.ENOENT):  # not a mount point; no such path
        return False
    raise OSError(code, f"umount2: {os.strerror(code)}", mount_point)
