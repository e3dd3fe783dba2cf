"""``api-server-rest``: the REST server as a process of its own, as kata-agent starts it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from lifecycle.environment import take_environment
from lifecycle.program import program_parser, run_program, spellings
from lifecycle.sources import Given, Source, SourceKind
from rest.config import DEFAULT_AGENT, DEFAULT_BIND, DEFAULT_CDH
from rest.routes import Feature
from rest.serving import serve
from rest.sources import load

NAME: Final = "api-server-rest"
KEYS: Final = ("bind", "features", "cdh_addr", "aa_addr")


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        NAME, "Gives workloads of this guest resources and attestation over loopback HTTP."
    )
    parser.add_argument(
        *spellings("-b", "--bind"),
        metavar="ADDRESS:PORT",
        help=f"loopback address and port (default: {DEFAULT_BIND})",
    )
    parser.add_argument(
        *spellings("-f", "--features"),
        metavar="NAME",
        help=f"{', '.join(Feature)} (default: {Feature.RESOURCE.value})",
    )
    parser.add_argument(
        *spellings("-c", "--cdh_addr"), metavar="URI", help=f"the hub (default: {DEFAULT_CDH})"
    )
    parser.add_argument(
        *spellings("-a", "--aa_addr"), metavar="URI", help=f"the agent (default: {DEFAULT_AGENT})"
    )
    parser.add_argument(
        *spellings("--config", "--config-file"),
        metavar="PATH",
        type=Path,
        help="rules, limits and the above as TOML or JSON; the reference has no such file",
    )
    return parser


def _flags(options: argparse.Namespace) -> Iterator[Given]:
    for key in KEYS:
        value = getattr(options, key)
        if value is not None:
            yield Given(key, value, Source(SourceKind.FLAG, f"--{key}"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 orderly end, 1 failure, 2 usage."""
    environ = take_environment(argv)
    options = _parser().parse_args(argv)
    return run_program(
        NAME,
        options,
        lambda: load(options.config, environ, _flags(options)),
        lambda config: config.log.journal_level,
        serve,
    )


if __name__ == "__main__":
    sys.exit(main())
