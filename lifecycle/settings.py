"""TOML text to one frozen, typed value. Unknown keys and failing reads are errors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from lifecycle.errors import SettingsError

MAX_BYTES: Final = 1024 * 1024  # a configuration file; initdata limits its parts to less
T = TypeVar("T")


def decode_toml(text: bytes, kind: type[T], source: str) -> T:
    """Decode ``text`` as ``kind`` (a ``msgspec.Struct`` with ``forbid_unknown_fields``).

    Raises :class:`SettingsError` that names ``source`` and the key. Values never appear in the
    message: a configuration may hold a certificate or, by mistake, a key.
    """
    try:
        return msgspec.toml.decode(text, type=kind)
    except msgspec.ValidationError as error:
        raise SettingsError(source, str(error), hint="see docs/configuration.md") from error
    except msgspec.DecodeError as error:
        # The decoder's text quotes the offending value; only the place is passed on.
        where = str(error).rpartition("(at ")[2].rstrip(")")
        raise SettingsError(source, f"not valid TOML (at {where[:80]})") from None


def load_toml(path: Path, kind: type[T]) -> T:
    """Read and decode a configuration file of at most 1 MiB. Raises :class:`SettingsError`."""
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
    return decode_toml(text, kind, source)
