"""``offline_fs_kbc``: resources from files of the guest image, without a key broker.

Reads the files of guest-components' ``kms/plugins/kbs/offline_fs.rs``: JSON objects from
``repository/type/tag`` to standard base64. Whoever can read the image has these secrets, which
attestation never guarded; hence only by name in the configuration file, and never by default.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cdh.errors import OfflineFileError, OfflineResourceError
from kbs import ResourceUri
from kbs.peer_json import PeerTextError, decode_object
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("cdh")

MAX_FILE_BYTES: Final = 8 * 1024 * 1024
RESOURCE_PLUGIN: Final = "resource"


class OfflineResources:
    """Implements :class:`cdh.resources.ResourceSource` on contents read at start."""

    def __init__(self, contents: dict[str, Secret]) -> None:
        self._contents = contents

    @classmethod
    def read(cls, paths: Sequence[Path]) -> OfflineResources:
        """Read the files in order; of a path that several have, the last one counts.

        A file that is not there is said and skipped, as in the reference; one that cannot be
        read or understood raises :class:`~cdh.errors.OfflineFileError`. Blocks.
        """
        contents: dict[str, Secret] = {}
        for path in paths:
            contents |= _read_file(path)
        return cls(contents)

    async def get(self, uri: ResourceUri) -> Secret:
        """Return a copy. Raises :class:`~cdh.errors.OfflineResourceError` if there is none."""
        uri.require_resource_path()
        content = self._contents.get("/".join(uri.segments))
        if content is None or uri.plugin != RESOURCE_PLUGIN:
            raise OfflineResourceError(str(uri))
        return Secret(content.reveal())

    def close(self) -> None:
        """Overwrite the contents."""
        for content in self._contents.values():
            content.wipe()
        self._contents.clear()

    def __len__(self) -> int:
        return len(self._contents)


def _read_file(path: Path) -> dict[str, Secret]:
    try:
        with path.open("rb") as file:
            body = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        log.warning("offline resource file is not there", path=str(path))
        return {}
    except OSError as error:
        raise OfflineFileError(path, f"cannot be read: {os.strerror(error.errno or 0)}") from error
    if len(body) > MAX_FILE_BYTES:
        raise OfflineFileError(path, f"larger than {MAX_FILE_BYTES} bytes")
    try:
        members = decode_object(body)
    except PeerTextError as error:
        raise OfflineFileError(path, str(error)) from None
    return {name: _content(path, value) for name, value in members.items()}


def _content(path: Path, value: object) -> Secret:
    # No error here names the member or quotes the value: either may be somebody's secret.
    if not isinstance(value, str) or not value.isascii():
        raise OfflineFileError(path, "a value is not base64 text")
    try:
        return Secret(base64.b64decode(value, validate=True))
    except binascii.Error:
        raise OfflineFileError(path, "a value is not standard base64") from None
