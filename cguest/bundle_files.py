"""Bundles on disk: a directory, a tar archive, one JSON file, or a bare file of evidence.

Owns the containers and their bounds; what the parts mean is ``explain``'s.
"""

from __future__ import annotations

import base64
import binascii
import os
import tarfile
from pathlib import Path
from typing import Final

import msgspec

from cguest.connection import CommandError
from cguest.files import read_file
from explain import Bundle, BundleError, Part
from explain.bundle import LIMITS
from explain.part_json import decode_json
from tdx.evidence_forms import Form, recognise

MAX_FILE: Final = 16 * 1024 * 1024  # bytes of a tar or JSON bundle: all parts, with room
MAX_MEMBERS: Final = 64
JSON_MARK: Final = "cguest-bundle"
BINARY: Final = frozenset({Part.REFERENCE_LOG})  # base64 in the JSON form


def load_bundle(path: Path) -> Bundle:
    """Read a bundle of any form. Raises ``CommandError`` and :class:`explain.BundleError`."""
    if path.is_dir():
        return Bundle.of(_directory(path))
    content = read_file(path, MAX_FILE)
    if content[257:262] == b"ustar":
        return Bundle.of(_archive(path))
    if (parts := _json_parts(path, content)) is not None:
        return Bundle.of(parts)
    return Bundle.of(_evidence(content))


def save_bundle(directory: Path, bundle: Bundle) -> None:
    """Write the parts as files of mode 0600 into a new or empty directory."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise CommandError(f"writing the bundle: {directory} is not empty")
        for part, data in bundle.parts.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with os.fdopen(os.open(directory / part, flags, 0o600), "wb") as file:
                file.write(data)
    except OSError as error:
        raise CommandError(f"writing the bundle to {directory}: {error.strerror}") from error


def _directory(path: Path) -> dict[str, bytes]:
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        raise CommandError(f"reading {path}: {error.strerror}") from error
    if len(names) > MAX_MEMBERS:
        raise CommandError(f"reading {path}: more than {MAX_MEMBERS} files, this is no bundle")
    return {name: read_file(path / name, _limit(name)) for name in names}


def _limit(name: str) -> int:
    return LIMITS[Part(name)] if name in set(Part) else 0


def _archive(path: Path) -> dict[str, bytes]:
    """Regular members by their last path component; nothing is unpacked to disk."""
    parts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as archive:
            for number, member in enumerate(archive):
                if number >= MAX_MEMBERS:
                    raise CommandError(f"reading {path}: more than {MAX_MEMBERS} members")
                if member.isdir():
                    continue
                name = member.name.rpartition("/")[2]
                file = archive.extractfile(member) if member.isreg() else None
                if file is None or member.size > MAX_FILE or name in parts:
                    raise CommandError(f"reading {path}: member {name[:80]!r} is no part")
                parts[name] = file.read()
    except (tarfile.TarError, OSError, ValueError) as error:
        raise CommandError(f"reading {path}: not a tar archive that can be read") from error
    return parts


def _json_parts(path: Path, content: bytes) -> dict[str, bytes] | None:
    """The JSON form, or None for a file that is none."""
    try:
        value = decode_json(content, path.name)
    except BundleError:
        return None
    if not isinstance(value, dict) or value.get(JSON_MARK) != 1:
        return None
    parts = value.get("parts")
    if not isinstance(parts, dict) or not all(isinstance(text, str) for text in parts.values()):
        raise CommandError(f"reading {path}: parts is not a map from names to text")
    try:
        return {
            name: base64.b64decode(text, validate=True) if name in BINARY else text.encode()
            for name, text in parts.items()
        }
    except (binascii.Error, ValueError) as error:
        raise CommandError(f"reading {path}: a binary part is not base64") from error


def _evidence(content: bytes) -> dict[str, bytes]:
    """A bare file: evidence, an attestation body, or a quote in whatever coding."""
    found = recognise(content)
    if found.form is Form.ATTESTATION and content.lstrip()[:1] == b"{":
        return {Part.ATTEST_REQUEST: content}
    if found.quote is None:
        raise CommandError(f"reading the file: it is a {found.form.value}, which has no quote")
    return {Part.EVIDENCE: evidence_json(found.quote, found.event_log)}


def evidence_json(quote: bytes, event_log: bytes | None) -> bytes:
    """Return evidence JSON for parts that came on their own."""
    log = None if event_log is None else base64.b64encode(event_log).decode()
    return msgspec.json.encode({"quote": base64.b64encode(quote).decode(), "cc_eventlog": log})
