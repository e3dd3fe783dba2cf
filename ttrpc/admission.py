"""Who may stay connected when more want to than a server grants.

A server that merely stopped accepting would be locked up by anybody who opens connections and does
nothing with them. So a newcomer displaces somebody, and the rules say whom: the process that holds
most pays, idle connections go before busy ones, those that never completed a call before those that
did. A process's only connection, once it has completed a call, is never displaced by another
process: kata-agent connects once, is idle for long and never connects again.

Decides only. Who is turned away or displaced is closed by :mod:`ttrpc.server`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar

from ttrpc.limits import Limits


class Guest(Protocol):
    """A connection as these rules see it."""

    @property
    def process(self) -> int | None:
        """Process id of the peer, ``None`` if unknown. The unknown count as one process."""

    @property
    def is_busy(self) -> bool:
        """Whether calls of it are in flight."""

    @property
    def has_completed(self) -> bool:
        """Whether a call of it was ever answered."""

    @property
    def active_at(self) -> float:
        """When its last call was answered, or else when it connected."""

    @property
    def partial_since(self) -> float | None:
        """When the frame of which only a part has arrived began, ``None`` if there is none."""


GuestT = TypeVar("GuestT", bound=Guest)


class Admission(Generic[GuestT]):
    """The connections of one server."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._guests: dict[GuestT, int] = {}  # with the bytes of incomplete frames they hold
        self._by_process: dict[int | None, set[GuestT]] = {}
        self._partial_bytes = 0

    def __len__(self) -> int:
        return len(self._guests)

    def admits(self, process: int | None) -> tuple[bool, GuestT | None]:
        """Whether a newcomer of ``process`` may stay, and who has to leave for it."""
        own = self._by_process.get(process, set())
        if len(own) >= self._limits.connections_per_process:
            victim = _least(guest for guest in own if not guest.is_busy)
        elif len(self._guests) < self._limits.connections:
            return True, None
        else:
            victim = self._of_most(len(own))
        return victim is not None, victim

    def expendable(self) -> GuestT | None:
        """Return who can be missed when the server as a whole is short of something.

        Only idle ones; nothing says that more connections than usual are the cause.
        """
        most = self._largest()
        return _least(self._unproven()) or _least(
            guest for guest in most if not guest.is_busy and len(most) > 1
        )

    def _of_most(self, own: int) -> GuestT | None:
        """Return who leaves for a newcomer whose process has ``own`` connections."""
        most = self._largest()
        return _least(most) if len(most) > max(own, 1) else _least(self._unproven())

    def _largest(self) -> set[GuestT]:
        return max(self._by_process.values(), key=len, default=set())

    def _unproven(self) -> Iterable[GuestT]:
        return (each for each in self._guests if not each.is_busy and not each.has_completed)

    def enter(self, guest: GuestT) -> None:
        """Count ``guest`` in."""
        self._guests[guest] = 0
        self._by_process.setdefault(guest.process, set()).add(guest)

    def leave(self, guest: GuestT) -> None:
        """Count ``guest`` out. Idempotent."""
        held = self._guests.pop(guest, None)
        if held is None:
            return
        self._partial_bytes -= held
        of_process = self._by_process[guest.process]
        of_process.discard(guest)
        if not of_process:
            del self._by_process[guest.process]

    def holds(self, guest: GuestT, size: int) -> GuestT | None:
        """Note how much of an incomplete frame ``guest`` holds, and return who has to leave for it.

        That is the one whose frame has been incomplete for longest.
        """
        if guest not in self._guests:
            return None
        self._partial_bytes += size - self._guests[guest]
        self._guests[guest] = size
        if self._partial_bytes <= self._limits.partial_bytes:
            return None
        incomplete = [each for each in self._guests if each.partial_since is not None]
        return min(incomplete, key=lambda each: each.partial_since or 0.0, default=None)


def _least(guests: Iterable[GuestT]) -> GuestT | None:
    return min(
        guests,
        key=lambda guest: (guest.is_busy, guest.has_completed, guest.active_at),
        default=None,
    )
