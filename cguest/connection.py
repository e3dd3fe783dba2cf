"""One ttRPC connection for one command, and what its failures mean to an operator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from lifecycle import UnixAddress
from ttrpc import Client, StatusError, TtrpcError

CONNECT_SECONDS: Final = 5.0


class CommandError(Exception):
    """The command could not be carried out: what was attempted, why, and what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class RefusedError(Exception):
    """Somebody who may decide said no: the key broker, its policy, or a check in the guest."""


@asynccontextmanager
async def connect(address: UnixAddress, service: str) -> AsyncIterator[Client]:
    """Connect to ``address``. Raises :class:`CommandError` and :class:`RefusedError`.

    A daemon that answers with an error is told apart by what it says, not by its code: the
    reference's codes are the same for both.
    """
    try:
        client = await Client.connect(address.path, timeout_s=CONNECT_SECONDS)
    except TtrpcError as error:
        raise CommandError(
            f"connecting to the {service}: {error}",
            hint="is cguestd running, and is this the configuration it was started with?",
        ) from error
    async with client:
        try:
            yield client
        except StatusError as error:
            if error.refused:
                raise RefusedError(error.message) from error
            raise CommandError(error.message) from error
        except TtrpcError as error:
            raise CommandError(f"asking the {service}: {error}") from error
