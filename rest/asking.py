"""Whose request is being answered, for those behind the backends who keep a record of it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final

from rest.peer import OVER_TCP, Caller

# Of the task that answers; a connection's requests are answered one after the other.
CALLER: Final[ContextVar[Caller]] = ContextVar("rest_caller", default=OVER_TCP)
