"""One report entry from mkdir to rmdir: the read protocol of configfs-tsm, blocking.

Everything here runs in the thread that owns the entry. The entry name is unique, the write
counter (``generation``) shows a rival writer, and the quote's own report data is compared at the
end: the only end-to-end check that a guest can make for itself.
Source: Linux Documentation/ABI/testing/configfs-tsm-report.
"""

from __future__ import annotations

import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, Self

from secrecy.journal import get_logger
from tdx.errno_meaning import tsm_error
from tdx.errors import (
    TsmGenerationError,
    TsmHostError,
    TsmIoError,
    TsmProviderError,
)
from tdx.quote import MAX_BYTES, MIN_BYTES, Quote
from tdx.quote_source import bound_quote
from tdx.report_data import ReportData
from tdx.tsm import TsmFilesystem

log = get_logger("tdx")

PREFIX: Final = "cguest-"
PROVIDER_TDX: Final = "tdx_guest"
TEXT_BYTES: Final = 4096  # text attributes are at most one page
MAX_AUXILIARY_BYTES: Final = 1024 * 1024  # certificate tables have some 10 KiB
NAME_ATTEMPTS: Final = 8
RMDIR_ATTEMPTS: Final = 5
STORE_POLLS: Final = 50
STORE_POLL_SECONDS: Final = 0.01
NO_QUOTE_HINT: Final = "the host's quote generation service failed; look at the host"


