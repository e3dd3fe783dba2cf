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

from mocktee.bootlog import BootInputs
from mocktee.errors import SyscallError
from mocktee.pki import MockPki
from mocktee.quotes import REPORT_DATA_BYTES, build_quote_v4
from mocktee.td import DEBUG, TdState
from mocktee.tsm.alterations import (
    CHAINS,
    flipped,
    lying,
    other_version,
    swapped_report_data,
    with_chain,
)
from mocktee.tsm.faults import Fault, FaultKind, FaultQueue
from mocktee.tsm.profile import DEFAULT_PROFILE, KernelProfile

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
    FaultKind.ZEROS,
    FaultKind.VERSION,
    FaultKind.SWAPPED_REPORT_DATA,
    FaultKind.LYING_LENGTH,
    FaultKind.FLIPPED,
    FaultKind.CHAIN,
    FaultKind.OTHER_TD,
)


class TdxProvider:
    """Makes quotes of one TD. The caller keeps requests apart: one at a time."""

    name = "tdx_guest"
    levels = False
    floor = 0

    def __init__(
        self,
        pki: MockPki,
        td: TdState,
        faults: FaultQueue,
        latency_s: float,
        profile: KernelProfile = DEFAULT_PROFILE,
    ) -> None:
        self._pki = pki
        self.td = td
        self._faults = faults
        self._latency_s = latency_s
        self.profile = profile
        self._previous: bytes | None = None
        self._stopping = asyncio.Event()
        self.quotes_made = 0

    def stop(self) -> None:
        """Answer waits in progress, and all later ones, with EIO at once."""
        self._stopping.set()
        self._faults.release()

    async def new_quote(self, inblob: bytes, entry: bytes = b"", level: int = 0) -> bytes:  # noqa: ARG002
        """The quote over ``inblob``; a TD has no levels.

        Raises :class:`SyscallError`; cancellation leaves nothing behind.
        """
        if len(inblob) != REPORT_DATA_BYTES:
            raise SyscallError(errno.EINVAL)
        slow = self._faults.take(FaultKind.SLOW, entry=entry)
        await self._wait(self._latency_s + (slow.seconds if slow else 0.0))
        if self._faults.take(FaultKind.HOLD, entry=entry):
            await self._faults.held()
        if self._stopping.is_set():
            raise SyscallError(errno.EIO)
        fault = self._faults.take(*REFUSALS, *ALTERATIONS, FaultKind.HOST_ERROR, entry=entry)
        if fault and fault.kind in REFUSALS:
            raise SyscallError(REFUSALS[fault.kind])
        if fault and fault.kind is FaultKind.HOST_ERROR and self.profile.host_failure:
            raise SyscallError(self.profile.host_failure)
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
        """What the fault puts in the place of a quote."""
        match fault.kind:
            case FaultKind.EMPTY | FaultKind.HOST_ERROR:
                return b""
            case FaultKind.ZEROS:
                return bytes(fault.length)
            case FaultKind.STALE:
                return self._previous or self._sign(secrets.token_bytes(REPORT_DATA_BYTES))
            case FaultKind.WRONG_REPORT_DATA:
                return self._sign(secrets.token_bytes(REPORT_DATA_BYTES))
            case FaultKind.DEBUG_TD:
                debug = dataclasses.replace(self.td, attributes=self.td.attributes | DEBUG)
                return self._sign(report_data, debug)
            case FaultKind.OTHER_TD:
                inputs = BootInputs(kernel=b"another kernel", firmware=b"another firmware")
                return self._sign(report_data, TdState.booted(inputs=inputs))
            case _:
                return _spoiled(fault, self._sign(report_data))


def _spoiled(fault: Fault, quote: bytes) -> bytes:
    """A good quote after something went wrong with its bytes."""
    match fault.kind:
        case FaultKind.TRUNCATED:
            return quote[: fault.length]
        case FaultKind.TRAILING:
            return quote + bytes(fault.length)
        case FaultKind.CORRUPT:
            offset = fault.offset % len(quote)
            return quote[:offset] + bytes([quote[offset] ^ 1]) + quote[offset + 1 :]
        case FaultKind.VERSION:
            return other_version(quote, fault.version)
        case FaultKind.SWAPPED_REPORT_DATA:
            return swapped_report_data(quote)
        case FaultKind.LYING_LENGTH:
            return lying(quote, fault.field, fault.delta)
        case FaultKind.FLIPPED:
            return flipped(quote, fault.part)
        case FaultKind.CHAIN:
            return with_chain(quote, CHAINS[fault.chain])
        case _:
            raise AssertionError(fault.kind)
