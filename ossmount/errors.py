"""What can go wrong in a mount process, grouped by whose fault it is.

``LaunchError`` and ``MountPointError``: the parent or the operator. ``OssError`` and below: the
object store or the way to it. ``FileError`` and below: the caller of a file system operation. The
table from these classes to errno lives in :mod:`ossmount.faults`.

Messages never hold object keys or peer text: logs of this process are readable by the host.
"""

from __future__ import annotations

import os


class OssMountError(Exception):
    """Base of all errors of this package. ``hint`` says what an operator can do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message)


class LaunchError(OssMountError):
    """The launch document is malformed, or a descriptor of the launch contract is missing."""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(f"launch document: {problem}", hint=hint)


class MountPointError(OssMountError):
    """The directory to mount on cannot be used."""

    def __init__(self, path: str, problem: str, *, hint: str = "") -> None:
        self.path = path
        super().__init__(f"mount point {path}: {problem}", hint=hint)


class OssError(OssMountError):
    """Base of everything that an OSS request can end in. ``operation`` is its name in the API."""

    def __init__(self, operation: str, problem: str, *, hint: str = "") -> None:
        self.operation = operation
        super().__init__(f"{operation}: {problem}", hint=hint)


class OssUnreachableError(OssError):
    """No connection, or it broke before the answer was complete."""

    def __init__(self, operation: str, host: str, reason: str) -> None:
        self.host = host
        super().__init__(
            operation,
            f"no answer from {host} ({reason})",
            hint="check the endpoint and the guest's network",
        )


class OssTlsError(OssError):
    """The server's certificate or the TLS handshake was refused by us."""

    def __init__(self, operation: str, host: str, reason: str) -> None:
        self.host = host
        super().__init__(
            operation,
            f"TLS with {host} failed ({reason})",
            hint="check the CA given for this mount and that the endpoint's name is right",
        )


class OssTimeoutError(OssError):
    """The deadline of a call passed. ``cause`` of the last attempt is chained."""

    def __init__(self, operation: str, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(operation, f"no result within {seconds:.0f} s")


class OssAnswerError(OssError):
    """The server answered outside the protocol: wrong length, range, header or document."""

    def __init__(self, operation: str, expected: str, got: str) -> None:
        self.expected = expected
        self.got = got
        super().__init__(operation, f"expected {expected}, got {got[:100]}")


class OssRefusedError(OssError):
    """An error answer. ``code`` is the documented error code, or empty when there was none."""

    def __init__(
        self, operation: str, *, status: int, code: str, request_id: str, delay_s: float = 0.0
    ) -> None:
        self.status = status
        self.code = code
        self.request_id = request_id
        self.delay_s = delay_s  # what the server asked for (x-oss-qos-delay-time)
        super().__init__(
            operation,
            f"refused with HTTP {status} {code or 'without a code'} (request {request_id or '-'})",
        )


class ObjectChangedError(OssError):
    """The object is no longer the version that was opened (ETag pinned with If-Match)."""

    def __init__(self, operation: str) -> None:
        super().__init__(operation, "the object changed or vanished since it was opened")


class IntegrityError(OssError):
    """The CRC-64 of the data and the one the server states differ."""

    def __init__(self, operation: str, *, expected: int, got: int) -> None:
        self.expected = expected
        self.got = got
        super().__init__(operation, f"CRC-64 is {got:#018x}, the server states {expected:#018x}")


class FileError(OssMountError):
    """A file system operation that cannot be done as asked; ``errno`` is the answer to it."""

    def __init__(self, code: int, operation: str, problem: str = "") -> None:
        self.errno = code
        self.operation = operation
        super().__init__(f"{operation}: {problem or os.strerror(code)}")


class NameRefusedError(FileError):
    """A file name that has no object key, such as one that is not UTF-8."""


class ScratchExhaustedError(FileError):
    """A change that needs the whole file in memory, and the budget does not hold it."""

    def __init__(self, code: int, operation: str, *, needed: int, allowed: int) -> None:
        self.needed = needed
        self.allowed = allowed
        super().__init__(
            code, operation, f"{needed} bytes are needed in memory, {allowed} are allowed"
        )


class UploadFailedError(FileError):
    """An earlier part of this file's upload failed; its data is lost and the handle is dead."""
