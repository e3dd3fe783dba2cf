"""Passing a mount process's stderr on to our log: line by line, cut, and with a budget.

The process writes structured records of its own; a broken or attacked one must not be able to
flood the console, which the host reads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from cdh.errors import bounded
from secrecy.journal import get_logger

log = get_logger("cdh.mounts")

MAX_LINE: Final = 512  # characters of one line that are kept
MAX_LINES: Final = 200  # in each window
WINDOW_SECONDS: Final = 60.0
CHUNK: Final = 4096


class _Record(msgspec.Struct):
    """A line of :mod:`secrecy.journal`, as far as it is looked at."""

    level: str


class LineBudget:
    """Admits ``MAX_LINES`` lines in each window of ``WINDOW_SECONDS``, and counts the others."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._window_ends = 0.0
        self._left = 0
        self.dropped = 0

    def admit(self) -> bool:
        now = self._clock()
        if now >= self._window_ends:
            self._window_ends = now + WINDOW_SECONDS
            self._left = MAX_LINES
        if self._left == 0:
            self.dropped += 1
            return False
        self._left -= 1
        return True


async def relay_stderr(stream: asyncio.StreamReader, mount_point: str) -> None:
    """Log what arrives on ``stream`` until its end. Memory stays bounded whatever is sent."""
    budget = LineBudget(asyncio.get_running_loop().time)
    pending = b""
    while chunk := await stream.read(CHUNK):
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            _pass_on(line, mount_point, budget)
        # Of an endless line the beginning is kept and the rest dropped.
        pending = pending[: MAX_LINE * 4]
    if pending:
        _pass_on(pending, mount_point, budget)
    if budget.dropped:
        log.warning("mount process said too much", mount_point=mount_point, lines=budget.dropped)


def _pass_on(line: bytes, mount_point: str, budget: LineBudget) -> None:
    text = bounded(line.decode(errors="replace"), MAX_LINE)
    if text.strip() and budget.admit():
        write = log.info if _is_quiet(line) else log.warning
        write("mount process", mount_point=mount_point, text=text)


def _is_quiet(line: bytes) -> bool:
    """Tell whether this is a record of ours below warning; anything else is worth a warning."""
    try:
        return msgspec.json.decode(line, type=_Record).level in ("debug", "info")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
