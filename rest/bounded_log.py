"""A log that callers cannot fill: the first of many lines, then one per second, others counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from rest.limits import TokenBucket
from secrecy.journal import get_logger

log = get_logger("rest")

AT_ONCE: Final = 20
PER_SECOND: Final = 1.0


class BoundedLog:
    """Warnings about what callers do. Each caller that is noisy takes from the same allowance."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """``clock`` gives seconds."""
        self._clock = clock
        self._bucket = TokenBucket(PER_SECOND, AT_ONCE, clock())
        self._not_shown = 0

    def warning(self, event: str, **values: str) -> None:
        """Log, or count what is not logged; the next line says how many there were."""
        if self._bucket.take(self._clock()):
            self._not_shown += 1
            return
        if self._not_shown:
            log.warning(event, **values, not_shown=self._not_shown)
        else:
            log.warning(event, **values)
        self._not_shown = 0
