"""One of our programs with background work that fails when told: ``faulty_program cdh …``.

SIGUSR1 is for the hub's, SIGUSR2 for the agent's. The fault goes in where a real one would: into a
task that runs beside the calls. Everything else is the program as it is.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from cdh.credentials import CredentialFiles
from kbs import SessionKeeper

CANARY = "secret-in-an-exception"


def failing_at(number: signal.Signals) -> Callable[[Any], Coroutine[Any, Any, None]]:
    async def fail_when_told(_self: Any) -> None:
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(number, told.set)
        await told.wait()
        raise RuntimeError(CANARY)

    return fail_when_told


if __name__ == "__main__":
    CredentialFiles.run = failing_at(signal.SIGUSR1)  # type: ignore[method-assign,assignment]
    SessionKeeper.keep_fresh = failing_at(signal.SIGUSR2)  # type: ignore[method-assign,assignment]
    sys.exit(importlib.import_module(f"{sys.argv.pop(1)}.__main__").main())
