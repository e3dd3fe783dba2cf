"""Where the daemon's settings come from: those of its services, each in its table.

Every source and every judgement is the services' own; here they get their places in one file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import agent.settings
import cdh.settings
import rest.sources
from cguestd.config import CguestdConfig
from lifecycle.file_source import load_file
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program_log import rust_log
from lifecycle.sources import Given, Layers, Settings, Weakening

HISTORIC: Final = {f"agent.{key}": why for key, why in agent.settings.HISTORIC.items()} | {
    f"cdh.{key}": why for key, why in cdh.settings.HISTORIC.items()
}


def load(
    path: Path | None, environ: Mapping[str, str], kernel: KernelCommandLine
) -> Settings[CguestdConfig]:
    """Put all sources together, and judge them.

    Raises the errors of ``lifecycle``, ``cdh`` and ``rest``: a file that is named and cannot be
    read is never replaced by defaults.
    """
    layers = Layers()
    layers.add(rust_log(environ))
    tree, source = (None, None) if path is None else load_file(path)
    layers.add(_given(environ, kernel, tree))
    if tree is not None and source is not None:
        layers.add_tree(tree, source, HISTORIC)
    layers.add(one.below("cdh") for one in cdh.settings.added(kernel))
    settings = layers.decode(CguestdConfig)
    settings.value.check()
    return settings.judged(
        _weakenings(settings.value), _notes(settings, environ, kernel, with_file=path is not None)
    )


def examine(config: CguestdConfig) -> None:
    """As the services' own. Raises ``kbs.KbsError`` or ``lifecycle.SettingsError``. Blocks."""
    agent.settings.examine(config.agent)
    cdh.settings.examine(config.cdh)


def _given(
    environ: Mapping[str, str], kernel: KernelCommandLine, tree: Mapping[str, object] | None
) -> Iterator[Given]:
    table = tree.get("cdh") if tree is not None else None
    with_image = isinstance(table, dict) and "image" in table
    with_file = tree is not None
    for one in agent.settings.given(environ, kernel, with_file=with_file):
        yield one.below("agent")
    for one in cdh.settings.given(environ, kernel, with_file=with_file, with_image=with_image):
        yield one.below("cdh")


def _notes(
    settings: Settings[CguestdConfig],
    environ: Mapping[str, str],
    kernel: KernelCommandLine,
    *,
    with_file: bool,
) -> Iterator[str]:
    config = settings.value
    yield from agent.settings.notes(config.agent, environ, kernel, with_file)
    hub = settings.of_table("cdh", config.cdh)
    yield from cdh.settings.notes(hub, environ, with_file=with_file)


def _weakenings(config: CguestdConfig) -> Iterator[Weakening]:
    for table, found in (
        ("agent", agent.settings.weakenings(config.agent)),
        ("cdh", cdh.settings.weakenings(config.cdh)),
        ("rest", rest.sources.weakenings(config.rest)),
    ):
        for weakening in found:
            yield weakening.below(table)
