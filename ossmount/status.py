"""Status lines to the parent: one JSON object a line, on the inherited status pipe."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import msgspec

from ossmount.errors import (
    LaunchError,
    MountPointError,
    OssError,
    OssMountError,
    OssRefusedError,
    OssTlsError,
)

Kind = Literal["credentials", "bucket", "endpoint", "tls", "mount", "launch", "internal"]
MAX_TEXT = 500  # characters of a message

CREDENTIAL_CODES = frozenset(
    {
        "AccessDenied",
        "InvalidAccessKeyId",
        "InvalidArgument",  # of a LIST: the scope of the signature, so region or version
        "InvalidSecurityToken",
        "RequestTimeTooSkewed",
        "SecurityTokenExpired",
        "SignatureDoesNotMatch",
        "UserDisable",
    }
)
HINTS = {
    "AccessDenied": "the key has no right to list this bucket, or the endpoint is another region's",
    "InvalidAccessKeyId": "check the access key id",
    "InvalidArgument": "check the region and the signature version",
    "RequestTimeTooSkewed": "the guest's clock is off by more than 15 minutes",
    "SecurityTokenExpired": "the temporary credentials have expired",
    "SignatureDoesNotMatch": "check the access key secret, the region and the signature version",
    "NoSuchBucket": "check the bucket's name and region",
    "SecondLevelDomainForbidden": "this endpoint does not take path style",
}


def kind_of(error: BaseException) -> Kind:
    """Return what to call a failure to start."""
    match error:
        case LaunchError():
            return "launch"
        case MountPointError():
            return "mount"
        case OssTlsError():
            return "tls"
        case OssRefusedError(code=code, status=status):
            if code in CREDENTIAL_CODES or status == 401:
                return "credentials"
            return "bucket" if code in {"NoSuchBucket", "InvalidBucketName"} else "endpoint"
        case OssError():
            return "endpoint"
        case _:
            return "internal"


def hint_of(error: OssMountError) -> str:
    """Return what an operator can do about a failure to start."""
    if error.hint or not isinstance(error, OssRefusedError):
        return error.hint
    return HINTS.get(error.code, "check the endpoint")


class StatusPipe:
    """The writing end. A parent that no longer reads is no reason to fail."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def ready(self) -> None:
        """The mount answers."""
        self._write({"event": "ready"})

    def failed(self, error: BaseException) -> None:
        """The process is about to exit with status 1. Unknown errors show only their type."""
        ours = isinstance(error, OssMountError)
        self._write(
            {
                "event": "failed",
                "kind": kind_of(error),
                "message": (str(error) if ours else type(error).__name__)[:MAX_TEXT],
                "hint": hint_of(error)[:MAX_TEXT] if isinstance(error, OssMountError) else "",
            }
        )

    def stopped(self) -> None:
        """The mount is gone, in good order."""
        self._write({"event": "stopped"})

    def _write(self, event: dict[str, str]) -> None:
        # A pipe takes up to PIPE_BUF bytes at once, and these lines are shorter.
        with contextlib.suppress(OSError):
            os.write(self._fd, msgspec.json.encode(event) + b"\n")
