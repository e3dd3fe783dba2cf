"""Secrets kept in memory for a short time, and overwritten when it is over."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from kbs.resource_uri import ResourceUri
from secrecy import Secret

MAX_ENTRIES: Final = 256
MAX_BYTES: Final = 8 * 1024 * 1024  # two resources of the largest size


@dataclass(slots=True)
class _Entry:
    content: Secret
    put_at: float  # loop time
    timer: asyncio.TimerHandle


class SecretCache:
    """At most ``max_entries`` and ``max_bytes``, the oldest going first; each for ``seconds``.

    Off with ``seconds`` 0. Holds copies and gives copies, so that wiping either leaves the other.
    """

    def __init__(
        self, seconds: float, *, max_entries: int = MAX_ENTRIES, max_bytes: int = MAX_BYTES
    ) -> None:
        if seconds < 0:
            raise ValueError("a cache time is not negative")
        self._seconds = seconds
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[ResourceUri, _Entry] = OrderedDict()
        self._bytes = 0

    def get(self, uri: ResourceUri) -> Secret | None:
        """Return a copy of the content, if it is held."""
        entry = self._entries.get(uri)
        return None if entry is None else Secret(entry.content.reveal())

    def put(self, uri: ResourceUri, content: Secret) -> None:
        """Hold a copy of ``content``. Call it inside the running loop, whose timer ends it."""
        if self._seconds == 0 or len(content) > self._max_bytes:
            return
        self.discard(uri)
        loop = asyncio.get_running_loop()
        timer = loop.call_later(self._seconds, self.discard, uri)
        self._entries[uri] = _Entry(Secret(content.reveal()), loop.time(), timer)
        self._bytes += len(content)
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            self.discard(next(iter(self._entries)))

    @property
    def oldest_seconds(self) -> float:
        """How long the oldest content is held, 0 if none is. Call it inside the running loop."""
        oldest = next(iter(self._entries.values()), None)  # a renewed one moves to the end
        return 0.0 if oldest is None else asyncio.get_running_loop().time() - oldest.put_at

    def discard(self, uri: ResourceUri) -> None:
        """Overwrite and forget the content of ``uri``, if it is held."""
        entry = self._entries.pop(uri, None)
        if entry is not None:
            entry.timer.cancel()
            self._bytes -= len(entry.content)
            entry.content.wipe()

    def clear(self) -> None:
        """Overwrite and forget everything."""
        for uri in list(self._entries):
            self.discard(uri)

    def __len__(self) -> int:
        return len(self._entries)
