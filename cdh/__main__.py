"""``confidential-data-hub``: the hub as a process of its own, as kata-agent starts it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cdh.config import DEFAULT_SOCKET
from cdh.serving import serve
from cdh.settings import examine, load
from lifecycle.environment import take_environment
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program import program_parser, run_program, spellings
from lifecycle.sources import Given, Source, SourceKind

NAME: Final = "confidential-data-hub"


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        NAME, "Serves resources, sealed secrets and secure mounts to the pod over ttRPC."
    )
    parser.add_argument(
        *spellings("-c", "--config", "--config-file"),
        type=Path,
        metavar="PATH",
        help="cdh.toml or cdh.json",
    )
    parser.add_argument(
        *spellings("-s", "--socket"),
        metavar="ADDRESS",
        help=f"unix:///path to listen on, or 127.0.0.1:PORT for gRPC (default: {DEFAULT_SOCKET})",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 orderly end, 1 failure, 2 usage."""
    environ = take_environment(argv)
    options = _parser().parse_args(argv)
    flags = []
    if options.socket is not None:
        flags.append(Given("socket", options.socket, Source(SourceKind.FLAG, "--socket")))
    return run_program(
        NAME,
        options,
        lambda: load(options.config, environ, KernelCommandLine.read(), flags),
        lambda config: config.log.journal_level,
        serve,
        examine=examine,
    )


if __name__ == "__main__":
    sys.exit(main())
