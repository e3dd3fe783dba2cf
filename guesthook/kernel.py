"""System calls that Python has no names for: mounts by descriptor, look-ups that cannot escape.

Numbers from 424 on are the same on every architecture. Every function raises ``OSError``.
Sources: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2), openat2(2), setns(2),
mount_setattr(2); Linux 5.12 or newer.
"""

from __future__ import annotations

import ctypes
import os
import struct
from contextlib import suppress
from typing import Final

CLONE_NEWNS: Final = 0x00020000

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8

_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_OPENAT2, _MOUNT_SETATTR = 437, 442
_AT_EMPTY_PATH: Final = 0x1000
_OPEN_TREE_CLONE: Final = 0x1
_MOVE_MOUNT_BOTH_EMPTY: Final = 0x4 | 0x40  # source and target are the descriptors themselves
_FSOPEN_CLOEXEC: Final = 0x1
_FSMOUNT_CLOEXEC: Final = 0x1
_SET_FLAG, _SET_STRING, _CMD_CREATE = 0, 1, 6
_MS_PRIVATE: Final = 1 << 18
_MS_REC: Final = 1 << 14

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), what)
    return result


def _call(
    what: str, number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None
) -> int:
    values = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    return _check(_libc.syscall(ctypes.c_long(number), *values), what)


def open_in(directory: int, path: str, resolve: int, flags: int = os.O_PATH) -> int:
    """Open ``path`` below ``directory`` under ``RESOLVE_*`` rules. Close-on-exec always."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    buffer = ctypes.create_string_buffer(how, len(how))
    return _call(path, _OPENAT2, directory, os.fsencode(path), buffer, len(how))


def clone_mount(directory: int) -> int:
    """Return a detached, private copy of the mount that the descriptor is the root of."""
    tree = _call("open_tree", _OPEN_TREE, directory, b"",
                 _AT_EMPTY_PATH | _OPEN_TREE_CLONE | os.O_CLOEXEC)  # fmt: skip
    try:
        attributes = struct.pack("=QQQQ", 0, 0, _MS_PRIVATE, 0)
        buffer = ctypes.create_string_buffer(attributes, len(attributes))
        _call("mount_setattr", _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, buffer, len(attributes))
    except BaseException:  # closed and passed on
        os.close(tree)
        raise
    return tree


def new_tmpfs(max_bytes: int) -> int:
    """Return the root of a tmpfs that is mounted nowhere: only this descriptor leads to it.

    Not swappable where the kernel can promise that (6.4). nosuid, nodev, noexec.
    """
    context = _call("fsopen", _FSOPEN, b"tmpfs", _FSOPEN_CLOEXEC)
    try:
        for key, value in ((b"size", b"%d" % max_bytes), (b"mode", b"0755")):
            _call("fsconfig", _FSCONFIG, context, _SET_STRING, key, value, 0)
        with suppress(OSError):  # an older kernel; the images we know have no swap at all
            _call("fsconfig", _FSCONFIG, context, _SET_FLAG, b"noswap", None, 0)
        _call("fsconfig", _FSCONFIG, context, _CMD_CREATE, None, None, 0)
        return _call("fsmount", _FSMOUNT, context, _FSMOUNT_CLOEXEC,
                     MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC)  # fmt: skip
    finally:
        os.close(context)


def make_read_only(mount: int) -> None:
    """Nothing can be written through this mount from now on."""
    attributes = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    _call("mount_setattr", _MOUNT_SETATTR, mount, b"", _AT_EMPTY_PATH, buffer, len(attributes))


def attach_mount(tree: int, target: int) -> None:
    """Mount a detached tree on the directory ``target``, which lies in our mount namespace."""
    _call("move_mount", _MOVE_MOUNT, tree, b"", target, b"", _MOVE_MOUNT_BOTH_EMPTY)


def leave_mount_namespace() -> None:
    """Give this process a mount namespace of its own, of which nobody else sees a change."""
    _check(_libc.unshare(ctypes.c_int(CLONE_NEWNS)), "unshare")
    flags = ctypes.c_ulong(_MS_REC | _MS_PRIVATE)
    _check(_libc.mount(b"none", b"/", None, flags, None), "mount")


def enter_mount_namespace(namespace: int) -> None:
    """Move this process, which must have one thread, into another mount namespace."""
    _check(_libc.setns(ctypes.c_int(namespace), ctypes.c_int(CLONE_NEWNS)), "setns")
