"""The block device on which Kata delivers initdata: finding it and reading it, bounded.

Layout: 8 bytes ``initdata``, the length of the gzip data as u64 little-endian, the gzip data,
padding. A device that cannot be read is an error and never "no initdata": the host could make
a read fail to switch the check off. Source: kata-containers ``agent/src/initdata.rs``.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from tdx.errors import InitdataError, errno_text
from tdx.initdata import IMAGE_HEAD_BYTES, packed_length, unpack

DEVICE_DIRECTORY: Final = Path("/dev")
NAME_PREFIXES: Final = ("vd", "sd")
MAX_DEVICES: Final = 256
CHUNK_BYTES: Final = 256 * 1024


def read_initdata_device(directory: Path = DEVICE_DIRECTORY) -> bytes | None:
    """Return the document on the first ``vd*`` or ``sd*`` device that has one, or None. Blocks.

    In the order of names. A second device must hold the same document: kata-agent takes them in
    directory order, so it may have used the other one. Raises :class:`InitdataError`.
    """
    found: tuple[Path, bytes] | None = None
    for device in _devices(directory):
        packed = _packed(device)
        if packed is None:
            continue
        text = unpack(packed)
        if found is not None and found[1] != text:
            raise InitdataError(f"{found[0]} and {device} hold different documents")
        found = found or (device, text)
    return found[1] if found else None


def _devices(directory: Path) -> list[Path]:
    try:
        names = sorted(n for n in os.listdir(directory) if n.startswith(NAME_PREFIXES))
        devices = [directory / name for name in names if _is_readable_kind(directory / name)]
    except OSError as error:
        problem = f"{directory} cannot be searched: {errno_text(error.errno or 0)}"
        raise InitdataError(problem) from error
    if len(devices) > MAX_DEVICES:
        raise InitdataError(f"{directory} has {len(devices)} disks, at most {MAX_DEVICES} are read")
    return devices


def _is_readable_kind(path: Path) -> bool:
    """Block devices, and images that lie there as files; opening a pipe would block."""
    mode = os.stat(path).st_mode
    return stat.S_ISBLK(mode) or stat.S_ISREG(mode)


def _packed(device: Path) -> bytes | None:
    try:
        fd = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            length = packed_length(_read(fd, IMAGE_HEAD_BYTES))
            packed = _read(fd, length) if length is not None else None
        finally:
            os.close(fd)
    except OSError as error:
        problem = f"{device} cannot be read: {errno_text(error.errno or 0)}"
        hint = "whether it holds initdata is unknown, so none is assumed"
        raise InitdataError(problem, hint=hint) from error
    if packed is not None and len(packed) != length:
        raise InitdataError(f"{device}: expected {length} bytes of gzip data, got {len(packed)}")
    return packed


def _read(fd: int, size: int) -> bytes:
    """Return ``size`` bytes, or fewer at the end of the device."""
    content = bytearray()
    while len(content) < size:
        chunk = os.read(fd, min(CHUNK_BYTES, size - len(content)))
        if not chunk:
            break
        content += chunk
    return bytes(content)
