"""When to ask the KBS again, and how long to wait before.

Exponential back-off with full jitter, inside the caller's deadline. Only failures that a repeat
can mend are repeated: no or a lost connection, a silent or overloaded server. A KBS that says no
is never asked twice here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from kbs.errors import (
    KbsError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsUnreachableError,
    ServiceRefusedError,
)
from secrecy.journal import get_logger

log = get_logger("kbs")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """At most ``attempts`` in all; the n-th pause is up to ``first_seconds`` * 2^n, capped.

    With ``wait_for_network``, attempts that could not leave this guest do not count: only the
    deadline ends them.
    """

    attempts: int = 5
    wait_for_network: bool = True
    first_seconds: float = 0.25
    cap_seconds: float = 8.0


class Retrier:
    """Runs an operation until it works, cannot be helped, or time is up."""

    def __init__(
        self,
        policy: RetryPolicy,
        *,
        clock: Callable[[], float],
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        network_sleep: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        """``clock`` gives seconds on the scale of the deadlines.

        ``network_sleep`` is taken after a failed connection; it may return sooner, when the
        network has changed.
        """
        self._policy = policy
        self._clock = clock
        self._rng = rng if rng is not None else random.SystemRandom()
        self._sleep = sleep
        self._network_sleep = network_sleep if network_sleep is not None else sleep

    async def run(self, operation: Callable[[], Awaitable[T]], deadline: float) -> T:
        """Return what ``operation`` returns, or raise its last error.

        The error then carries the number of attempts and the first cause, which is often the
        telling one. No pause is begun that would end after ``deadline``.
        """
        first: KbsError | None = None
        attempt = spent = 0
        while True:
            attempt += 1
            try:
                return await operation()
            except KbsError as error:
                first = first if first is not None else error
                pause = self._pause(attempt, error)
                late = self._clock() + pause >= deadline
                spent += not (self._policy.wait_for_network and _stayed_here(error))
                if not is_transient(error) or spent >= self._policy.attempts or late:
                    error.after(attempt, first)
                    raise
                log.info("retrying", problem=error.problem, attempt=attempt, pause=pause)
                sleep = (
                    self._network_sleep if isinstance(error, KbsUnreachableError) else self._sleep
                )
            await sleep(pause)

    def _pause(self, attempt: int, error: KbsError) -> float:
        ceiling = min(
            self._policy.first_seconds * 2 ** min(attempt - 1, 30), self._policy.cap_seconds
        )
        pause = self._rng.uniform(0, ceiling)
        if isinstance(error, KbsRefusedError) and error.retry_after is not None:
            return max(pause, error.retry_after)
        return pause


def _stayed_here(error: KbsError) -> bool:
    return isinstance(error, KbsUnreachableError) and error.no_network


def is_transient(error: KbsError) -> bool:
    """Tell whether asking again may help."""
    if isinstance(error, KbsRefusedError):
        # Not the other subclasses: with a problem type that we know, the KBS has decided.
        undecided = type(error) in {KbsRefusedError, ServiceRefusedError}
        return undecided and (error.status >= 500 or error.status == 429)
    return isinstance(error, KbsUnreachableError | KbsTimeoutError)
