"""Where the REST server's settings come from, and which of them weaken security.

The reference has flags only. A file, and rules in it, are ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lifecycle.file_source import load_file
from lifecycle.log_filter import LogConfig
from lifecycle.program_log import rust_log
from lifecycle.sources import Given, Layers, Settings, Weakening
from rest.config import RestConfig
from rest.strict import Compatibility


class RestProgramConfig(RestConfig, frozen=True, forbid_unknown_fields=True):
    """``[rest]`` of ``cguestd`` as a file of its own, with ``[log]``."""

    log: LogConfig = LogConfig()


def load(
    path: Path | None, environ: Mapping[str, str], flags: Iterable[Given] = ()
) -> Settings[RestProgramConfig]:
    """Put all sources together, and judge them.

    Raises :class:`~lifecycle.LifecycleError` or :class:`~rest.errors.RestError`.
    """
    layers = Layers()
    layers.add(rust_log(environ))
    if path is not None:
        layers.add_tree(*load_file(path), {})
    layers.add(flags)
    settings = layers.decode(RestProgramConfig)
    settings.value.check()
    return settings.judged(weakenings(settings.value))


def weakenings(config: RestConfig) -> Iterator[Weakening]:
    """Yield the values that make this guest less secure than the defaults do."""
    if config.evidence is not Compatibility.STRICT:
        yield Weakening("evidence", "callers choose report data that may pass for the agent's own")
    if config.token is not Compatibility.STRICT:
        yield Weakening("token", "callers get the private key of the agent's session")
