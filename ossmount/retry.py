"""When to try again and how long to wait first. Pure: clock and randomness are the caller's.

The rules follow Alibaba's second SDK: full jitter over an exponential base, on throttling, server
faults and broken connections; never on an answer that says no.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ossmount.errors import OssAnswerError, OssError, OssRefusedError, OssUnreachableError

RETRIED_STATUS: Final = frozenset({408, 429, 500, 502, 503, 504})
THROTTLED_STATUS: Final = frozenset({429, 503})
RETRIED_CODES: Final = frozenset({"RequestTimeout"})  # HTTP 400: the body arrived too slowly
MAX_SERVER_DELAY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits of the attempts of one call."""

    attempts: int = 4
    base_s: float = 0.2
    cap_s: float = 5.0

    def delay(
        self,
        error: OssError,
        attempt: int,
        *,
        idempotent: bool,
        jitter: Callable[[], float],
    ) -> float | None:
        """Return the seconds to wait after failed ``attempt`` (from 1), ``None`` to give up.

        A call that is not idempotent is repeated only after an answer that proves it was not
        carried out (throttling). ``jitter`` returns a number from 0 up to 1.
        """
        if attempt >= self.attempts or not _worth_repeating(error, idempotent=idempotent):
            return None
        backoff = min(self.cap_s, self.base_s * 2.0 ** (attempt - 1)) * jitter()
        asked = error.delay_s if isinstance(error, OssRefusedError) else 0.0
        return max(backoff, min(asked, MAX_SERVER_DELAY_S))


def _worth_repeating(error: OssError, *, idempotent: bool) -> bool:
    if isinstance(error, OssRefusedError):
        if not idempotent:
            return error.status in THROTTLED_STATUS
        return error.status in RETRIED_STATUS or error.code in RETRIED_CODES
    # A short or misplaced answer may be one broken server behind a balancer.
    return idempotent and isinstance(error, OssUnreachableError | OssAnswerError)
