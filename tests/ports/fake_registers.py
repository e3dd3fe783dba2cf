"""In-memory measurement registers with the faults of a busy module, a crash or a rival."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from tdx.errors import MeasurementBusyError


class Crash(BaseException):
    """The process ends here. Not an Exception, so that no handler carries on."""


@dataclass
class FakeRegisters:
    """Four RTMRs and the registers that are fixed at start."""

    rtmrs: list[bytes] = field(default_factory=lambda: [bytes(48)] * 4)
    fixed: dict[str, bytes] = field(default_factory=dict)
    # Runs around the next extension: raise here to lose it, or its answer.
    before_extend: Callable[[], None] = lambda: None
    after_extend: Callable[[], None] = lambda: None
    ignored: bool = False

    def read_rtmr(self, rtmr: int) -> bytes:
        return self.rtmrs[rtmr]

    def read(self, name: str) -> bytes:
        return self.fixed[name]

    def extend(self, rtmr: int, digest: bytes) -> None:
        assert len(digest) == 48
        self.before_extend()
        if not self.ignored:
            self.rtmrs[rtmr] = hashlib.sha384(self.rtmrs[rtmr] + digest).digest()
        self.after_extend()


def busy() -> None:
    raise MeasurementBusyError("extend", "rtmr", "EBUSY")


def crash() -> None:
    raise Crash
