"""The agent's own event log: register and file extended together, or neither.

Order of one event: intent on disk, register extended, record appended, intent removed. A crash
at any point leaves an intent from which :meth:`EventLogWriter.open` finishes the event. The
register decides what has happened, since extending is not idempotent and its answer may be lost.
Everything here blocks; callers use a thread. Source: guest-components, attestation-agent
``eventlog`` (files and record form; the intent's form is our own).
"""

from __future__ import annotations

import fcntl
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from agent.errors import LogDivergedError, MeasurementLogError
from agent.intent import MAX_INTENT_BYTES, Intent
from agent.measured_event import MeasuredEvent
from secrecy.journal import get_logger
from tdx.errors import EventLogError, MeasurementBusyError, MeasurementError, errno_text
from tdx.eventlog import parse_events
from tdx.replay import rtmr_of

log = get_logger("agent")

LOG_NAME: Final = "eventlog"
INTENT_NAME: Final = ".wal_event_entry"
BUSY_PAUSES_SECONDS: Final = (0.02, 0.05, 0.1, 0.2)  # other TDCALLs take microseconds
MAX_LOG_BYTES: Final = 512 * 1024  # boot log and this one must stay under a verifier's 1 MiB
RESTART_HINT: Final = "log and register agree again after a reboot of this guest only"


class Registers(Protocol):
    """The run-time measurement registers."""

    def read_rtmr(self, rtmr: int) -> bytes:
        """Return 48 bytes. Raises :class:`~tdx.errors.MeasurementError`."""

    def extend(self, rtmr: int, digest: bytes) -> None:
        """Extend once. Raises :class:`~tdx.errors.MeasurementError`."""


