"""A configuration as text for people: every key, its value, and the source of the value.

One line for each key, which reads as TOML; what is secret, or only long, is replaced by what it is.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from enum import Enum
from typing import Final

import msgspec

from lifecycle.sources import Settings, values_of

MAX_TEXT: Final = 256
_SECRET_KEY: Final = re.compile(r"(?i)passw|passphrase|secret(?!_verification)|private|credential$")
_HEADER_KEY: Final = "required_header"  # "Name: value", and the value is what callers must know
_USER_INFORMATION: Final = re.compile(r"(?<=://)[^/?#\s@]*@")
_PEM: Final = "-----BEGIN "


def describe(settings: Settings[msgspec.Struct], program: str) -> str:
    """Return all settings as lines ``key = value  # source``, then notes and weakenings."""
    rows = [
        (_left(key, value), str(settings.source_of(key)))
        for key, value in values_of(settings.value)
    ]
    width = max(len(left) for left, _ in rows if len(left) <= 80)
    lines = [f"# {program}: what it would run with, and where each value is from"]
    lines += [f"{left:<{width}}  # {source}" for left, source in rows]
    lines += [f"# weakens: {line}" for line in weakening_lines(settings)]
    lines += [f"# note: {note}" for note in settings.notes]
    return "\n".join(lines) + "\n"


def weakening_lines(settings: Settings[msgspec.Struct]) -> list[str]:
    """Return one line for each value that weakens security and is admitted."""
    return [
        f"{weakening.key} ({settings.source_of(weakening.key)}): {weakening.reason}"
        for weakening in settings.weakenings
    ]


def _left(key: str, value: object) -> str:
    if value is None:
        return f"# {key} is not set"
    return f"{key} = {_shown(key.rpartition('.')[2], value)}"


def _shown(name: str, value: object) -> str:
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, str):
        return json.dumps(_redacted(name, value), ensure_ascii=False)
    if isinstance(value, Sequence):
        return "[" + ", ".join(_shown(name, item) for item in value) + "]"
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_shown(str(key), item)}" for key, item in value.items())
        return "{ " + inner + " }" if inner else "{}"
    return f'"<{type(value).__name__}>"'


def _redacted(name: str, text: str) -> str:
    if _PEM in text:
        digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        return f"<PEM, {len(text)} characters, SHA-256 {digest}>"
    if text and _SECRET_KEY.search(name):
        return "<redacted>"
    if name == _HEADER_KEY:
        return text.partition(":")[0][:MAX_TEXT] + ": <redacted>"
    text = _USER_INFORMATION.sub("<redacted>@", text)
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}… ({len(text)} characters)"
