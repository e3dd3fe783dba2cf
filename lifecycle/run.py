"""The root of a service process: signals to an orderly end, one exit code, no orphaned tasks."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from lifecycle.errors import LifecycleError
from secrecy.journal import get_logger
from secrecy.process import harden_process, lock_memory

log = get_logger("lifecycle")
EXIT_OK = 0
EXIT_FAILED = 1


class Shutdown:
    """Set once, by the first SIGTERM or SIGINT; a second signal ends the process the hard way."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def request(self, reason: str) -> None:
        """Ask for an orderly end. Idempotent."""
        if not self._event.is_set():
            log.info("stopping", reason=reason)
            self._event.set()

    async def wait(self) -> None:
        """Return when the end has been requested."""
        await self._event.wait()


def _install(loop: asyncio.AbstractEventLoop, shutdown: Shutdown) -> None:
    def on_signal(number: signal.Signals) -> None:
        shutdown.request(number.name)
        loop.remove_signal_handler(number)

    # SIGHUP ends the reference components as well; without a terminal nothing else sends it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)


def first_cause(error: BaseException) -> BaseException:
    """Return the first leaf of nested exception groups: what an operator wants to read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run_service(main: Callable[[Shutdown], Awaitable[None]]) -> int:
    """Run ``main`` until it returns; return the process's exit code.

    ``main`` gets a :class:`Shutdown` and returns after draining. An error of ours is one line on
    stderr; an unexpected one is logged by type and place, never with its arguments, because the
    console is the host's.
    """
    harden_process()
    if not lock_memory():
        log.info("memory is not locked", hint="give CAP_IPC_LOCK or LimitMEMLOCK=infinity")

    async def root() -> None:
        shutdown = Shutdown()
        _install(asyncio.get_running_loop(), shutdown)
        await main(shutdown)

    try:
        uvloop.run(root())
    except BaseException as error:
        cause = first_cause(error)
        if isinstance(cause, LifecycleError) or hasattr(cause, "hint"):
            sys.stderr.write(f"{cause}\n")
        elif isinstance(cause, KeyboardInterrupt | SystemExit):
            raise
        else:
            place = _place(cause)
            log.error("failed", error=type(cause).__name__, place=place)  # noqa: TRY400
        return EXIT_FAILED
    return EXIT_OK


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    place = "unknown"
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place
