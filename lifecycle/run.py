"""The root of a service process: signals to an orderly end, one exit code, no orphaned tasks."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable

import uvloop

from lifecycle.console import detach
from lifecycle.errors import LifecycleError
from secrecy.journal import get_logger, place_of
from secrecy.process import harden_process, lock_memory

log = get_logger("lifecycle")
EXIT_OK = 0
EXIT_FAILED = 1


class Shutdown:
    """Set once, by the first SIGTERM or SIGINT; a second signal ends the process the hard way.

    SIGHUP does the same until :meth:`take_hangups` is called.
    """

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._hangup = asyncio.Event()
        self._takes_hangups = False

    def request(self, reason: str) -> None:
        """Ask for an orderly end. Idempotent."""
        if not self._event.is_set():
            log.info("stopping", reason=reason)
            self._event.set()

    async def wait(self) -> None:
        """Return when the end has been requested."""
        await self._event.wait()

    def take_hangups(self) -> None:
        """From now on SIGHUP is what :meth:`next_hangup` waits for, and no end."""
        self._takes_hangups = True

    async def next_hangup(self) -> None:
        """Return at the next SIGHUP, or at once after those that came since the last time."""
        await self._hangup.wait()
        self._hangup.clear()

    def hang_up(self) -> bool:
        """Note a SIGHUP; return whether somebody takes it."""
        if self._takes_hangups:
            self._hangup.set()
        return self._takes_hangups


def _install(loop: asyncio.AbstractEventLoop, shutdown: Shutdown) -> None:
    def on_signal(number: signal.Signals) -> None:
        if number == signal.SIGHUP and shutdown.hang_up():
            return
        shutdown.request(number.name)
        loop.remove_signal_handler(number)

    # SIGHUP ends the reference components as well; without a terminal nothing else sends it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal, number)


def _report(kind: str, error: BaseException | None) -> None:
    """Log what nobody has caught, by type and place: its text may hold what the code worked on."""
    if error is None:
        log.error("unhandled", by=kind)
    else:
        log.error("unhandled", by=kind, error=type(error).__name__, place=place_of(error))


def _report_unhandled(loop: asyncio.AbstractEventLoop) -> None:
    """Take the place of the interpreter's reports, which print source lines and values."""
    loop.set_exception_handler(lambda _loop, context: _report("task", context.get("exception")))
    threading.excepthook = lambda args: _report("thread", args.exc_value)
    sys.unraisablehook = lambda args: _report("finalizer", args.exc_value)


def first_cause(error: BaseException) -> BaseException:
    """Return the first leaf of nested exception groups: what an operator wants to read."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def run_service(main: Callable[[Shutdown], Awaitable[None]]) -> int:
    """Run ``main`` until it returns; return the process's exit code.

    ``main`` gets a :class:`Shutdown` and returns after draining. An error of ours is one line on
    stderr; an unexpected one is logged by type and place, never with its arguments, because the
    console is the host's. An error in a task, thread or finalizer that nobody waits for is logged
    likewise and ends nothing. Nothing is read from stdin or printed on stdout from here on.
    """
    detach()
    harden_process()
    if not lock_memory():
        log.info("memory is not locked", hint="give CAP_IPC_LOCK or LimitMEMLOCK=infinity")

    async def root() -> None:
        shutdown = Shutdown()
        _install(asyncio.get_running_loop(), shutdown)
        _report_unhandled(asyncio.get_running_loop())
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
            place = place_of(cause)
            log.error("failed", error=type(cause).__name__, place=place)  # noqa: TRY400
        return EXIT_FAILED
    return EXIT_OK
