"""Which service a sealed secret means: by the name of its provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from kms.errors import KmsRequestError
from kms.places import ALIYUN, KmsPlaces
from kms.ports import JsonMembers, KeyDecrypter, SecretHolder

if TYPE_CHECKING:
    from kms.aliyun.provider import AliyunKms

ABSENT: Final = frozenset({"aws", "ehsm"})  # of the reference, not here


class KmsDirectory:
    """Gives the client for a provider and its settings. Connects to nobody by itself."""

    def __init__(self, places: KmsPlaces | None = None) -> None:
        self._places = places if places is not None else KmsPlaces()
        self._aliyun: AliyunKms | None = None

    async def decrypter(self, provider: str, settings: JsonMembers) -> KeyDecrypter:
        """Raises :class:`~kms.errors.KmsError`; for an unknown provider before anything is read."""
        return await self._known(provider).decrypter(settings)

    async def holder(self, provider: str, settings: JsonMembers) -> SecretHolder:
        """Raises :class:`~kms.errors.KmsError`; for an unknown provider before anything is read."""
        return await self._known(provider).holder(settings)

    def _known(self, provider: str) -> AliyunKms:
        name = provider.lower()
        if name == ALIYUN:
            if self._aliyun is None:
                # Here, because an HTTP client takes a fifth of a second to import.
                from kms.aliyun.provider import AliyunKms

                self._aliyun = AliyunKms(self._places.aliyun, self._places.ca_pem)
            return self._aliyun
        problem = "absent in this implementation" if name in ABSENT else "unknown"
        raise KmsRequestError(provider, problem, hint=f"use {ALIYUN}, or a vault secret of the KBS")