class EventLogWriter:
    """The only writer of one log directory. Close it to let another one in."""

    def __init__(
        self,
        directory: Path,
        registers: Registers,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._directory = directory
        self._log_path = directory / LOG_NAME
        self._intent_path = directory / INTENT_NAME
        self._registers = registers
        self._sleep = sleep
        self._lock = threading.Lock()
        self._fd = -1
        self._size = 0
        self._unfinished = False
        self.events = 0

    def open(self) -> None:
        """Open the log, finish what a crash interrupted, and check that every record parses.

        Raises :class:`MeasurementLogError`, :class:`LogDivergedError` if a register moved in a
        way no intent explains, and :class:`~tdx.errors.MeasurementError`.
        """
        with self._lock, self._step("open", self._log_path):
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._fd = os.open(self._log_path, flags, 0o600)
            try:
                self._claim()
                self._finish_intent()
                self._count_events()
            except BaseException:  # cleaned up and passed on, cancellation included
                self._close()
                raise

    def close(self) -> None:
        """Close the log and give up the claim on it, after an event under way. Idempotent."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def append(self, event: MeasuredEvent, register: int) -> None:
        """Extend a log register (1 to 4) by the event and log it.

        On an error before the register moved, nothing has happened. On one after it, the intent
        stays, and the next call or start finishes the event first. Raises as :meth:`open`.
        """
        with self._lock, self._step("append to", self._log_path):
            if self._unfinished:
                self._finish_intent()
            before = self._registers.read_rtmr(rtmr_of(register))
            intent = Intent.planned(event.record(register), before, self._size)
            if self._size + len(intent.record) > MAX_LOG_BYTES:
                problem = f"the log would exceed {MAX_LOG_BYTES} bytes"
                raise MeasurementLogError("append to", str(self._log_path), problem)
            self._write_intent(intent)
            self._unfinished = True
            self._carry_out(intent)
            self.events += 1

    def records(self) -> bytes:
        """Return all records as they are in the file: whole events only."""
        with self._lock, self._step("read", self._log_path):
            return self._read_log()

    def _carry_out(self, intent: Intent) -> None:
        """Move the register if it has not moved yet, write the record, remove the intent."""
        now = self._registers.read_rtmr(intent.rtmr)
        if now == intent.before:
            failure = self._extend(intent)
            now = self._registers.read_rtmr(intent.rtmr)
            if now == intent.before:
                # Known not to have happened: take the intent back and report.
                self._remove_intent()
                path = str(self._log_path)
                lost = MeasurementLogError("measure for", path, "the extension had no effect")
                raise failure or lost
        if now != intent.after:
            path = str(self._log_path)
            raise LogDivergedError(path, intent.rtmr, expected=intent.after, got=now)
        self._write_record(intent)
        self._remove_intent()

    def _extend(self, intent: Intent) -> MeasurementError | None:
        """Extend; return the error instead of raising, as the register may have moved anyway.

        A busy module is asked again, but only after a look that the register has not moved.
        """
        for pause in (*BUSY_PAUSES_SECONDS, 0.0):
            try:
                self._registers.extend(intent.rtmr, intent.digest)
            except MeasurementBusyError as error:
                if not pause or self._registers.read_rtmr(intent.rtmr) != intent.before:
                    return error
                self._sleep(pause)
            except MeasurementError as error:
                return error
            else:
                break
        return None

    def _write_record(self, intent: Intent) -> None:
        # Whatever a crash left behind the offset is a part of this same record.
        os.ftruncate(self._fd, intent.offset)
        _write_all(self._fd, intent.record, intent.offset)
        os.fsync(self._fd)
        self._size = intent.offset + len(intent.record)

    def _write_intent(self, intent: Intent) -> None:
        """Make the intent appear whole or not at all, and durable."""
        temporary = self._intent_path.with_suffix(".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(temporary, flags, 0o600)
        try:
            _write_all(fd, intent.encode(), 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, self._intent_path)
        self._sync_directory()

    def _remove_intent(self) -> None:
        os.unlink(self._intent_path)
        self._sync_directory()
        self._unfinished = False

    def _finish_intent(self) -> None:
        self._size = os.fstat(self._fd).st_size
        try:
            with self._intent_path.open("rb") as file:
                data = file.read(MAX_INTENT_BYTES + 1)
        except FileNotFoundError:
            self._unfinished = False
            return
        try:
            if len(data) > MAX_INTENT_BYTES:
                raise ValueError(f"larger than {MAX_INTENT_BYTES} bytes")
            intent = Intent.decode(data)
        except ValueError as error:
            problem = f"not an intent of this agent: {str(error)[:120]}"
            path = str(self._intent_path)
            raise MeasurementLogError("recover from", path, problem, hint=RESTART_HINT) from error
        if self._size < intent.offset:
            problem = f"expected at least {intent.offset} bytes, got {self._size}"
            raise MeasurementLogError("recover", str(self._log_path), problem, hint=RESTART_HINT)
        log.warning("finishing an interrupted event", rtmr=intent.rtmr, offset=intent.offset)
        self._unfinished = True
        self._carry_out(intent)

    def _count_events(self) -> None:
        try:
            self.events = len(parse_events(self._read_log()))
        except EventLogError as error:
            raise MeasurementLogError(
                "open", str(self._log_path), error.problem, hint=RESTART_HINT
            ) from error

    def _read_log(self) -> bytes:
        if self._size > MAX_LOG_BYTES:
            problem = f"larger than {MAX_LOG_BYTES} bytes"
            raise MeasurementLogError("read", str(self._log_path), problem)
        content = bytearray()
        while chunk := os.pread(self._fd, self._size - len(content), len(content)):
            content += chunk
        if len(content) != self._size:
            problem = f"expected {self._size} bytes, got {len(content)}"
            raise MeasurementLogError("read", str(self._log_path), problem)
        return bytes(content)

    def _claim(self) -> None:
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise MeasurementLogError("open", str(self._log_path), "not a regular file")
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MeasurementLogError(
                "open",
                str(self._log_path),
                "another process writes this log",
                hint="run one attestation agent only, or configure another directory",
            ) from error
        with suppress(FileNotFoundError):
            os.unlink(self._intent_path.with_suffix(".new"))

    def _sync_directory(self) -> None:
        fd = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    @contextmanager
    def _step(self, attempted: str, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            problem = errno_text(error.errno or 0)
            raise MeasurementLogError(attempted, str(path), problem) from error


def _write_all(fd: int, data: bytes, offset: int) -> None:
    written = 0
    while written < len(data):
        written += os.pwrite(fd, data[written:], offset + written)
