"""Directories of the guest, reached by name without following any symbolic link.

The walk of :mod:`lifecycle.directories` once more, and not called: that package's import takes a
tenth of a second, three times what a hook takes that has nothing to do.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence

from guesthook.errors import BundleError
from guesthook.plan import is_below
from guesthook.spec import MAX_CONFIG

_WALK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def open_beneath(path: str, roots: Sequence[str]) -> int:
    """Return an ``O_PATH`` descriptor of ``path``, which must be below one of ``roots``.

    ``path`` is checked for form already (:func:`guesthook.state.is_plain_path`). Raises
    :class:`BundleError`; one component after the other is opened, links are refused.
    """
    if not is_below(path, roots):
        raise BundleError(path, f"not below {', '.join(roots)}")
    current = os.open("/", _WALK | os.O_DIRECTORY)
    try:
        for part in path.split("/")[1:]:
            child = os.open(part, _WALK, dir_fd=current)
            os.close(current)
            current = child
            if stat.S_ISLNK(os.fstat(child).st_mode):
                raise BundleError(path, f"{part} is a symbolic link")
    except OSError as error:
        os.close(current)
        raise BundleError(path, os.strerror(error.errno or errno.EIO)) from error
    except BundleError:
        os.close(current)
        raise
    return current


def read_config(bundle: str, roots: Sequence[str]) -> bytes:
    """Return the bundle's ``config.json``, or one byte more than may be. Raises
    :class:`BundleError`."""
    subject = f"{bundle}/config.json"
    directory = open_beneath(bundle, roots)
    try:
        file = os.open("config.json", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC,
                       dir_fd=directory)  # fmt: skip
        with os.fdopen(file, "rb") as stream:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                raise BundleError(subject, "not a regular file")
            return stream.read(MAX_CONFIG + 1)
    except OSError as error:
        raise BundleError(subject, os.strerror(error.errno or errno.EIO)) from error
    finally:
        os.close(directory)
