"""``RUST_LOG``: the level of the log where nothing that is measured says another.

It counts up to ``info``. More names more - resources, key brokers - on a console that is the
host's, so that is for a configuration file to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from lifecycle.errors import SettingsError
from lifecycle.log_filter import level_of
from lifecycle.sources import Given, Source, SourceKind

VARIABLE: Final = "RUST_LOG"
MOST: Final = "info"


def rust_log(environ: Mapping[str, str]) -> Iterator[Given]:
    """Yield ``log.level``. Raises :class:`SettingsError` for a filter that is none, as there."""
    text = environ.get(VARIABLE)
    if not text:
        return
    source = Source(SourceKind.ENVIRONMENT, VARIABLE)
    try:
        level = level_of(text)
    except ValueError as error:
        raise SettingsError(str(source), str(error), hint="for example RUST_LOG=info") from error
    yield Given("log.level", MOST if level == "debug" else level, source)
