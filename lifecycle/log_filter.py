"""Log levels in the words of the reference components, whose logs take a filter.

``RUST_LOG`` and ``log.level`` there are filters of tracing-subscriber: directives separated by
commas, each a level, a target, or ``target=level``. Only the level without a target means
anything here, because our targets have other names.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

DEFAULT_LEVEL: Final = "warning"
MAX_CHARACTERS: Final = 1024
NAMES: Final = ("debug", "info", "warning", "error")
# A number is the level counted from nothing to everything.
_LEVELS: Final = {
    "off": "error",
    "error": "error",
    "warn": "warning",
    "warning": "warning",
    "info": "info",
    "debug": "debug",
    "trace": "debug",
    "0": "error",
    "1": "error",
    "2": "warning",
    "3": "info",
    "4": "debug",
    "5": "debug",
}
_TARGET: Final = re.compile(r"[A-Za-z0-9_:.\-]*(?:\[[^\[\]]*\])?", re.ASCII)


def level_of(text: str) -> str:
    """Return our level for a filter; ``warning`` where it only names targets.

    ``off`` and ``error`` are ``error``: what cannot go on is always said. A single word that is no
    level is taken for a mistake and not for a target. Raises ``ValueError``.
    """
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"longer than {MAX_CHARACTERS} characters")
    directives = [part.strip() for part in text.split(",")]
    level = None
    for directive in directives:
        target, equals, named = (part.strip() for part in directive.rpartition("="))
        known = _LEVELS.get(named.lower())
        if not equals and known is not None:
            level = known
        elif len(directives) == 1 and not equals:
            raise ValueError(f"unknown; choose one of {', '.join(NAMES)}")
        elif not _TARGET.fullmatch(target if equals else named) or (equals and known is None):
            raise ValueError("not of the form LEVEL,TARGET=LEVEL,...")
    return level or DEFAULT_LEVEL


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]`` of every program. ``level`` may be a filter; quiet by default."""

    level: str = DEFAULT_LEVEL

    def __post_init__(self) -> None:
        """Raises ``ValueError``, which decoding turns into its own."""
        try:
            level_of(self.level)
        except ValueError as error:
            raise ValueError(f"level: {error}") from error

    @property
    def journal_level(self) -> str:
        """``debug``, ``info``, ``warning`` or ``error``."""
        return level_of(self.level)
