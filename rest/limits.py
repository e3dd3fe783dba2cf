"""How much a caller may ask at once and per second. Pure: the clock is given.

Nothing waits here: a request is admitted or refused at once, so that nobody's queue is in front
of somebody else's request.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Self

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


class Place:
    """What one request takes up until the block is left. No generator: each request has one."""

    __slots__ = ("_admission", "_held", "_usage")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._usage: _Usage | None = None
        self._held = 0

    def take(self, caller: Hashable, now: float) -> None:
        """Be one request of ``caller``; once. Raises :class:`OverLimitError`."""
        self._usage = self._admission.take(caller, now)

    def hold(self, size: int) -> None:
        """Hold memory for an answer of ``size`` bytes; after :meth:`take`.

        Raises :class:`OverLimitError`.
        """
        usage = self._usage
        if usage is None:
            raise RuntimeError("an answer without a request")
        if usage.held + size > MAX_HELD:
            raise OverLimitError("bytes of answers that were not taken", 1, callers=True)
        usage.held += size
        self._held += size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._usage is not None:
            self._admission.release(self._usage, self._held)


class Admission:
    """Requests of one listener, by caller."""

    def __init__(self, limits: LimitsConfig) -> None:
        self._limits = limits
        self._running = 0
        self._callers: dict[Hashable, _Usage] = {}

    def place(self) -> Place:
        """Return a place that takes up nothing yet."""
        return Place(self)

    def take(self, caller: Hashable, now: float) -> _Usage:
        """Count one request, until :meth:`release`. Raises :class:`OverLimitError`."""
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
        return usage

    def release(self, usage: _Usage, held: int) -> None:
        """Count a request no more, nor the ``held`` bytes of its answer."""
        usage.running -= 1
        usage.held -= held
        self._running -= 1

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
