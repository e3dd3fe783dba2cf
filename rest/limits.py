"""How much a caller may ask at once and per second. Pure: the clock is given.

Nothing waits here: a request is admitted or refused at once, so that nobody's queue is in front
of somebody else's request.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rest.errors import OverLimitError
from rest.sections import LimitsConfig

MAX_HELD: Final = 64 * 1024 * 1024  # bytes of answers that one caller has not taken yet
MAX_CALLERS: Final = 1024  # of whom something is remembered; a guest has far fewer containers


class TokenBucket:
    """``burst`` at once, ``rate`` per second."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._tokens, self._at = burst, now

    def take(self, now: float) -> float:
        """Take one and return 0, or return the seconds until there will be one."""
        self._refill(now)
        if self._tokens >= 1:
            self._tokens -= 1
            return 0.0
        return (1 - self._tokens) / self._rate

    def is_full(self, now: float) -> bool:
        self._refill(now)
        return self._tokens >= self._burst

    def _refill(self, now: float) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(now, self._at)


@dataclass(slots=True)
class _Usage:
    bucket: TokenBucket
    running: int = 0
    held: int = 0


class Admission:
    """Requests of one listener, by caller."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._running = 0
        self._callers: dict[Hashable, _Usage] = {}

    @contextmanager
    def request(self, caller: Hashable, now: float) -> Iterator[None]:
        """Hold a place for one request. Raises :class:`OverLimitError` if there is none."""
        usage = self._usage(caller, now)
        wait = usage.bucket.take(now)
        if wait:
            raise OverLimitError("requests per second", max(1, math.ceil(wait)), callers=True)
        if usage.running >= self._limits.requests_per_caller:
            raise OverLimitError("requests of one caller at once", 1, callers=True)
        if self._running >= self._limits.requests:
            raise OverLimitError("requests at once", 1, callers=False)
        usage.running += 1
        self._running += 1
        try:
            yield
        finally:
            usage.running -= 1
            self._running -= 1

    @contextmanager
    def answer(self, caller: Hashable, size: int, now: float) -> Iterator[None]:
        """Hold memory for an answer of ``size`` bytes. Raises :class:`OverLimitError`."""
        usage = self._usage(caller, now)
        if usage.held + size > MAX_HELD:
            raise OverLimitError("bytes of answers that were not taken", 1, callers=True)
        usage.held += size
        try:
            yield
        finally:
            usage.held -= size

    def _usage(self, caller: Hashable, now: float) -> _Usage:
        usage = self._callers.get(caller)
        if usage is None:
            if len(self._callers) >= MAX_CALLERS:
                self._forget(now)
            bucket = TokenBucket(self._limits.requests_per_second, self._limits.burst, now)
            usage = self._callers[caller] = _Usage(bucket)
        return usage

    def _forget(self, now: float) -> None:
        """Drop those of whom nothing needs to be remembered."""
        idle = [c for c, u in self._callers.items() if not u.running and u.bucket.is_full(now)]
        for caller in idle:
            del self._callers[caller]
