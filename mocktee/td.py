"""The state of one mock trust domain: identity, attributes and measurement registers.

Owns the register arithmetic. What a register is exposed as is ``mocktee.tsm``'s business, how it
gets into a quote is ``mocktee.quotes``'.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final, Self

from mocktee.bootlog import DIGEST_BYTES, BootInputs, BootLog, boot, extended
from mocktee.platform import Platform

DEBUG: Final = 1 << 0
SEPT_VE_DISABLE: Final = 1 << 28
DEFAULT_XFAM: Final = 0x602E7
RTMR_COUNT: Final = 4
ZERO_REGISTER: Final = bytes(DIGEST_BYTES)


def _named_digest(name: str) -> bytes:
    return hashlib.sha384(name.encode()).digest()


def _registers() -> list[bytes]:
    return [ZERO_REGISTER] * RTMR_COUNT


@dataclass(slots=True)
class TdState:
    """Registers are 48 bytes; ``attributes`` and ``xfam`` are unsigned 64-bit."""

    mrtd: bytes = field(default_factory=lambda: _named_digest("mock TD firmware image"))
    mrconfigid: bytes = ZERO_REGISTER
    mrowner: bytes = ZERO_REGISTER
    mrownerconfig: bytes = ZERO_REGISTER
    mr_seam: bytes = field(default_factory=lambda: _named_digest("mock TDX module"))
    mrsigner_seam: bytes = ZERO_REGISTER
    seam_attributes: int = 0
    attributes: int = SEPT_VE_DISABLE
    xfam: int = DEFAULT_XFAM
    tee_tcb_svn: bytes = field(default_factory=lambda: Platform().tee_tcb_svn)
    rtmrs: list[bytes] = field(default_factory=_registers)
    boot_log: BootLog = field(default_factory=lambda: BootLog(()))

    @classmethod
    def booted(cls, *, mrconfigid: bytes = ZERO_REGISTER, inputs: BootInputs | None = None) -> Self:
        """A TD after boot: RTMR0 to RTMR2 agree with its log, RTMR3 is zero."""
        if len(mrconfigid) != DIGEST_BYTES:
            raise ValueError(f"MRCONFIGID of {len(mrconfigid)} bytes, expected {DIGEST_BYTES}")
        log = boot(inputs)
        return cls(mrconfigid=mrconfigid, rtmrs=list(log.replay()), boot_log=log)

    def extend(self, index: int, digest: bytes) -> None:
        """Extend RTMR ``index`` by a 48-byte digest; ``ValueError`` for another length."""
        self.rtmrs[index] = extended(self.rtmrs[index], digest)

    def registers(self) -> dict[str, bytes]:
        """All measurement registers by name, RTMRs as ``rtmr0`` to ``rtmr3``."""
        fixed = {
            "mrtd": self.mrtd,
            "mrconfigid": self.mrconfigid,
            "mrowner": self.mrowner,
            "mrownerconfig": self.mrownerconfig,
        }
        return fixed | {f"rtmr{index}": value for index, value in enumerate(self.rtmrs)}

    def tamper(self, register: str, value: bytes) -> None:
        """Set a register behind the log's back, as no guest could.

        Raises ``KeyError`` for an unknown name and ``ValueError`` for another length than 48.
        """
        if register not in self.registers():
            raise KeyError(register)
        if len(value) != DIGEST_BYTES:
            raise ValueError(f"register value of {len(value)} bytes, expected {DIGEST_BYTES}")
        if register.startswith("rtmr"):
            self.rtmrs[int(register[-1])] = value
        else:
            setattr(self, register, value)
