"""One table from errors to errno, one boundary that lets nothing else out, one retry rule."""

from __future__ import annotations

import asyncio
import errno

import pyfuse3
import pytest

from ossmount.errors import (
    FileError,
    IntegrityError,
    ObjectChangedError,
    OssAnswerError,
    OssError,
    OssRefusedError,
    OssTimeoutError,
    OssUnreachableError,
)
from ossmount.faults import answered, errno_of
from ossmount.retry import RetryPolicy


def refused(status: int, code: str = "", delay_s: float = 0.0) -> OssRefusedError:
    return OssRefusedError("Test", status=status, code=code, request_id="", delay_s=delay_s)


TABLE: list[tuple[BaseException, int]] = [
    (refused(400, "InvalidArgument"), errno.EIO),
    (refused(400, "InvalidObjectName"), errno.EINVAL),
    (refused(401), errno.EACCES),
    (refused(403, "AccessDenied"), errno.EACCES),
    (refused(403, "InvalidObjectState"), errno.EREMOTE),
    (refused(404, "NoSuchKey"), errno.ENOENT),
    (refused(404, "NoSuchBucket"), errno.EIO),
    (refused(409, "FileAlreadyExists"), errno.EEXIST),
    (refused(409, "FileImmutable"), errno.EPERM),
    (refused(409, "Other"), errno.EIO),
    (refused(412, "PreconditionFailed"), errno.ESTALE),
    (refused(307), errno.EIO),
    (refused(501, "NotImplemented"), errno.ENOTSUP),
    (refused(503, "ServiceUnavailable"), errno.EIO),
    (refused(400, "EntityTooLarge"), errno.EFBIG),
    (refused(400, "KeyTooLongError"), errno.ENAMETOOLONG),
    (OssTimeoutError("Test", 60), errno.ETIMEDOUT),
    (OssUnreachableError("Test", "host", "reset"), errno.EIO),
    (ObjectChangedError("Test"), errno.ESTALE),
    (IntegrityError("Test", expected=1, got=2), errno.EIO),
    (FileError(errno.EXDEV, "test"), errno.EXDEV),
    (MemoryError(), errno.ENOMEM),
    (ZeroDivisionError(), errno.EIO),
]


@pytest.mark.parametrize(("error", "code"), TABLE, ids=lambda value: str(value)[:50])
async def test_the_boundary(error: BaseException, code: int) -> None:
    assert errno_of(error) == code

    @answered
    async def handler() -> None:
        raise error

    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handler()
    assert caught.value.errno == code


async def test_cancellation_passes() -> None:
    @answered
    async def handler() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await handler()


RETRIES: list[tuple[OssError, bool, float | None]] = [
    (refused(500), True, 0.1),
    (refused(503, "ServiceUnavailable", delay_s=3.0), True, 3.0),
    (refused(503, delay_s=999.0), False, 30.0),
    (refused(500), False, None),
    (refused(403, "AccessDenied"), True, None),
    (refused(400, "RequestTimeout"), True, 0.1),
    (OssUnreachableError("Test", "host", "reset"), True, 0.1),
    (OssUnreachableError("Test", "host", "reset"), False, None),
    (OssAnswerError("Test", "a", "b"), True, 0.1),
    (IntegrityError("Test", expected=1, got=2), True, None),
    (ObjectChangedError("Test"), True, None),
]


@pytest.mark.parametrize(("error", "idempotent", "expected"), RETRIES)
def test_the_first_retry(error: OssError, idempotent: bool, expected: float | None) -> None:
    delay = RetryPolicy().delay(error, 1, idempotent=idempotent, jitter=lambda: 0.5)
    assert delay == expected


def test_attempts_end_and_waits_are_capped() -> None:
    policy = RetryPolicy(attempts=9)
    waits = [
        policy.delay(refused(500), attempt, idempotent=True, jitter=lambda: 1.0)
        for attempt in range(1, 10)
    ]
    assert waits == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, None]
