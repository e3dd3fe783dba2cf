"""Reading a directory: pages of a listing as one sequence of entries with positions.

Only the present page is held, so a directory of a million objects costs no more than one of a
thousand. Where a file ``a`` and keys below ``a/`` coexist the file is shown, as in ossfs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from ossmount.documents import ListedObject, ListPage
from ossmount.names import path_digest, visible_name
from secrecy.journal import get_logger

log = get_logger("ossmount")


class Lister(Protocol):
    """The one call of the bucket that is needed here."""

    async def list_page(
        self, prefix: str, *, delimiter: str = "", token: str | None = None, limit: int = ...
    ) -> ListPage: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """A name in a directory; ``listed`` is ``None`` for a subdirectory."""

    name: str
    listed: ListedObject | None


async def entries(lister: Lister, prefix: str) -> AsyncIterator[Entry]:
    """Yield the visible entries of directory ``prefix`` in key order.

    Raises what the lister raises, during the iteration.
    """
    token: str | None = None
    hidden = 0
    files: list[str] = []  # keys of files that are a beginning of the present key, shortest first
    while True:
        page = await lister.list_page(prefix, delimiter="/", token=token)
        hidden += page.hidden
        both: list[tuple[str, ListedObject | None]] = [(item.key, item) for item in page.objects]
        both += [(key, None) for key in page.prefixes]
        both.sort(key=lambda pair: pair[0].encode())
        for key, listed in both:
            if key == prefix:
                continue  # the directory's own marker object
            while files and not key.startswith(files[-1]):
                files.pop()
            name = visible_name(key, prefix)
            if name is None or (listed is None and key[:-1] in files):
                hidden += 1
                continue
            if listed is not None and key.endswith("/"):
                hidden += 1  # cannot follow from grouping by "/"
                continue
            if listed is not None:
                files.append(key)
            yield Entry(name, listed)
        if page.next_token is None:
            break
        if page.next_token == token:
            break  # a server that does not advance would keep us here for ever
        token = page.next_token
    if hidden:
        log.info("hidden entries", count=hidden, directory=path_digest(prefix))


class DirectoryHandle:
    """An open directory. Positions are ordinals; going back starts the listing again."""

    def __init__(self, lister: Lister, prefix: str) -> None:
        self.seen_pending: set[str] = set()  # names of local files that the listing also had
        self._lister = lister
        self._prefix = prefix
        self.position = 0
        self._stream: AsyncIterator[Entry] | None = None
        self._ahead: list[Entry] = []

    async def seek(self, position: int) -> None:
        """Move to a position that was given out before."""
        if self._stream is not None and position == self.position:
            return
        if position < self.position or self._stream is None:
            self._stream = entries(self._lister, self._prefix)
            self._ahead, self.position = [], 0
            self.seen_pending = set()
        while self.position < position and await self.peek() is not None:
            self.advance()

    async def peek(self) -> Entry | None:
        """Return the entry at the present position, ``None`` at the end."""
        if not self._ahead and self._stream is not None:
            async for entry in self._stream:
                self._ahead.append(entry)
                break
        return self._ahead[0] if self._ahead else None

    def advance(self) -> int:
        """Step past the entry that :meth:`peek` returned; return the new position."""
        self._ahead.pop(0)
        self.position += 1
        return self.position
