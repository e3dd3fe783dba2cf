"""The TDX provider: what happens between the first read of ``outblob`` and the quote.

Follows Linux drivers/virt/coco/tdx-guest/tdx-guest.c: 64 bytes of report data or EINVAL, a wait of
about a second on a stock kernel, then the host's answer. Plays the faults that concern quotes.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import secrets
from typing import Final

from mocktee.errors import SyscallError
from mocktee.pki import MockPki
from mocktee.quotes import REPORT_DATA_BYTES, build_quote_v4
from mocktee.td import DEBUG, TdState
from mocktee.tsm.faults import Fault, FaultKind, FaultQueue

OUTBLOB_MAX: Final = 16 << 20  # bytes, since Linux 7.0

REFUSALS: Final = {
    FaultKind.BUSY: errno.EBUSY,
    FaultKind.EINTR: errno.EINTR,
    FaultKind.TIMEDOUT: errno.ETIMEDOUT,
    FaultKind.EIO: errno.EIO,
    FaultKind.OVERSIZED: errno.EFBIG,
}
ALTERATIONS: Final = (
    FaultKind.EMPTY,
    FaultKind.TRUNCATED,
    FaultKind.TRAILING,
    FaultKind.CORRUPT,
    FaultKind.STALE,
    FaultKind.WRONG_REPORT_DATA,
    FaultKind.DEBUG_TD,
)


class TdxProvider:
    """Makes quotes of one TD. The caller keeps requests apart: one at a time."""

    def __init__(self, pki: MockPki, td: TdState, faults: FaultQueue, latency_s: float) -> None:
        self._pki = pki
        self.td = td
        self._faults = faults
        self._latency_s = latency_s
        self._previous: bytes | None = None
        self._stopping = asyncio.Event()
        self.quotes_made = 0

    def stop(self) -> None:
        """Answer waits in progress, and all later ones, with EIO at once."""
        self._stopping.set()
        self._faults.release()

    async def new_quote(self, inblob: bytes) -> bytes:
        """Raises :class:`SyscallError`; cancellation leaves nothing behind."""
        if len(inblob) != REPORT_DATA_BYTES:
            raise SyscallError(errno.EINVAL)
        slow = self._faults.take(FaultKind.SLOW)
        await self._wait(self._latency_s + (slow.seconds if slow else 0.0))
        if self._faults.take(FaultKind.HOLD):
            await self._faults.held()
        if self._stopping.is_set():
            raise SyscallError(errno.EIO)
        fault = self._faults.take(*REFUSALS, *ALTERATIONS)
        if fault and fault.kind in REFUSALS:
            raise SyscallError(REFUSALS[fault.kind])
        quote = self._altered(fault, inblob) if fault else self._sign(inblob)
        self.quotes_made += 1
        self._previous = quote or self._previous
        return quote

    async def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._stopping.wait()

    def _sign(self, report_data: bytes, td: TdState | None = None) -> bytes:
        return build_quote_v4(self._pki, report_data, td or self.td)

    def _altered(self, fault: Fault, report_data: bytes) -> bytes:
        match fault.kind:
            case FaultKind.EMPTY:
                return b""
            case FaultKind.STALE:
                return self._previous or self._sign(secrets.token_bytes(REPORT_DATA_BYTES))
            case FaultKind.WRONG_REPORT_DATA:
                return self._sign(secrets.token_bytes(REPORT_DATA_BYTES))
            case FaultKind.DEBUG_TD:
                debug = dataclasses.replace(self.td, attributes=self.td.attributes | DEBUG)
                return self._sign(report_data, debug)
            case FaultKind.TRUNCATED:
                return self._sign(report_data)[: fault.length]
            case FaultKind.TRAILING:
                return self._sign(report_data) + bytes(fault.length)
            case FaultKind.CORRUPT:
                quote = bytearray(self._sign(report_data))
                quote[fault.offset % len(quote)] ^= 1
                return bytes(quote)
            case _:
                raise AssertionError(fault.kind)
