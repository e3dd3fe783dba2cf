"""The chain: how receipts follow each other, and how to tell that they do. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from receipts.errors import ReceiptsFormatError
from receipts.record import (
    DIGEST_HEX,
    Body,
    Checkpoint,
    Gap,
    Genesis,
    Receipt,
    Segment,
    decode,
    digest_of,
    encode,
)

MAX_PROBLEMS: Final = 32  # more say nothing new


@dataclass(frozen=True, slots=True)
class Head:
    """The last receipt of a chain, by number and digest: it stands for all before it."""

    sequence: int
    digest: str

    def following(self, body: Body, time_us: int) -> tuple[Head, bytes]:
        """Return the receipt that follows, as bytes without line feed, and the head it makes."""
        line = encode(Receipt(self.sequence + 1, self.digest, time_us, body))
        return Head(self.sequence + 1, digest_of(line)), line


START: Final = Head(-1, "0" * DIGEST_HEX)  # before any receipt


class Problem(StrEnum):
    """What is wrong with a chain."""

    FORM = "form"  # a line is no receipt in canonical form
    EDITED = "edited"  # a receipt does not name the one before it
    GAP = "gap"
    DUPLICATE = "duplicate"
    ORDER = "order"
    BEGINNING = "beginning"  # the first receipts are missing, and the guest did not drop them
    TRUNCATED = "truncated"  # the last receipts are missing
    HEAD = "head"  # another chain than the head is of
    CLAIM = "claim"  # a receipt says of the chain what is not so
    CHECKPOINT = "checkpoint"  # not what was measured


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """``line`` counts from 1; 0 is the chain as a whole."""

    problem: Problem
    line: int
    text: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What was found. ``digests`` goes by sequence number. It holds if there are no problems."""

    receipts: tuple[Receipt, ...]
    digests: dict[int, str]
    problems: tuple[ChainProblem, ...]
    head: Head
    boot: str
    lost: int  # accesses without receipt, by the guest's own account

    @property
    def first(self) -> int:
        """The number of the first receipt that is there."""
        return self.receipts[0].sequence if self.receipts else 0

    @property
    def holds(self) -> bool:
        return not self.problems


@dataclass(slots=True)
class _Examination:
    receipts: list[Receipt] = field(default_factory=list)
    digests: dict[int, str] = field(default_factory=dict)
    problems: list[ChainProblem] = field(default_factory=list)
    head: Head = START
    boot: str = ""
    lost: int = 0
    retained_from: int = 0
    segment: int = 1

    def report(self, problem: Problem, line: int, text: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(ChainProblem(problem, line, text))

    def take(self, number: int, line: bytes) -> None:
        try:
            receipt = decode(line)
        except ReceiptsFormatError as error:
            self.report(Problem.FORM, number, error.problem)
            return
        if self.receipts:
            self._check_place(number, receipt)
        else:
            self._check_first(number, receipt)
        self._check_claims(number, receipt)
        self.receipts.append(receipt)
        self.head = Head(receipt.sequence, digest_of(line))
        self.digests.setdefault(receipt.sequence, self.head.digest)

    def _check_first(self, number: int, receipt: Receipt) -> None:
        match receipt.body:
            case Genesis() if receipt.sequence == 0 and receipt.previous == START.digest:
                return
            case Segment() if receipt.sequence > 0:
                return
            case _:
                text = (
                    f"begins with receipt {receipt.sequence}, which begins neither chain nor file"
                )
                self.report(Problem.BEGINNING, number, text)

    def _check_place(self, number: int, receipt: Receipt) -> None:
        expected = self.head.sequence + 1
        if receipt.sequence == expected:
            if receipt.previous != self.head.digest:
                text = f"receipt {receipt.sequence} does not follow the one before it"
                self.report(Problem.EDITED, number, text)
        elif receipt.sequence in self.digests:
            self.report(Problem.DUPLICATE, number, f"receipt {receipt.sequence} is there twice")
        elif receipt.sequence < expected:
            text = f"receipt {receipt.sequence} stands behind {self.head.sequence}"
            self.report(Problem.ORDER, number, text)
        else:
            text = f"receipts {expected} to {receipt.sequence - 1} are missing"
            self.report(Problem.GAP, number, text)

    def _check_claims(self, number: int, receipt: Receipt) -> None:
        match receipt.body:
            case Genesis() as genesis:
                if receipt.sequence != 0:
                    self.report(Problem.CLAIM, number, "a second beginning of the chain")
                self._check_boot(number, genesis.boot)
            case Segment() as segment:
                self._check_boot(number, segment.boot)
                self._check_segment(number, receipt.sequence, segment)
            case Gap() as gap:
                self.lost += gap.lost
            case Checkpoint() as checkpoint:
                known = self.digests.get(checkpoint.sequence)
                ahead = checkpoint.sequence >= receipt.sequence
                if ahead or (known is not None and known != checkpoint.head):
                    self.report(Problem.CLAIM, number, "a checkpoint of another head")
            case _:
                pass

    def _check_boot(self, number: int, boot: str) -> None:
        if self.boot and boot != self.boot:
            self.report(Problem.CLAIM, number, "of another chain by its boot identity")
        self.boot = self.boot or boot

    def _check_segment(self, number: int, sequence: int, segment: Segment) -> None:
        if self.receipts and segment.number != self.segment + 1:
            self.report(Problem.CLAIM, number, f"file {segment.number} behind {self.segment}")
        if segment.retained_from > sequence or segment.retained_from < self.retained_from:
            self.report(Problem.CLAIM, number, "a wrong account of what was dropped")
        self.segment, self.retained_from = segment.number, segment.retained_from

    def finish(self, expected: Head | None) -> None:
        if not self.receipts:
            self.report(Problem.TRUNCATED, 0, "there is no receipt at all")
            return
        first = self.receipts[0].sequence
        if first > self.retained_from:
            text = f"begins with {first}, though the guest kept all from {self.retained_from}"
            self.report(Problem.BEGINNING, 0, text)
        if expected is None:
            return
        if expected.sequence > self.head.sequence:
            text = f"ends with receipt {self.head.sequence}, the head is {expected.sequence}"
            self.report(Problem.TRUNCATED, 0, text)
        elif self.digests.get(expected.sequence) != expected.digest:
            text = f"receipt {expected.sequence} is not the one that the head is of"
            self.report(Problem.HEAD, 0, text)


def examine_chain(lines: Iterable[bytes], expected: Head | None = None) -> Chain:
    """Look at receipts in order (bytes without line feeds) and say what is wrong with them.

    ``expected`` is a head known from elsewhere. Without one, nothing tells that the end is
    missing, or that the last receipt was changed. Raises nothing for any input.
    """
    found = _Examination()
    for number, line in enumerate(lines, 1):
        found.take(number, line)
    found.finish(expected)
    return Chain(
        tuple(found.receipts),
        found.digests,
        tuple(found.problems),
        found.head,
        found.boot,
        found.lost,
    )


def segments_of(receipts: Sequence[Receipt]) -> list[int]:
    """Return the number of the first receipt of each file, oldest first."""
    return [r.sequence for r in receipts if isinstance(r.body, Genesis | Segment)]
