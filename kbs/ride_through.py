"""Secrets that were released before, given out again while their key broker is away.

Off unless a time is configured: within it a secret is still served that the KBS might have
withdrawn. Contents are kept in memory only, overwritten when their time is over, and forgotten at
once when the KBS says no. Whoever was never given a secret gets none this way.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from kbs.resource_uri import ResourceUri
from kbs.secret_cache import SecretCache
from kbs.several import ResourceGetter, is_absent, is_refused
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("kbs")


@dataclass(frozen=True, slots=True)
class RideThroughStatus:
    """``since`` is unix seconds, None while the KBS answers; ``last_error`` empty then.

    ``oldest_seconds`` is how long ago the source last gave the secret that is kept the longest.
    """

    kept: int
    served: int
    since: float | None
    last_error: str
    oldest_seconds: float


class RideThrough:
    """A source of resources that remembers what it gave, for ``seconds`` from the last time."""

    def __init__(
        self,
        inner: ResourceGetter,
        seconds: float,
        *,
        absent: Callable[[Exception], bool] = is_absent,
        refused: Callable[[Exception], bool] = is_refused,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """With ``seconds`` 0 nothing is kept, and only the status is.

        ``absent`` tells the errors of a KBS that could not be asked, ``refused`` those of one
        that said no; ``clock`` is unix time.
        """
        self._inner = inner
        self._kept = SecretCache(seconds)
        self._absent = absent
        self._refused = refused
        self._clock = clock
        self._served = 0
        self._since: float | None = None
        self._last_error = ""

    @property
    def status(self) -> RideThroughStatus:
        """How many secrets are kept, how often kept ones were given out, and since when."""
        return RideThroughStatus(
            len(self._kept),
            self._served,
            self._since,
            self._last_error,
            self._kept.oldest_seconds,
        )

    async def get(self, uri: ResourceUri) -> Secret:
        """Return the resource, or what it was if the KBS is away. Raises as the source does."""
        try:
            content = await self._inner.get(uri)
        except Exception as error:
            kept = self._instead(uri, error)
            if kept is None:
                raise
            return kept
        self._kept.put(uri, content)
        if self._since is not None:
            log.warning("key broker is back", away_seconds=round(self._clock() - self._since))
        self._since, self._last_error = None, ""
        return content

    def close(self) -> None:
        """Overwrite everything that is kept."""
        self._kept.clear()

    def _instead(self, uri: ResourceUri, error: Exception) -> Secret | None:
        if self._refused(error):
            self._kept.discard(uri)  # withdrawn, missing or refused: that was an answer
        if not self._absent(error):
            return None
        if self._since is None:
            self._since = self._clock()
        self._last_error = str(error)
        content = self._kept.get(uri)
        if content is not None:
            self._served += 1
            log.warning("kept secret served, key broker away", uri=str(uri), cause=str(error))
        return content
