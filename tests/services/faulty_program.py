"""One of our programs whose background work fails at SIGUSR1: ``faulty_program agent|cdh …``.

The fault goes in where a real one would: into a task that runs beside the calls. Everything else
is the program as it is.
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from typing import Any

from cdh.credentials import CredentialFiles
from kbs import SessionKeeper

CANARY = "secret-in-an-exception"


async def _fail_when_told(_self: Any) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, told.set)
    await told.wait()
    raise RuntimeError(CANARY)


if __name__ == "__main__":
    CredentialFiles.run = _fail_when_told  # type: ignore[method-assign,assignment]
    SessionKeeper.keep_fresh = _fail_when_told  # type: ignore[method-assign,assignment]
    sys.exit(importlib.import_module(f"{sys.argv.pop(1)}.__main__").main())
