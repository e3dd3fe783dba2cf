"""Structured logs that redact by type and stay quiet by default.

The console of a confidential guest belongs to the host, so the default level is ``warning`` and
a record holds only what was passed by keyword: a :class:`~secrecy.secret.Secret` shows as a fixed
text, bytes as their length, long texts are cut. Records are single JSON lines on stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO, cast

import msgspec
import structlog

from secrecy.secret import REDACTED, Secret

MAX_TEXT: Final = 512  # characters of one value; peer text beyond this is cut
MAX_DEPTH: Final = 4
MAX_ITEMS: Final = 32
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _redact(value: object, depth: int = 0) -> object:  # noqa: PLR0911 - one line per type
    """Return what may be written for ``value``. Unknown types show their name, never ``repr``."""
    if isinstance(value, Secret):
        return REDACTED
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, BaseException):
        return _redact(f"{type(value).__name__}: {value}", depth)
    if depth >= MAX_DEPTH:
        return f"<{type(value).__name__}>"
    if isinstance(value, Mapping):
        return {str(k): _redact(v, depth + 1) for k, v in list(value.items())[:MAX_ITEMS]}
    if isinstance(value, Sequence | set | frozenset):
        return [_redact(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
    return f"<{type(value).__name__}>"


def _redact_event(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {key: _redact(value) for key, value in event.items()}


def _render(_logger: object, _method: str, event: structlog.typing.EventDict) -> str:
    return msgspec.json.encode(event).decode()


class _CurrentStderr:
    """Looks ``sys.stderr`` up at each write, so that redirection after start-up is honoured."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _LibraryHandler(logging.Handler):
    """Warnings of libraries, by logger name and message template only.

    Their arguments may hold headers, tokens or strings to sign, so they are not rendered.
    """

    def emit(self, record: logging.LogRecord) -> None:
        template = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
        get_logger(record.name).warning("library", template=template, line=record.lineno)


def configure_logging(level: str = "warning", stream: TextIO | None = None) -> None:
    """Set up logging for this process. Raises ``ValueError`` on an unknown level.

    Libraries (aiohttp, oss2, asyncio) are held at ``warning`` whatever ``level`` says: at debug
    level they write authorization headers and strings to sign.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is unknown; choose one of {', '.join(LEVELS)}")
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact_event,
            _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(
            file=stream if stream is not None else cast("TextIO", _CurrentStderr())
        ),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_LibraryHandler()]
    root.setLevel(logging.WARNING)
    # oss2 sets its own logger to INFO at import.
    logging.getLogger("oss2").setLevel(logging.WARNING)


def place_of(error: BaseException) -> str:
    """Return function and line of the innermost frame, which give away no content."""
    trace = error.__traceback__
    place = "unknown"
    while trace is not None:
        code = trace.tb_frame.f_code
        place = f"{code.co_name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def get_logger(component: str) -> Any:
    """Return the logger of one component. Call it at module level; configuration may come later."""
    return structlog.get_logger(component=component)
