"""The boundary of every file system handler: exceptions in, errno out, nothing escapes.

pyfuse3 turns only ``FUSEError`` into a reply. Any other exception would leave the caller hanging
and end the worker that ran it, so each handler passes through :func:`answered`.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Callable, Coroutine
from typing import Any, Final, ParamSpec, TypeVar

import pyfuse3

from ossmount.errors import (
    FileError,
    IntegrityError,
    ObjectChangedError,
    OssMountError,
    OssRefusedError,
    OssTimeoutError,
)
from secrecy.journal import get_logger

log = get_logger("ossmount")
P = ParamSpec("P")
R = TypeVar("R")

#: By error code first, because one status has many meanings.
CODE_ERRNO: Final = {
    "InvalidObjectName": errno.EINVAL,
    "InvalidObjectState": errno.EREMOTE,
    "NoSuchBucket": errno.EIO,
    "NoSuchUpload": errno.EIO,
    "FileAlreadyExists": errno.EEXIST,
    "FileImmutable": errno.EPERM,
    "EntityTooLarge": errno.EFBIG,
    "KeyTooLongError": errno.ENAMETOOLONG,
    "ObjectNotAppendable": errno.ENOTSUP,
}
STATUS_ERRNO: Final = {
    401: errno.EACCES,
    403: errno.EACCES,
    404: errno.ENOENT,
    412: errno.ESTALE,
    501: errno.ENOTSUP,
}


def errno_of(error: BaseException) -> int:
    """Return what the caller of a file system operation is told. EIO where nothing fits."""
    match error:
        case FileError():
            return error.errno
        case OssRefusedError():
            return CODE_ERRNO.get(error.code) or STATUS_ERRNO.get(error.status, errno.EIO)
        case ObjectChangedError():
            return errno.ESTALE
        case OssTimeoutError() | TimeoutError():
            return errno.ETIMEDOUT
        case MemoryError():
            return errno.ENOMEM
        case OSError() if error.errno:
            return error.errno
        case _:
            return errno.EIO


def answered(handler: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Wrap a handler so that it returns or raises ``FUSEError``, and cancellation passes."""

    @functools.wraps(handler)
    async def boundary(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await handler(*args, **kwargs)
        except pyfuse3.FUSEError:
            raise
        except OssMountError as error:
            _report(handler.__name__, error)
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except (OSError, TimeoutError, MemoryError) as error:
            log.error("failed", handler=handler.__name__, error=type(error).__name__)  # noqa: TRY400
            raise pyfuse3.FUSEError(errno_of(error)) from error
        except Exception as error:
            # A defect of ours. Its text may hold anything, so only type and place are logged.
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            place = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "unknown"
            log.error("defect", handler=handler.__name__, error=type(error).__name__, place=place)  # noqa: TRY400
            raise pyfuse3.FUSEError(errno.EIO) from error

    return boundary


def _report(handler: str, error: OssMountError) -> None:
    """Corruption and outages are an operator's business; ENOENT and the like are not."""
    if isinstance(error, IntegrityError):
        log.error("corrupt", handler=handler, error=error)
    elif isinstance(error, FileError):
        log.debug("answered", handler=handler, error=error)
    else:
        log.warning("answered", handler=handler, error=error)
