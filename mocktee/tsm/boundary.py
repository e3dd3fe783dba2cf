"""The one place where exceptions of a FUSE handler become an errno.

pyfuse3 answers only ``FUSEError``; anything else would leave the caller hanging and lose a worker.
"""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from pyfuse3 import FUSEError

from mocktee.errors import SyscallError

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("mocktee.tsm")


def answered(
    handler: Callable[P, Coroutine[Any, Any, R]],
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Answer :class:`SyscallError` with its errno, any unexpected exception with EIO."""

    @functools.wraps(handler)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except FUSEError:
            raise
        except SyscallError as error:
            raise FUSEError(error.errno) from error
        except Exception as error:
            log.exception("unexpected failure in %s", handler.__name__)
            raise FUSEError(errno.EIO) from error

    return wrapper
