"""Settings from a text, decoded as programs decode a file of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from lifecycle.settings import parse_tree
from lifecycle.sources import Layers, Source, SourceKind

T = TypeVar("T")


def decode_toml(text: bytes, kind: type[T], source: str) -> T:
    """Raises ``lifecycle.SettingsError``."""
    layers = Layers()
    layers.add_tree(parse_tree(text, Path(source)), Source(SourceKind.FILE, source), {})
    return layers.decode(kind).value
