"""Whether a configuration file is one that is measured at launch, as far as that can be seen.

A file of a verity image or of verified initdata is. One that the host can change while the guest
runs, or any user of the guest, is not; and one that kata-agent took out of an initdata document
only together with the document, which the attestation agent compares with the TEE.
"""

from __future__ import annotations

import hmac
import os
import stat
import tomllib
from pathlib import Path
from typing import Final

from lifecycle.settings import MAX_BYTES, Tree, parse_tree, read_configuration
from lifecycle.sources import Source, SourceKind

# Where kata-agent puts the parts of an initdata document (its src/agent/src/initdata.rs).
INITDATA_DIRECTORY: Final = Path("/run/confidential-containers/initdata")
INITDATA_NAME: Final = "initdata.toml"
# File systems whose content belongs to the host or to a server, and can change at any time.
FOREIGN: Final = frozenset({"virtiofs", "9p", "nfs", "nfs4", "cifs", "smb3", "vboxsf", "ceph"})
MOUNTINFO: Final = Path("/proc/self/mountinfo")


def load_file(path: Path, *, named_by: str = "", initdata: Path = INITDATA_DIRECTORY) -> tuple[
    Tree, Source
]:  # fmt: skip
    """Read a configuration file, and say whether it is measured.

    ``named_by`` is the variable that named it, if one did. Raises
    :class:`~lifecycle.errors.SettingsError`. Blocks.
    """
    text = read_configuration(path)
    tree = parse_tree(text, path)
    doubt = f"its path is from {named_by}, which nothing measures" if named_by else ""
    return tree, Source(SourceKind.FILE, str(path), doubt or _doubt(path, text, initdata))


def _doubt(path: Path, text: bytes, initdata: Path) -> str:
    try:
        status = path.stat()
        if status.st_mode & stat.S_IWOTH:
            return "every user of the guest can write the file"
        kind = _file_system(status.st_dev)
    except OSError as error:
        return f"its file system cannot be determined: {os.strerror(error.errno or 0)}"
    if kind in FOREIGN:
        return f"a file on {kind} can be changed from outside the guest"
    document = initdata / INITDATA_NAME
    name = os.path.basename(os.path.realpath(path))
    if is_initdata(path, initdata) and not _is_part_of(name, text, document):
        return f"it is not what {document} has as {name}"
    return ""


def is_initdata(path: Path, initdata: Path = INITDATA_DIRECTORY) -> bool:
    """Whether ``path`` leads to a part of initdata, by whatever links: an image may have some."""
    return os.path.dirname(os.path.realpath(path)) == os.path.realpath(initdata)


def _file_system(device: int) -> str:
    """Return the type of the file system with this device number; empty where none is listed."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in MOUNTINFO.read_text(errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) > 2 and fields[2] == wanted:
            return after.split(" ")[0]
    return ""


def _is_part_of(name: str, text: bytes, document: Path) -> bool:
    try:
        with document.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        parts = tomllib.loads(content[:MAX_BYTES].decode()).get("data")
    except (OSError, ValueError, RecursionError):
        return False
    part = parts.get(name) if isinstance(parts, dict) else None
    return isinstance(part, str) and hmac.compare_digest(part.encode(), text)
