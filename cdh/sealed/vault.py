"""Obtaining the value a vault secret points to. Provider: ``kbs``."""

from __future__ import annotations

from typing import Final

from cdh.errors import SealedFormatError, SealedProviderError
from cdh.resources import ResourceSource
from cdh.sealed.payload import VaultPayload
from kbs import ResourceUri, ResourceUriError
from secrecy import Secret

KBS: Final = "kbs"


async def fetch_vault(payload: VaultPayload, resources: ResourceSource) -> Secret:
    """Return the resource that ``name`` gives as a URI; settings and annotations are not used.

    Raises :class:`SealedProviderError` for other providers, :class:`SealedFormatError` for a
    name that is no URI, or what the resource source raises.
    """
    if payload.provider.lower() != KBS:
        raise SealedProviderError("vault", payload.provider, KBS)
    try:
        uri = ResourceUri.parse(payload.name)
    except ResourceUriError as error:
        raise SealedFormatError(
            "payload", "name is not a KBS resource URI", hint="use kbs:///repository/type/tag"
        ) from error
    return await resources.get(uri)
