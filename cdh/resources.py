"""The hub's port to whoever holds resources, and its answer when nobody does."""

from __future__ import annotations

from typing import Protocol

from cdh.errors import KbsNotConfiguredError
from kbs import ResourceUri
from secrecy import Secret


class ResourceSource(Protocol):
    """Gives the content of a resource. ``kbs.ResourceFetcher`` is the real one."""

    async def get(self, uri: ResourceUri) -> Secret:
        """Return the content. Raises ``kbs.KbsError`` or :class:`~cdh.errors.CdhError`."""
        ...


class NoResources:
    """Stands where no key broker is configured: every request is refused with the remedy."""

    async def get(self, uri: ResourceUri) -> Secret:
        raise KbsNotConfiguredError(str(uri))
