"""The data hub, as the hook uses it: connected with the first call, every call under a deadline.

Replies that say no become :class:`~guesthook.errors.RefusedError` with the hub's text, which never
holds secrets.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Final, Self, TypeVar

from guesthook.errors import RefusedError
from protos.stubs import ContainerStub, MountStub, SealedSecretStub, SecureMountStub
from secrecy import Secret
from ttrpc import Client, StatusError, TtrpcError

CONNECT_SECONDS: Final = 2.0
OSS: Final = "alibaba-cloud-oss"
T = TypeVar("T")


class Hub:
    """One connection, made when it is first needed. ``deadline`` is on the loop's clock."""

    def __init__(self, socket: str, deadline: float) -> None:
        self._socket = socket
        self._deadline = deadline
        self._client: Client | None = None

    async def unseal(self, subject: str, sealed: bytes) -> Secret:
        """Return the plaintext. Raises :class:`RefusedError`."""
        stub = SealedSecretStub(await self._connected(subject))
        reply = await _answer(subject, stub.unseal_secret(sealed, timeout_s=self._left()))
        return Secret(reply.plaintext)

    async def mount(self, subject: str, options: Mapping[str, str], mount_point: str) -> None:
        """Mount a bucket in the guest. Raises :class:`RefusedError`."""
        stub = SecureMountStub(await self._connected(subject))
        await _answer(
            subject, stub.secure_mount(OSS, options, (), mount_point, timeout_s=self._left())
        )

    async def unmount_below(self, subject: str, directory: str) -> None:
        """Unmount everything the hub mounted below ``directory``, and remove that.

        Raises :class:`RefusedError`.
        """
        stub = MountStub(await self._connected(subject))
        mounts = (await _answer(subject, stub.list_mounts(timeout_s=self._left()))).mounts
        for mount in reversed(mounts):  # who came first may have made the others' parents
            if mount.mount_point.startswith(directory + "/"):
                await _answer(subject, stub.unmount(mount.mount_point, timeout_s=self._left()))
        with suppress(OSError):  # gone with the last mount, if the hub made it
            os.rmdir(directory)

    async def report(self, container_id: str, subject: str, reason: str) -> None:
        """Tell why a container was stopped. Raises :class:`RefusedError`."""
        stub = ContainerStub(await self._connected(subject))
        await _answer(
            subject, stub.report_refusal(container_id, subject, reason, timeout_s=self._left())
        )

    async def _connected(self, subject: str) -> Client:
        if self._client is None:
            timeout = min(CONNECT_SECONDS, self._left())
            self._client = await _answer(subject, Client.connect(self._socket, timeout_s=timeout))
        return self._client

    def _left(self) -> float:
        return max(self._deadline - asyncio.get_running_loop().time(), 0.001)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.aclose()


async def _answer(subject: str, call: Awaitable[T]) -> T:
    try:
        return await call
    except StatusError as error:
        raise RefusedError(subject, error.message) from error
    except TtrpcError as error:
        raise RefusedError(subject, f"data hub: {error}") from error
