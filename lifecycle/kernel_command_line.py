"""The kernel command line as parameters, read once per process.

Quoting is the kernel's (``lib/cmdline.c``, ``next_arg``): double quotes join words, around a value
or around the whole ``name=value``. The last of several equal names counts, as for the kernel's own.
What a parameter means is for those who ask for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from lifecycle.errors import SettingsError

KERNEL_COMMAND_LINE: Final = Path("/proc/cmdline")
MAX_BYTES: Final = 64 * 1024  # far above COMMAND_LINE_SIZE of any architecture
_SPACES: Final = " \t\n\v\f\r"


@dataclass(frozen=True, slots=True)
class KernelCommandLine:
    """``parameters`` maps names to values; a word without ``=`` is no parameter and left out."""

    parameters: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take parameters out of ``text``. Never fails: what is no parameter is skipped."""
        found: dict[str, str] = {}
        for word in _words(text):
            name, equals, value = _unquoted(word)
            if equals and name:
                found[name] = value
        return cls(found)

    @classmethod
    def read(cls, path: Path = KERNEL_COMMAND_LINE) -> Self:
        """Read and parse. Raises :class:`SettingsError`: a failing read is not "no parameters"."""
        try:
            with path.open("rb") as file:
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise SettingsError(str(path), f"cannot be read: {reason}") from error
        if len(content) > MAX_BYTES:
            raise SettingsError(str(path), f"larger than {MAX_BYTES} bytes")
        return cls.parse(content.decode(errors="replace"))

    def get(self, name: str) -> str | None:
        """Return the value of ``name``, None where it is not given."""
        return self.parameters.get(name)


def _words(text: str) -> Iterator[str]:
    word: list[str] = []
    quoted = False
    for character in text:
        if character == '"':
            quoted = not quoted
        if character in _SPACES and not quoted:
            if word:
                yield "".join(word)
                word = []
        else:
            word.append(character)
    if word:
        yield "".join(word)


def _unquoted(word: str) -> tuple[str, str, str]:
    if word.startswith('"'):
        word = word[1:].removesuffix('"')
    name, equals, value = word.partition("=")
    if value.startswith('"'):
        value = value[1:].removesuffix('"')
    return name, equals, value
