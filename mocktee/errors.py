"""What can go wrong in the mock TEE itself, as opposed to the faults it is told to play."""

from __future__ import annotations

import os


class MockTeeError(Exception):
    """Base of all errors of the mock TEE."""


class RealTeeError(MockTeeError):
    """Starting here could shadow, or be mistaken for, a real TEE."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(
            f"the mock TEE refuses to start: {path}: {reason}; "
            "run it on a machine without a TEE and mount it on an ordinary directory"
        )


class PkiStateError(MockTeeError):
    """A saved mock PKI is missing, incomplete or unreadable."""

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"load the mock PKI from {path}: {reason}; make one with MockPki.save")


class MountPointError(MockTeeError):
    """The mock file system cannot go where it was told to."""

    def __init__(self, path: str, reason: str, *, hint: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"mount the mock TSM on {path}: {reason}; {hint}")


class FaultSpecError(MockTeeError):
    """A control request names a fault, register or value that does not exist."""

    def __init__(self, field: str, reason: str) -> None:
        self.field = field
        self.reason = reason
        super().__init__(f"control request, {field}: {reason}")


class SyscallError(MockTeeError):
    """The errno that a system call on the mock file system is answered with."""

    def __init__(self, errno: int) -> None:
        self.errno = errno
        super().__init__(f"answered with {os.strerror(errno)}")


class TsmProcessError(MockTeeError):
    """The TSM process did not start, died, or refused a control request."""

    def __init__(self, attempted: str, reason: str, *, stderr: str = "") -> None:
        self.attempted = attempted
        self.reason = reason
        self.stderr = stderr
        tail = f"; its last words: {stderr}" if stderr else ""
        super().__init__(f"{attempted}: {reason}{tail}")


class HarnessError(MockTeeError):
    """The harness could not start, lost a process, or could not clean up."""

    def __init__(self, attempted: str, got: str, *, hint: str = "") -> None:
        self.attempted = attempted
        self.got = got
        self.hint = hint
        super().__init__(f"{attempted}: {got}" + (f"; {hint}" if hint else ""))
