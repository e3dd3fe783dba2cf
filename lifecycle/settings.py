"""Configuration text, TOML or JSON, to plain data or to one frozen, typed value.

Unknown keys and failing reads are errors. Which source a value came from is the business of
:mod:`lifecycle.sources`.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from lifecycle.errors import SettingsError

MAX_BYTES: Final = 1024 * 1024  # a configuration file; initdata limits its parts to less
MAX_DEPTH: Final = 16
# Further formats of the reference's configuration library, by the file's name.
OTHER_FORMATS: Final = frozenset({".yaml", ".yml", ".ini", ".ron", ".json5", ".corn"})
# msgspec shows the value of a text or number that is none of the possible ones.
_ENUM_VALUE: Final = re.compile(r"^Invalid enum value .*?(?= - at `[^`]*`\Z|\Z)", re.DOTALL)
Tree = dict[str, Any]


def problem_of(error: msgspec.ValidationError) -> str:
    """Return what is wrong and where, without the value."""
    return _ENUM_VALUE.sub("Not one of the possible values", str(error))


def read_configuration(path: Path) -> bytes:
    """Read a configuration file of at most 1 MiB. Raises :class:`SettingsError`."""
    source = str(path)
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SettingsError(
            source,
            f"cannot be read: {os.strerror(error.errno or 0)}",
            hint="check the path given with -c and its permissions",
        ) from error
    if len(text) > MAX_BYTES:
        raise SettingsError(source, f"larger than {MAX_BYTES} bytes")
    return text


def parse_tree(text: bytes, path: Path) -> Tree:
    """Decode ``text`` as what the name of ``path`` says: ``.json`` is JSON, else TOML.

    A name with no ending says nothing, so there a first ``{`` makes it JSON: no TOML begins so.
    Raises :class:`SettingsError`, which never shows a value.
    """
    source, ending = str(path), path.suffix.lower()
    if ending in OTHER_FORMATS:
        raise SettingsError(source, f"format {ending} is not read", hint="write TOML or JSON")
    try:
        if ending == ".json" or (not ending and text.lstrip()[:1] == b"{"):
            tree = msgspec.json.decode(text)
        else:
            tree = tomllib.loads(text.decode())
    except msgspec.DecodeError as error:
        where = str(error).rpartition("(byte ")[2].rstrip(")")
        raise SettingsError(source, f"not valid JSON (at byte {where[:20]})") from None
    except tomllib.TOMLDecodeError as error:
        where = str(error).rpartition("(at ")[2].rstrip(")")
        raise SettingsError(source, f"not valid TOML (at {where[:80]})") from None
    except UnicodeDecodeError:
        raise SettingsError(source, "not UTF-8") from None
    except RecursionError:
        raise SettingsError(source, "nested too deeply") from None
    if not isinstance(tree, dict):
        raise SettingsError(source, "not a table of keys")
    _require_shallow(tree, source, 0)
    return tree


def _require_shallow(value: object, source: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise SettingsError(source, "nested too deeply")
    if isinstance(value, dict):
        for inner in value.values():
            _require_shallow(inner, source, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _require_shallow(inner, source, depth + 1)
