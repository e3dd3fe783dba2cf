"""What the agent asks of whoever makes evidence: the TEE, and further devices of this guest."""

from __future__ import annotations

from typing import Protocol


class Attester(Protocol):
    """The TEE that this guest runs in."""

    @property
    def tee(self) -> str:
        """Its name in the KBS protocol."""

    @property
    def quotes_taken(self) -> int:
        """How many quotes the host has made for us."""

    async def evidence(self, runtime_data: bytes, *, timeout_s: float | None = None) -> bytes:
        """Return evidence JSON that carries ``runtime_data``, at most 64 bytes.

        Raises :class:`~agent.errors.AgentError` or :class:`~tdx.errors.TdxError`.
        """


class DeviceAttester(Protocol):
    """One device that can prove what it is; a module of :mod:`agent.devices` for each kind."""

    @property
    def name(self) -> str:
        """Its name in the KBS protocol, such as ``nvidia``."""

    async def evidence(self, runtime_data: bytes) -> bytes:
        """Return evidence, a JSON value, that carries ``runtime_data``.

        The caller bounds the time by cancelling. Raises :class:`~agent.errors.AgentError`.
        """
