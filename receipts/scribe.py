"""Writes a chain into a store: what is next, where a file ends, what is dropped, what is lost.

Used by one thread, which may wait for the store. Knows nothing of queues.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from receipts.chain import START, Chain, Head, examine_chain, segments_of
from receipts.errors import ReceiptsDamagedError
from receipts.record import Body, Checkpoint, Gap, Genesis, LossCause, Restart, Segment
from receipts.segments import Store
from secrecy.journal import get_logger

log = get_logger("receipts")
BOOT_BYTES: Final = 32
MAX_SEGMENT_BYTES: Final = 1 << 20  # a file ends when it is larger, however few receipts it has
PART: Final = 64  # receipts that are written before its size is looked at again


class Scribe:
    """The only writer of a chain. ``boot`` names it; ``head`` is of what is surely written."""

    def __init__(
        self,
        store: Store,
        *,
        segment_receipts: int,
        segments: int,
        clock: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        """``segment_receipts`` fill a file, ``segments`` files are kept. ``clock`` is unix time."""
        self._store = store
        self._segment_receipts = segment_receipts
        self._segments = segments
        self._clock = clock
        self._entropy = entropy
        self._kept: list[tuple[int, int]] = []  # number and first receipt of each file
        self._in_segment = 0
        self._segment_bytes = 0
        self._gaps: dict[LossCause, int] = {}
        self.boot = ""
        self.head = START
        self.checkpoints = 0
        self.dropped = 0
        self.lost = 0

    def open(self, *, required: bool) -> None:
        """Go on with the chain in the store, or begin one.

        A chain that does not hold raises :class:`ReceiptsDamagedError` if ``required``; else it is
        set aside and the new one says so. Raises ``OSError``.
        """
        contents = self._store.load()
        torn = self._cut_torn(contents)
        if not contents:
            self._begin(after_damage=False)
            return
        lines = [line for text in contents.values() for line in text.split(b"\n")[:-1]]
        chain = examine_chain(lines)
        if (problem := _unusable(chain, contents)) is None:
            self._go_on(chain, contents)
            self.write([Restart(torn)])
            return
        if required:
            hint = "somebody changed them; keep them elsewhere, and remove them to start again"
            raise ReceiptsDamagedError("the directory", problem, hint=hint)
        log.error("receipts do not hold, they are set aside", problem=problem)
        self._store.set_aside()
        self._begin(after_damage=True)

    def _go_on(self, chain: Chain, contents: Mapping[int, bytes]) -> None:
        self._kept = list(zip(contents, segments_of(chain.receipts), strict=True))
        newest, first = self._kept[-1]
        self._store.cut(newest, len(contents[newest]))
        self._in_segment = chain.head.sequence + 1 - first
        self._segment_bytes = len(contents[newest])
        checkpoints = [r.body.number for r in chain.receipts if isinstance(r.body, Checkpoint)]
        self.checkpoints = max(checkpoints, default=0)
        self.boot, self.head, self.dropped = chain.boot, chain.head, chain.first

    def _cut_torn(self, contents: dict[int, bytes]) -> int:
        """Take half a receipt from the end, which was never told to anybody as written."""
        if not contents:
            return 0
        newest = max(contents)
        whole = contents[newest].rfind(b"\n") + 1
        torn = len(contents[newest]) - whole
        if torn:
            log.warning("half a receipt is cut off", size=torn)
        if torn or not whole:  # also a file that was made and not written to
            self._store.cut(newest, whole)
        if whole:
            contents[newest] = contents[newest][:whole]
        else:
            del contents[newest]
        return torn

    def _begin(self, *, after_damage: bool) -> None:
        boot = self._entropy(BOOT_BYTES).hex()
        now = self._now()
        head, line = START.following(Genesis(boot, now, after_damage), now)
        self._store.begin(1, line + b"\n")
        self._kept, self._in_segment, self._segment_bytes = [(1, 0)], 1, len(line)
        self.boot, self.head = boot, head

    def lose(self, count: int, cause: LossCause) -> None:
        """Have ``count`` accesses counted in the chain as soon as that can be written."""
        self.lost += count
        self._gaps[cause] = self._gaps.get(cause, 0) + count

    def write(self, bodies: Sequence[Body]) -> None:
        """Append receipts, behind one for what was lost before.

        Raises ``OSError``: accesses that are not written then count as lost.
        """
        gaps = [Gap(count, cause) for cause, count in self._gaps.items()]
        waiting: list[Body] = [*gaps, *bodies]
        written = 0
        try:
            while written < len(waiting):
                room = self._segment_receipts - self._in_segment
                if room <= 0 or self._segment_bytes > MAX_SEGMENT_BYTES:
                    self._turn_file()
                    continue
                part = waiting[written : written + min(room, PART)]
                head, data = self._chained(self.head, part)
                self._store.append(data)
                self.head = head
                self._in_segment += len(part)
                self._segment_bytes += len(data)
                written += len(part)
        except OSError:
            self.lose(len(waiting) - max(written, len(gaps)), "write-failed")
            raise
        finally:
            for gap in gaps[:written]:
                self._gaps[gap.cause] -= gap.lost
            self._gaps = {cause: count for cause, count in self._gaps.items() if count}

    def _turn_file(self) -> None:
        """Begin a further file; drop the oldest once the new one says so."""
        number = self._kept[-1][0] + 1
        kept = [*self._kept, (number, self.head.sequence + 1)]
        gone = kept[: -self._segments]
        retained = kept[len(gone)][1]
        head, data = self._chained(self.head, [Segment(self.boot, number, retained)])
        self._store.begin(number, data)
        self.head, self._kept, self._in_segment = head, kept, 1
        self._segment_bytes = len(data)
        for old, _ in gone:
            self._store.drop(old)
            self._kept.pop(0)
        self.dropped = retained

    def _chained(self, head: Head, bodies: Sequence[Body]) -> tuple[Head, bytes]:
        now = self._now()
        lines = []
        for body in bodies:
            head, line = head.following(body, now)
            lines.append(line)
        return head, b"".join(line + b"\n" for line in lines)

    def _now(self) -> int:
        return max(0, int(self._clock() * 1_000_000))


def _unusable(chain: Chain, contents: Mapping[int, bytes]) -> str | None:
    if not chain.holds:
        return chain.problems[0].text
    if len(segments_of(chain.receipts)) != len(contents):
        return "the files are not those of one chain"
    return None
