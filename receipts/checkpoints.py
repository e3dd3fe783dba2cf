"""Checkpoints: a head as a measured event, and comparing a chain with those. No I/O.

The event is ``confidential-guest receipts {"chain":…,"head":…,"sequence":…}``, its content in the
canonical form of :mod:`receipts.record`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from receipts.chain import Chain, ChainProblem, Head, Problem
from receipts.errors import ReceiptsFormatError
from receipts.record import Boot, Checkpoint, Count, Digest, decode_canonical, encode

DOMAIN: Final = "confidential-guest"
OPERATION: Final = "receipts"
MAX_CONTENT: Final = 1024


class ClaimedHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an event says: ``head`` was receipt ``sequence`` of the chain ``chain``."""

    chain: Boot
    head: Digest
    sequence: Count


_DECODER: Final = msgspec.json.Decoder(ClaimedHead)


def checkpoint_content(boot: str, head: Head) -> str:
    """Return the content of the event that measures ``head``."""
    return encode(ClaimedHead(boot, head.digest, head.sequence)).decode()


def parse_checkpoint(content: str) -> ClaimedHead:
    """Raises :class:`ReceiptsFormatError` for what is not exactly such a content."""
    try:
        data = content[: MAX_CONTENT + 1].encode()
    except UnicodeError:
        raise ReceiptsFormatError("a checkpoint", "not what this guest measures") from None
    return decode_canonical(_DECODER, data, "a checkpoint", "not what this guest measures")


@dataclass(frozen=True, slots=True)
class Comparison:
    """``matched`` checkpoints are of receipts that are there, ``dropped`` of older ones.

    ``covered`` is the last receipt that a checkpoint vouches for; -1 for none. ``unseen``
    checkpoints of the chain are later than the log.
    """

    matched: int
    dropped: int
    covered: int
    unseen: int
    problems: tuple[ChainProblem, ...]


def compare_checkpoints(chain: Chain, events: Iterable[str]) -> Comparison:
    """Compare a chain with the contents of its measured events, in the order of the log."""
    matched, dropped, covered, last = 0, 0, -1, -1
    problems: list[ChainProblem] = []
    heads: set[str] = set()
    for number, content in enumerate(events, 1):
        try:
            claimed = parse_checkpoint(content)
        except ReceiptsFormatError as error:
            problems.append(_problem(f"measured checkpoint {number}: {error.problem}"))
            continue
        heads.add(claimed.head)
        if (problem := _judge(chain, claimed, number, last)) is not None:
            problems.append(problem)
        elif claimed.sequence < chain.first:
            dropped += 1
        else:
            matched, covered = matched + 1, claimed.sequence
        last = max(last, claimed.sequence)
    claims = _claims(chain)
    problems += [
        _problem(f"the chain names receipt {claim.sequence} as measured, which it was not")
        for claim in claims
        if claim.sequence <= last and claim.head not in heads
    ]
    unseen = sum(1 for claim in claims if claim.sequence > last)
    return Comparison(matched, dropped, covered, unseen, tuple(problems))


def _judge(chain: Chain, claimed: ClaimedHead, number: int, last: int) -> ChainProblem | None:
    if claimed.chain != chain.boot:
        return _problem(f"measured checkpoint {number} is of another chain")
    if claimed.sequence < last:
        return _problem(f"measured checkpoint {number} is older than the one before")
    if claimed.sequence > chain.head.sequence:
        text = f"receipt {claimed.sequence} was measured, {chain.head.sequence} is the last one"
        return ChainProblem(Problem.TRUNCATED, 0, text)
    if claimed.sequence < chain.first:
        return None
    if chain.digests.get(claimed.sequence) != claimed.head:
        return _problem(f"receipt {claimed.sequence} is not the one that was measured")
    return None


def _claims(chain: Chain) -> list[Checkpoint]:
    bodies = [receipt.body for receipt in chain.receipts]
    return [b for b in bodies if isinstance(b, Checkpoint) and b.result == "measured"]


def _problem(text: str) -> ChainProblem:
    return ChainProblem(Problem.CHECKPOINT, 0, text)
