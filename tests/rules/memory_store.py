"""A store of receipts in memory."""

from __future__ import annotations

import errno

from receipts import Chain, examine_chain


class MemoryStore:
    """A store that fails when told to; changes nothing then."""

    def __init__(self) -> None:
        self.files: dict[int, bytes] = {}
        self.aside: dict[int, bytes] = {}
        self.full = False

    def load(self) -> dict[int, bytes]:
        return dict(sorted(self.files.items()))

    def append(self, data: bytes) -> None:
        self._room()
        self.files[max(self.files)] += data

    def begin(self, number: int, data: bytes) -> None:
        self._room()
        assert number not in self.files
        self.files[number] = data

    def drop(self, number: int) -> None:
        del self.files[number]

    def cut(self, number: int, size: int) -> None:
        self.files[number] = self.files[number][:size]
        if not size:
            del self.files[number]

    def set_aside(self) -> None:
        self.aside, self.files = self.files, {}

    def _room(self) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")

    def chain(self) -> Chain:
        return examine_chain(
            line for _, text in sorted(self.files.items()) for line in text.split(b"\n")[:-1]
        )
