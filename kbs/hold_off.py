"""How long a KBS is left alone after a handshake with it has failed: the circuit breaker.

A handshake costs a quote, a second on a stock kernel, and work at the KBS. Callers who keep asking
while the KBS refuses or is away get the first cause at once instead, until the hold is over; the
next caller then tries again. Owns counting and times; :class:`kbs.session.SessionKeeper` asks it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kbs.errors import HandshakeHeldError, KbsError, KbsRefusedError
from kbs.retry import is_transient

# A Retry-After longer than this is not believed: it would be a cheap way to switch a guest off.
LONGEST_RETRY_AFTER: Final = 300.0


@dataclass(frozen=True, slots=True)
class HoldOffPolicy:
    """Seconds. The n-th failure in a row holds ``first_seconds`` * 2^(n-1), at most
    ``cap_seconds``, each +-50 % so that guests that failed together do not come back together.
    """

    first_seconds: float = 2.0
    cap_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class _Cause:
    problem: str
    attempted: str
    hint: str
    decided: bool
    transient: bool


class HoldOff:
    """Closed while all is well; open, that is refusing, for a while after each failure."""

    def __init__(
        self,
        policy: HoldOffPolicy | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        """``clock`` gives seconds and never jumps."""
        self._policy = policy if policy is not None else HoldOffPolicy()
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._failures = 0
        self._last_failure_at = 0.0
        self._until: float | None = None
        self._first: _Cause | None = None
        self._last: _Cause | None = None

    @property
    def remaining(self) -> float:
        """Seconds until a handshake may be tried again; 0 for now."""
        return 0.0 if self._until is None else max(self._until - self._clock(), 0.0)

    def require_open_way(self) -> None:
        """Raise :class:`~kbs.errors.HandshakeHeldError` with the first cause during a hold."""
        remaining, first, last = self.remaining, self._first, self._last
        if remaining <= 0 or first is None or last is None:
            return
        raise HandshakeHeldError(
            remaining,
            self._failures,
            first.problem,
            last.problem,
            decided=last.decided,
            transient=last.transient,
            attempted=last.attempted,
            hint=last.hint,
        )

    def failed(self, error: Exception) -> None:
        """Begin a hold, longer than the one before. Keeps no reference to ``error``."""
        now = self._clock()
        if self._first is None or now - self._last_failure_at > 4 * self._policy.cap_seconds:
            self.succeeded()  # what is long ago does not count
        self._failures += 1
        self._last_failure_at = now
        self._last = _cause_of(error)
        self._first = self._first if self._first is not None else self._last
        exponent = min(self._failures - 1, 30)
        pause = min(self._policy.first_seconds * 2**exponent, self._policy.cap_seconds)
        pause *= self._rng.uniform(0.5, 1.5)
        if isinstance(error, KbsRefusedError) and error.retry_after is not None:
            pause = max(pause, min(error.retry_after, LONGEST_RETRY_AFTER))
        self._until = now + pause

    def succeeded(self) -> None:
        """Forget all failures."""
        self._failures = 0
        self._until = self._first = self._last = None

    def release(self, *, also_refusals: bool) -> None:
        """End the hold, because something changed; failures still count.

        A change of the network does not change the mind of a KBS: ``also_refusals`` is for
        somebody who asks on purpose.
        """
        if self._last is not None and (also_refusals or self._last.transient):
            self._until = None


def _cause_of(error: Exception) -> _Cause:
    if isinstance(error, KbsError):
        return _Cause(
            error.problem, error.attempted, error.hint, error.decided, is_transient(error)
        )
    return _Cause(str(error) or type(error).__name__, "", "", decided=False, transient=False)
