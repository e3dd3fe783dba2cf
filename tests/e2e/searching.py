"""Looks for canaries everywhere a host or another process could see them."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

MAX_FILE = 64 << 20  # bytes; nothing the guest side writes is larger


def encodings(canary: bytes) -> dict[str, bytes]:
    """The canary raw, in hex, and in both base64 alphabets at each of the three alignments."""
    forms = {"raw": canary, "hex": canary.hex().encode()}
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + canary)
        # The first and last characters depend on the neighbours; what is between does not.
        core = whole[4 if shift else 0 : -4]
        forms[f"base64+{shift}"] = core
        forms[f"base64url+{shift}"] = core.translate(bytes.maketrans(b"+/", b"-_"))
    return forms


def hits(where: str, content: bytes, canaries: Mapping[str, bytes]) -> Iterator[str]:
    """Yield one line for each canary found in ``content``."""
    for name, canary in canaries.items():
        for form, needle in encodings(canary).items():
            if needle in content:
                yield f"{name} ({form}) in {where}"


def in_files(folder: Path, canaries: Mapping[str, bytes]) -> Iterator[str]:
    """Search regular files below ``folder``, without crossing into other file systems."""
    device = folder.stat().st_dev
    for root, folders, names in os.walk(folder):
        folders[:] = [n for n in folders if _device(Path(root, n)) == device]
        for name in names:
            path = Path(root, name)
            if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_FILE:
                continue
            yield from hits(str(path), path.read_bytes(), canaries)


def _device(path: Path) -> int | None:
    try:
        return path.lstat().st_dev
    except OSError:
        return None


def in_processes(canaries: Mapping[str, bytes]) -> Iterator[str]:
    """Search argument list and environment of every process except this one."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        for view in ("cmdline", "environ", "comm", "status", "mountinfo"):
            try:
                content = (entry / view).read_bytes()
            except OSError:
                continue  # the process is gone, or a kernel thread
            yield from hits(f"{entry}/{view}", content, canaries)
