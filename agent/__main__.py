"""``attestation-agent``: the agent as a process of its own, under the name kata-agent starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from agent.config import DEFAULT_SOCKET, AgentConfig
from agent.initdata import read_initdata
from agent.serving import serve
from agent.settings import examine, initdata_beside, load
from lifecycle import Shutdown
from lifecycle.environment import take_environment
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program import program_parser, run_program, spellings
from lifecycle.sources import Given, Settings, Source, SourceKind
from tdx.initdata import Initdata

NAME = "attestation-agent"
SOCKETS = {
    "attestation_sock": "socket",
    "keyprovider_sock": "keyprovider_socket",
    "getresource_sock": "getresource_socket",
}


def _parser() -> argparse.ArgumentParser:
    parser = program_parser(
        NAME, "Attests this TD to a Key Broker Service and measures runtime events."
    )
    parser.add_argument(
        *spellings("-a", "--attestation_sock"),
        metavar="ADDRESS",
        help=f"unix:///path to listen on, or 127.0.0.1:PORT for gRPC (default: {DEFAULT_SOCKET})",
    )
    parser.add_argument(
        *spellings("-c", "--config-file", "--config"),
        metavar="PATH",
        type=Path,
        help="aa.toml or aa.json",
    )
    parser.add_argument(
        *spellings("-t", "--initdata-toml"),
        metavar="PATH",
        type=Path,
        help="refuse to start unless MRCONFIGID holds this document's digest",
    )
    parser.add_argument(
        *spellings("-i", "--initdata-digest", "--initdata"),
        metavar="BASE64",
        help="the same with a digest; --initdata-toml wins",
    )
    for letter, name, service in (
        ("-k", "--keyprovider_sock", "key provider"),
        ("-g", "--getresource_sock", "resource service"),
    ):
        parser.add_argument(
            *spellings(letter, name),
            metavar="ADDRESS",
            help=f"a socket for the {service} alone, as agents of CoCo 0.8 want (default: none)",
        )
    return parser


class _Start:
    """Everything between the flags and a serving agent."""

    def __init__(self, options: argparse.Namespace, environ: Mapping[str, str]) -> None:
        self._options = options
        self._environ = environ
        self._initdata: Initdata | None = None

    def load(self) -> Settings[AgentConfig]:
        """Read all sources, the initdata document included. Raises the errors of each."""
        settings = load(
            self._options.config_file, self._environ, KernelCommandLine.read(), self._flags()
        )
        self._initdata = self._read_initdata()
        return settings

    async def serve(self, config: AgentConfig, shutdown: Shutdown) -> None:
        await serve(config, self._initdata, shutdown)

    def _flags(self) -> Iterator[Given]:
        for flag, key in SOCKETS.items():
            value = getattr(self._options, flag)
            if value is not None:
                yield Given(key, value, Source(SourceKind.FLAG, f"--{flag}"))

    def _read_initdata(self) -> Initdata | None:
        options = self._options
        document = options.initdata_toml or initdata_beside(options.config_file)
        if document is not None and (options.initdata_toml or options.initdata_digest is None):
            return read_initdata(document)
        if options.initdata_digest is not None:
            return Initdata.of_base64(options.initdata_digest)
        return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 after an orderly end, 1 on any failure, 2 usage."""
    environ = take_environment(argv)
    options = _parser().parse_args(argv)
    start = _Start(options, environ)
    return run_program(
        NAME,
        options,
        start.load,
        lambda config: config.log.journal_level,
        start.serve,
        examine=examine,
    )


if __name__ == "__main__":
    sys.exit(main())
