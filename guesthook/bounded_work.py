"""Work in a child process under a deadline that holds whatever the host does.

The host answers (or not) every read of a shared directory. A process that waits for it cannot watch
a clock, so the one that decides about the container never touches such a file: it waits for a
child, and kills it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from typing import Final

from guesthook.errors import DeliveryError, HookError, RefusedError, one_line
from guesthook.strict_json import StrictJsonError, parse_object, text_of

_MAX_OUTCOME: Final = 4096  # bytes; an atomic write to a pipe
_UMASK: Final = 0o022


def run_bounded(subject: str, seconds: float, work: Callable[[], None]) -> None:
    """Run ``work`` in a child without standard streams, for ``seconds`` at most.

    Raises :class:`RefusedError` with what ``work`` raised as :class:`HookError`, or
    :class:`DeliveryError` if it took too long (it is killed then) or ended in any other way.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _perform(work, writing)
        finally:
            os._exit(1)
    os.close(writing)
    outcome = None
    try:
        outcome = _read_outcome(reading, seconds)
        if outcome is None:
            raise DeliveryError(subject, f"took longer than {seconds:g} s")
    finally:
        os.close(reading)
        os.kill(child, signal.SIGKILL)  # it has told its outcome, or it is late
        if outcome is not None:
            os.waitpid(child, 0)
    _judge(subject, outcome)


def _perform(work: Callable[[], None], writing: int) -> None:
    """In the child. An error that is none of ours says nothing: its text could hold anything."""
    from secrecy.process import harden_process

    nothing = os.open("/dev/null", os.O_RDWR)
    for stream in range(3):
        # The agent waits until nobody holds its ends of the pipes.
        os.dup2(nothing, stream)
    os.umask(_UMASK)
    harden_process()
    outcome = ["done", ""]
    try:
        work()
    except HookError as error:
        outcome = [error.subject, error.reason]
    import json

    os.write(writing, json.dumps({"subject": outcome[0], "reason": outcome[1]}).encode())


def _read_outcome(reading: int, seconds: float) -> bytes | None:
    """Return what the child wrote, b"" if it ended without; None if it is late."""
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    deadline = time.monotonic() + seconds
    left = seconds
    while left > 0:
        if poll.poll(left * 1000):
            return os.read(reading, _MAX_OUTCOME)
        left = deadline - time.monotonic()
    return None


def _judge(subject: str, outcome: bytes) -> None:
    try:
        table = parse_object(outcome)
        about, reason = text_of(table, "subject"), text_of(table, "reason")
    except StrictJsonError as error:
        raise DeliveryError(subject, "the hook failed in an unexpected way") from error
    if reason or about != "done":
        raise RefusedError(one_line(about), one_line(reason))
