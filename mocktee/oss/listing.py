"""One page of a bucket listing, computed from the sorted keys. No XML, no HTTP.

Order is by UTF-8 bytes, which for valid text is the order of code points, so ordinary string
comparison serves. Keys and common prefixes share the page limit.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

_LAST: Final = "\U0010ffff"


@dataclass(slots=True)
class Page:
    """``next_marker`` is the last entry given, key or common prefix, when more follow."""

    keys: list[str] = field(default_factory=list)
    prefixes: list[str] = field(default_factory=list)
    next_marker: str = ""

    @property
    def truncated(self) -> bool:
        return bool(self.next_marker)

    def __len__(self) -> int:
        return len(self.keys) + len(self.prefixes)


def list_page(
    ordered: Sequence[str], *, prefix: str, delimiter: str, after: str, limit: int
) -> Page:
    """Up to ``limit`` entries strictly behind ``after``.

    A common prefix equal to ``after`` was given on the page before and is passed over whole. With
    an ``after`` deeper inside a group the group is given again while keys of it remain.
    """
    page = Page()
    last = ""
    at = max(bisect_right(ordered, after) if after else 0, bisect_left(ordered, prefix))
    while at < len(ordered) and ordered[at].startswith(prefix):
        key = ordered[at]
        group = _group(key, prefix, delimiter)
        if group is not None and group == after:
            at = end_of_prefix(ordered, group, at)
            continue
        if len(page) == limit:
            page.next_marker = last
            break
        if group is None:
            page.keys.append(key)
            last, at = key, at + 1
        else:
            page.prefixes.append(group)
            last, at = group, end_of_prefix(ordered, group, at)
    return page


def end_of_prefix(ordered: Sequence[str], prefix: str, start: int = 0) -> int:
    """Index of the first key behind all those that begin with ``prefix``."""
    if not prefix:
        return len(ordered)
    final = prefix[-1]
    if final == _LAST:
        at = start
        while at < len(ordered) and ordered[at].startswith(prefix):
            at += 1
        return at
    return bisect_left(ordered, prefix[:-1] + chr(ord(final) + 1), start)


def _group(key: str, prefix: str, delimiter: str) -> str | None:
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]
