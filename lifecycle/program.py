"""What the programs have in common before they serve: flags, checking, printing, exit codes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

import msgspec

from lifecycle.describe import describe, weakening_lines
from lifecycle.errors import LifecycleError
from lifecycle.run import EXIT_FAILED, EXIT_OK, Shutdown, run_service
from lifecycle.sources import Settings
from secrecy.journal import LEVELS, configure_logging, get_logger

log = get_logger("lifecycle")
T = TypeVar("T", bound=msgspec.Struct)
DISTRIBUTION: Final = "confidential-guest"
EPILOG: Final = (
    "Flags win over the configuration file, the file over environment and kernel command line."
    " Every key, variable and parameter: docs/configuration.md."
)


def spellings(*names: str) -> tuple[str, ...]:
    """Return ``names`` with each long one in dashes and in underscores as well.

    The reference mixes both, and its help texts show others than its code.
    """
    found: dict[str, None] = {}
    for name in names:
        found[name] = None
        if name.startswith("--"):
            word = name[2:]
            found |= {f"--{word.replace('_', '-')}": None, f"--{word.replace('-', '_')}": None}
    return tuple(found)


def program_parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags that every program has. Wrong usage exits with 2."""
    parser = argparse.ArgumentParser(
        prog=name, description=description, epilog=EPILOG, allow_abbrev=False
    )
    group = parser.add_argument_group("configuration")
    group.add_argument(
        *spellings("--check-config"),
        action="store_true",
        help="read every source, say what weakens security, then exit with 0 or 1",
    )
    group.add_argument(
        *spellings("--print-config"),
        action="store_true",
        help="the same, and print each value with its source; secrets are not shown",
    )
    group.add_argument(
        *spellings("--log-level"),
        choices=tuple(LEVELS),
        help="overrides every other source of the level (default: warning)",
    )
    group.add_argument("-V", "--version", action=_ShowVersion, nargs=0, help="print it, then exit")
    return parser


class _ShowVersion(argparse.Action):
    """Looks the version up only when asked: that takes some milliseconds of every start."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object, **__: object) -> NoReturn:
        from importlib import metadata  # costs 10 ms of every start otherwise

        try:
            number = metadata.version(DISTRIBUTION)
        except metadata.PackageNotFoundError:
            number = "from sources"
        sys.stdout.write(f"{parser.prog} {number}\n")
        parser.exit()


def run_program(
    name: str,
    options: argparse.Namespace,
    load: Callable[[], Settings[T]],
    level: Callable[[T], str],
    serve: Callable[[T, Shutdown], Awaitable[None]],
    *,
    examine: Callable[[T], None] = lambda _: None,
) -> int:
    """Load, then print, check or serve. Return the exit code: 0, or 1 with one line on stderr.

    ``examine`` is for checking only: it tries what a start would stumble over later.
    """
    try:
        settings = load()
        configure_logging(options.log_level or level(settings.value))
        if options.check_config:
            examine(settings.value)
    except Exception as error:  # the boundary of a program: one line for people
        # Errors of ours carry a hint; anything else is a defect and shows its trace.
        if not isinstance(error, LifecycleError) and not hasattr(error, "hint"):
            raise
        sys.stderr.write(f"{name}: {error}\n")
        return EXIT_FAILED
    if options.print_config:
        sys.stdout.write(describe(settings, name))
        return EXIT_OK
    if options.check_config:
        sys.stdout.write(_verdict(name, settings))
        return EXIT_OK
    announce(settings)
    return run_service(lambda shutdown: serve(settings.value, shutdown))


def announce(settings: Settings[msgspec.Struct]) -> None:
    """Say in the log what has no effect, and what weakens security."""
    for note in settings.notes:
        log.warning("configuration", note=note)
    for line in weakening_lines(settings):
        log.warning("configuration weakens security", key=line)


def _verdict(name: str, settings: Settings[T]) -> str:
    lines = [f"{name}: note: {note}" for note in settings.notes]
    lines += [f"{name}: weakens: {line}" for line in weakening_lines(settings)]
    lines.append(f"{name}: {settings.file or 'built-in defaults'}: configuration is valid")
    return "\n".join(lines) + "\n"
