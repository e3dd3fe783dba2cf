"""Obtaining the value a vault secret points to: a resource of the KBS, or a secret of a KMS."""

from __future__ import annotations

from typing import Final

from cdh.errors import SealedFormatError, SealedKmsError
from cdh.resources import ResourceSource
from cdh.sealed.payload import VaultPayload, members_of
from kbs import ResourceUri, ResourceUriError
from kms import KmsDirectory, KmsError
from secrecy import Secret

KBS: Final = "kbs"


async def fetch_vault(
    payload: VaultPayload, resources: ResourceSource, kms: KmsDirectory
) -> Secret:
    """Return the value from the provider that the payload names.

    For ``kbs``, ``name`` is a resource URI; settings and annotations are not used then. Raises
    :class:`~cdh.errors.SealedSecretError`, or what the resource source raises.
    """
    if payload.provider.lower() != KBS:
        return await _held(payload, kms)
    try:
        uri = ResourceUri.parse(payload.name)
    except ResourceUriError as error:
        raise SealedFormatError(
            "payload", "name is not a KBS resource URI", hint="use kbs:///repository/type/tag"
        ) from error
    return await resources.get(uri)


async def _held(payload: VaultPayload, kms: KmsDirectory) -> Secret:
    try:
        holder = await kms.holder(payload.provider, members_of(payload.provider_settings))
        return await holder.secret(payload.name, members_of(payload.annotations))
    except KmsError as error:
        raise SealedKmsError("vault", error) from error
