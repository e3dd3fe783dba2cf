"""What can go wrong between a call and the part of this process that should answer it."""

from __future__ import annotations


class ServingError(Exception):
    """Base of all errors of this package."""


class PartUnavailableError(ServingError):
    """A part is being started again, or ended while it worked on the call."""

    def __init__(self, part: str, problem: str) -> None:
        self.part = part
        super().__init__(f"{part} is not available: {problem}; try again")
