"""Entry point of ``cguestd``: where the configuration is, which services, nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

from cguestd.compose import serve
from cguestd.config import ALL_SERVICES, CguestdConfig, Service
from cguestd.reloading import Rereading
from cguestd.settings import examine, load
from lifecycle.environment import take_environment
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program import announce, program_parser, run_program, spellings
from lifecycle.sources import Settings
from secrecy.journal import configure_logging

NAME: Final = "cguestd"


def services_of(text: str) -> tuple[Service, ...]:
    """Parse ``agent,hub,rest``. Raises ``argparse.ArgumentTypeError`` on an unknown name."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in names if name not in ALL_SERVICES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"{text!r}: choose from {', '.join(ALL_SERVICES)}, separated by commas"
        )
    return cast("tuple[Service, ...]", names)


def build_parser() -> argparse.ArgumentParser:
    parser = program_parser(
        NAME, "Attestation agent, confidential data hub and REST server in one process."
    )
    parser.add_argument(
        *spellings("-c", "--config", "--config-file"),
        type=Path,
        metavar="PATH",
        help="TOML or JSON file with the tables agent, cdh, rest, log, metrics, receipts",
    )
    parser.add_argument(
        "--services",
        type=services_of,
        default=ALL_SERVICES,
        metavar="LIST",
        help="which to run, separated by commas (default: agent,hub,rest)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after an orderly end, 1 when it could not start or failed, 2 on wrong usage."""
    environ = take_environment(argv)
    options = build_parser().parse_args(argv)

    def read() -> Settings[CguestdConfig]:
        return load(options.config, environ, KernelCommandLine.read())

    def apply(settings: Settings[CguestdConfig]) -> None:
        configure_logging(options.log_level or settings.value.log.journal_level)
        announce(settings)

    return run_program(
        NAME,
        options,
        read,
        lambda config: config.log.journal_level,
        lambda config, shutdown: serve(config, options.services, shutdown, Rereading(read, apply)),
        examine=examine,
    )


if __name__ == "__main__":
    sys.exit(main())
