"""Errors of the local OSS server: what a client is told, and what its operator is told.

Status and code pairs follow the public OSS error reference. An ``EC`` value is sent only where the
reference names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mocktee.errors import MockTeeError

STATUS_OF: Final[Mapping[str, int]] = {
    "AccessDenied": 403,
    "BadRequest": 400,
    "EntityTooLarge": 400,
    "EntityTooSmall": 400,
    "FileAlreadyExists": 409,
    "InternalError": 500,
    "InvalidAccessKeyId": 403,
    "InvalidArgument": 400,
    "InvalidBucketName": 400,
    "InvalidDigest": 400,
    "InvalidObjectName": 400,
    "InvalidObjectState": 403,
    "InvalidPart": 400,
    "InvalidPartOrder": 400,
    "InvalidRange": 416,
    "InvalidSecurityToken": 403,
    "MalformedXML": 400,
    "MetadataTooLarge": 400,
    "MethodNotAllowed": 405,
    "MissingContentLength": 411,
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "NotImplemented": 501,
    "NotSymlink": 400,
    "ObjectNotAppendable": 409,
    "PositionNotEqualToLength": 409,
    "PreconditionFailed": 412,
    "RequestTimeTooSkewed": 403,
    "RequestTimeout": 400,
    "SecurityTokenExpired": 403,
    "ServiceUnavailable": 503,
    "SignatureDoesNotMatch": 403,
    "SymlinkTargetNotExist": 404,
}

CLASS_OF: Final[Mapping[str, str]] = {
    "EntityTooSmall": "0042-00000213",
    "FileAlreadyExists": "0042-00000214",
    "RequestTimeTooSkewed": "0002-00000504",
}


class MockOssError(MockTeeError):
    """Base of everything this package raises on purpose."""


class OssProcessError(MockOssError):
    """The server's process did not start, died, or refused a control request."""

    def __init__(self, attempted: str, got: str) -> None:
        self.attempted = attempted
        self.got = got
        super().__init__(f"{attempted}: {got[:500]}")


class OssAnswerError(MockOssError):
    """A request that is answered with an error document.

    ``fields`` are further elements of the document, such as ``StringToSign`` or ``Key``;
    ``headers`` go on the answer as they are.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        error_class: str | None = None,
        fields: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.code = code
        self.message = message
        self.status = STATUS_OF[code] if status is None else status
        self.error_class = CLASS_OF.get(code) if error_class is None else error_class
        self.fields = dict(fields or {})
        self.headers = dict(headers or {})
        super().__init__(f"{self.status} {code}: {message}")


class MockOssSettingsError(MockOssError):
    """The state directory, a bucket name or a fault description given to the server is unusable."""

    def __init__(self, subject: str, problem: str, *, hint: str = "") -> None:
        self.subject = subject
        self.problem = problem
        self.hint = hint
        super().__init__(f"{subject}: {problem}" + (f" ({hint})" if hint else ""))