class TsmReport:
    """A report entry of ours. Use as a context manager; leaving it removes the entry."""

    def __init__(self, tsm: TsmFilesystem, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._tsm = tsm
        self._sleep = sleep
        self._stores = 0  # ours, as generation must count them
        self.name = ""

    def __enter__(self) -> Self:
        for _ in range(NAME_ATTEMPTS):
            # The process id lets a later start tell a leftover from an entry in use.
            name = f"{PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
            try:
                self._tsm.mkdir(name)
            except FileExistsError:
                continue
            except OSError as error:
                raise tsm_error("create", self._tsm.describe(name), error) from error
            self.name = name
            return self
        raise TsmIoError("create", self._tsm.describe(PREFIX), "every name tried is taken")

    def __exit__(self, *_: object) -> None:
        self._remove()

    def _remove(self) -> None:
        for attempt in range(RMDIR_ATTEMPTS):
            try:
                self._tsm.rmdir(self.name)
            except InterruptedError:
                continue
            except OSError as error:
                # The quote, or the error that ended the try, matters more than the leftover.
                log.warning(
                    "entry not removed", entry=self.name, errno=error.errno, attempt=attempt
                )
            return
        log.warning("entry not removed", entry=self.name, errno=errno.EINTR)

    @contextmanager
    def _step(self, attempted: str, attribute: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            # It was there a moment ago: mkdir made it.
            path = self._tsm.describe(self.name, attribute)
            hint = "another root process removes entries below tsm/report"
            raise TsmIoError(attempted, path, "the entry has vanished", hint=hint) from error
        except OSError as error:
            path = self._tsm.describe(self.name, attribute)
            raise tsm_error(attempted, path, error) from error

    def _text(self, attribute: str) -> str:
        with self._step("read", attribute):
            return self._tsm.read(self.name, attribute, TEXT_BYTES).decode("ascii", "replace")

    def provider(self) -> str:
        """Return the TEE technology behind the interface, without the final line feed."""
        return self._text("provider").removesuffix("\n")

    def require_provider(self, expected: str) -> None:
        """Raises :class:`TsmProviderError` unless the provider is ``expected``."""
        got = self.provider()
        if got != expected:
            path = self._tsm.describe(self.name, "provider")
            raise TsmProviderError(path, expected=expected, got=got)

    def generation(self) -> int:
        """Return the write counter: 0 in a new entry, plus 1 for each store."""
        text = self._text("generation").removesuffix("\n")
        if not (text.isascii() and text.isdecimal() and len(text) <= 20):
            raise self._wrong_generation("a decimal number", text)
        return int(text)

    def _wrong_generation(self, expected: object, got: object) -> TsmGenerationError:
        path = self._tsm.describe(self.name, "generation")
        return TsmGenerationError(path, expected=str(expected), got=str(got))

    def _write(self, attribute: str, content: bytes) -> None:
        with self._step("write", attribute):
            count = self._tsm.write(self.name, attribute, content)
        if count != len(content):
            path = self._tsm.describe(self.name, attribute)
            problem = f"expected {len(content)} bytes to be taken, got {count}"
            raise TsmIoError("write", path, problem)

    def _counted(self) -> int:
        """Wait until our last store is counted; return the counter, which then is the stores'."""
        self._stores += 1
        for _ in range(STORE_POLLS):
            after = self.generation()
            if after == self._stores:
                return after
            if after != self._stores - 1:
                break
            self._sleep(STORE_POLL_SECONDS)
        raise self._wrong_generation(self._stores, self.generation())

    def store(self, report_data: ReportData) -> int:
        """Write the report data once and wait until the store is counted. Return generation.

        The store happens at the last close of the file and cannot report an error, so the
        counter is the only witness.
        """
        before = self.generation()
        if before != self._stores:
            raise self._wrong_generation(self._stores, before)
        self._write("inblob", report_data.value)
        return self._counted()

    def privilege_floor(self) -> int | None:
        """Return the lowest level that :meth:`set_privilege` takes; None: there are no levels."""
        blob = self._optional("privlevel_floor", TEXT_BYTES)
        if blob is None:
            return None
        text = blob.decode("ascii", "replace").removesuffix("\n")
        if not (text.isascii() and text.isdecimal() and len(text) <= 3):
            path = self._tsm.describe(self.name, "privlevel_floor")
            raise TsmIoError("read", path, f"expected a level, got {text[:32]!r}")
        return int(text)

    def set_privilege(self, level: int) -> None:
        """Ask for the report of a privilege level (VMPL). Counts as a store.

        Only providers with :meth:`privilege_floor` have levels. Raises :class:`TsmError`, with
        EINVAL for a level outside floor to 3.
        """
        self._write("privlevel", b"%d\n" % level)
        self._counted()

    def certificates(self) -> bytes | None:
        """Return ``auxblob``, the certificates that belong to the report; None: not offered."""
        return self._optional("auxblob", MAX_AUXILIARY_BYTES)

    def manifest(self) -> bytes | None:
        """Return ``manifestblob``, the services behind the report; None: not offered."""
        return self._optional("manifestblob", MAX_AUXILIARY_BYTES)

    def _optional(self, attribute: str, limit: int) -> bytes | None:
        """Read an attribute that some providers lack. As a quote, it may be made by reading it."""
        try:
            return self._tsm.read(self.name, attribute, limit)
        except FileNotFoundError:
            # Absent only if the entry itself is still there; otherwise that is the error.
            self.generation()
            return None
        except OSError as error:
            path = self._tsm.describe(self.name, attribute)
            raise tsm_error("read", path, error) from error

    def quote(self, report_data: ReportData) -> Quote:
        """Take a quote bound to ``report_data``: write, read, and all the checks.

        Blocks while the host makes the quote, about a second on a stock kernel and up to 30 s.
        Raises :class:`TsmError`, :class:`QuoteFormatError` or :class:`QuoteBindingError`.
        """
        stored = self.store(report_data)
        with self._step("read", "outblob"):
            blob = self._tsm.read(self.name, "outblob", MAX_BYTES)
        after = self.generation()
        if after != stored:
            raise self._wrong_generation(stored, after)
        if len(blob) < min(MIN_BYTES.values()):
            # Older kernels report a failed host as success with an empty blob.
            path = self._tsm.describe(self.name, "outblob")
            problem = f"expected at least {min(MIN_BYTES.values())} bytes of quote, got {len(blob)}"
            raise TsmHostError("read", path, problem, hint=NO_QUOTE_HINT)
        return bound_quote(blob, report_data)


class TsmQuoteSource:
    """Implements :class:`~tdx.quote_source.QuoteSource`: one new entry for each try."""

    def __init__(
        self,
        tsm: TsmFilesystem,
        *,
        provider: str = PROVIDER_TDX,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._tsm = tsm
        self._provider = provider
        self._sleep = sleep

    def describe(self) -> str:
        return self._tsm.describe("")

    def take(self, report_data: ReportData) -> Quote:
        """See :class:`~tdx.quote_source.QuoteSource`. The kernel bounds the wait."""
        with TsmReport(self._tsm, sleep=self._sleep) as report:
            report.require_provider(self._provider)
            return report.quote(report_data)


def read_provider(tsm: TsmFilesystem) -> str:
    """Return the provider of the report interface; leaves no entry behind. Raises TsmError."""
    with TsmReport(tsm) as report:
        return report.provider()


def sweep_entries(tsm: TsmFilesystem, *, alive: Callable[[int], bool] | None = None) -> list[str]:
    """Remove entries of ours whose process is gone; return their names.

    An entry outlives a killed owner until the next boot. Entries of other programs, and of live
    processes of ours, stay. Raises :class:`TsmError` when the directory cannot be listed.
    """
    alive = alive or _process_exists
    try:
        names = tsm.entries()
    except OSError as error:
        raise tsm_error("list", tsm.describe(""), error) from error
    removed = []
    for name in names:
        owner, _, rest = name.removeprefix(PREFIX).partition("-")
        if not name.startswith(PREFIX) or not rest or not owner.isdecimal() or alive(int(owner)):
            continue
        try:
            tsm.rmdir(name)
        except OSError as error:
            log.warning("stale entry not removed", entry=name, errno=error.errno)
        else:
            removed.append(name)
    return removed


def _process_exists(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")
