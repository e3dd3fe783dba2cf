"""The resource plugin's storage: secrets by ``repository/type/tag``, in memory only.

Nothing is written to disk, as with Trustee's storage type ``Memory``; a restart forgets all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from mocktee.kbs.errors import PluginFailedError, ResourceMissingError, ResourcePathError

MAX_RESOURCES: Final = 4096
_SEGMENT: Final = re.compile(r"[a-zA-Z0-9_\-]+[a-zA-Z0-9_\-.]*")


class ResourceStore:
    """Resources under Trustee's rules for their names."""

    def __init__(self) -> None:
        self._resources: dict[tuple[str, ...], bytes] = {}

    def __len__(self) -> int:
        return len(self._resources)

    def put(self, segments: Sequence[str], content: bytes) -> None:
        """Store or overwrite. Raises :class:`PluginFailedError` on a bad name or a full store."""
        path = _checked(segments)
        if path not in self._resources and len(self._resources) >= MAX_RESOURCES:
            raise PluginFailedError(f"the store holds {MAX_RESOURCES} resources")
        self._resources[path] = content

    def get(self, segments: Sequence[str]) -> bytes:
        """Return the content. Raises :class:`ResourceMissingError` when there is none."""
        path = _checked(segments)
        if path not in self._resources:
            raise ResourceMissingError(f"no resource {'/'.join(path)}")
        return self._resources[path]

    def delete(self, segments: Sequence[str]) -> None:
        """Remove the resource. Raises :class:`ResourceMissingError` when there is none."""
        self.get(segments)
        del self._resources[tuple(segments)]


def _checked(segments: Sequence[str]) -> tuple[str, ...]:
    if len(segments) != 3 or any(_SEGMENT.fullmatch(segment) is None for segment in segments):
        shown = "/".join(segments)[:128]
        raise ResourcePathError(f"path {shown!r} is not of the form repository/type/tag")
    return tuple(segments)
