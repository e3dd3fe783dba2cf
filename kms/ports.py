"""What sealed secrets need of a key management service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from secrecy import Secret

# Members of a JSON object of a sealed secret, each still as JSON text.
JsonMembers: TypeAlias = Mapping[str, bytes]


class KeyDecrypter(Protocol):
    """A service that keeps keys and opens what was encrypted under them."""

    async def decrypt(self, key_id: str, ciphertext: bytes, annotations: JsonMembers) -> Secret:
        """Return the plaintext of ``ciphertext``, encrypted under ``key_id``.

        Raises :class:`~kms.errors.KmsError`. Cancellation gives the request up.
        """


class SecretHolder(Protocol):
    """A service that keeps secrets by name."""

    async def secret(self, name: str, annotations: JsonMembers) -> Secret:
        """Return the value of the secret ``name``, as bytes.

        Raises :class:`~kms.errors.KmsError`. Cancellation gives the request up.
        """
