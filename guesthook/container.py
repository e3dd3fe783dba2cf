"""A container's file tree before its process runs: places in it, and mounts put on them.

The image inside is not ours: a link in it could point anywhere, so every look-up is confined to the
container's root by the kernel. Nothing is mounted in the guest's own tree.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from guesthook.errors import DeliveryError
from guesthook.init_process import InitProcess
from guesthook.kernel import (
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    attach_mount,
    clone_mount,
    enter_mount_namespace,
    leave_mount_namespace,
    open_in,
)

_CONFINED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_STRAIGHT = _CONFINED | RESOLVE_NO_SYMLINKS
NEW_DIRECTORY = 0o755


@dataclass(frozen=True, slots=True)
class Attachment:
    """A detached mount and the place ``path`` in the container it goes on.

    ``tree`` and ``target`` are descriptors of the two. With ``inner`` only that file of the mount
    goes there, and the place is a file.
    """

    subject: str
    path: str
    tree: int
    target: int
    inner: str | None = None


class ContainerTree:
    """The root of one container and its mount namespace, as descriptors."""

    def __init__(self, root: int, namespace: int) -> None:
        self._root = root
        self._namespace = namespace

    @classmethod
    def open(cls, init: InitProcess, root_path: str) -> ContainerTree:
        """Open the tree of ``init``. Raises :class:`DeliveryError` or ``StateError``.

        kata-agent, runc and crun run prestart hooks after they made the container's mounts and
        before they change its root, so its root is found by ``root_path`` in its own namespace.
        """
        try:
            namespace = os.open(f"/proc/{init.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                root = _container_root(init.pid, root_path)
            except BaseException:  # closed and passed on
                os.close(namespace)
                raise
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO)
            raise DeliveryError(f"root of the container {root_path}", reason) from error
        tree = cls(root, namespace)
        init.check_alive()  # so both descriptors are of this process and no later one
        return tree

    def existing(self, subject: str, path: str) -> int:
        """Return the place ``path`` leads to inside the container, links of the image followed.

        For destinations of the runtime's own mounts, which it resolved in the same way. Raises
        :class:`DeliveryError`.
        """
        try:
            return open_in(self._root, path, _CONFINED)
        except OSError as error:
            raise DeliveryError(subject, f"{path}: {os.strerror(error.errno or 0)}") from error

    def empty_directory(self, subject: str, path: str) -> int:
        """Return the directory ``path`` of the container, made if absent (0755).

        Raises :class:`DeliveryError` if a component is a link or no directory, or if the
        directory holds something that a mount would hide.
        """
        try:
            directory = self._make(path)
            try:
                names = os.open(f"/proc/self/fd/{directory}", os.O_RDONLY | os.O_DIRECTORY)
                try:
                    if os.listdir(names):
                        raise DeliveryError(subject, f"{path} in the container is not empty")
                finally:
                    os.close(names)
            except BaseException:  # closed and passed on
                os.close(directory)
                raise
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            if error.errno == errno.ELOOP:
                reason = "a component is a symbolic link"
            raise DeliveryError(subject, f"{path} in the container: {reason}") from error
        return directory

    def _make(self, path: str) -> int:
        walked, current = "", os.dup(self._root)
        try:
            for part in path.split("/")[1:]:
                walked = f"{walked}/{part}"
                try:
                    child = open_in(self._root, walked, _STRAIGHT, os.O_PATH | os.O_DIRECTORY)
                except FileNotFoundError:
                    os.mkdir(part, NEW_DIRECTORY, dir_fd=current)
                    child = open_in(self._root, walked, _STRAIGHT, os.O_PATH | os.O_DIRECTORY)
                os.close(current)
                current = child
        except BaseException:  # closed and passed on
            os.close(current)
            raise
        return current

    def attach(self, attachments: Sequence[Attachment]) -> None:
        """Put the mounts on their places, in the container's mount namespace only.

        A child process enters the namespace, does nothing but mount, and ends; this process stays
        where its own library is. Raises :class:`DeliveryError` with the first that failed, or that
        another one hides.
        """
        for attachment in attachments:
            child = os.fork()
            if child == 0:
                code = errno.EIO
                try:
                    code = _attach_inside(self._namespace, attachment)
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            if code != 0:
                reason = os.strerror(code) if code > 0 else "ended"
                raise DeliveryError(attachment.subject, f"mounting in the container: {reason}")
        for attachment in attachments:
            self._check_visible(attachment)

    def _check_visible(self, attachment: Attachment) -> None:
        expected = os.stat(attachment.inner or ".", dir_fd=attachment.tree)
        seen = None
        with suppress(OSError):  # not even there: hidden as well
            place = open_in(self._root, attachment.path, _CONFINED)
            seen = os.fstat(place)
            os.close(place)
        if seen is None or not os.path.samestat(seen, expected):
            raise DeliveryError(attachment.subject, "another mount of the container hides it")


def _attach_inside(namespace: int, attachment: Attachment) -> int:
    """Runs in a child; returns an errno."""
    try:
        tree = attachment.tree
        if attachment.inner is not None:
            tree = _one_file(tree, attachment.inner)
        enter_mount_namespace(namespace)
        attach_mount(tree, attachment.target)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _one_file(tree: int, name: str) -> int:
    """Return one file of a detached tree as a mount. Linux before 6.15 copies from trees that are
    mounted only, so it is mounted for a moment where nobody but this process can see it."""
    leave_mount_namespace()
    attach_mount(tree, os.open("/proc", os.O_PATH | os.O_DIRECTORY))
    return clone_mount(open_in(tree, name, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS))


def _container_root(pid: int, root_path: str) -> int:
    """Return the container's root, whether or not its init has changed to it already."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not os.path.samestat(os.fstat(root), os.stat("/")):
        return root
    try:
        found = open_in(root, root_path, _STRAIGHT, os.O_PATH | os.O_DIRECTORY)
    finally:
        os.close(root)
    if not stat.S_ISDIR(os.fstat(found).st_mode):
        os.close(found)
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root_path)
    return found
