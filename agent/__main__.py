"""``attestation-agent``: the agent as a process of its own, under the name kata-agent starts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agent.config import DEFAULT_SOCKET, load_config
from agent.errors import AgentError
from agent.initdata import read_initdata
from agent.serving import serve
from lifecycle import LifecycleError, UnixAddress, run_service
from secrecy.journal import configure_logging
from tdx.errors import TdxError
from tdx.initdata import Initdata

EXIT_FAILED: Final = 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attestation-agent",
        description="Attests this TD to a Key Broker Service and measures runtime events.",
        allow_abbrev=False,
    )
    # Both spellings of each word separator: the reference mixes them.
    parser.add_argument(
        "-a",
        "--attestation_sock",
        "--attestation-sock",
        metavar="URI",
        help=f"listening socket (default: from the configuration, else {DEFAULT_SOCKET})",
    )
    parser.add_argument(
        "-c", "--config-file", "--config_file", metavar="PATH", type=Path, help="aa.toml"
    )
    parser.add_argument(
        "-t",
        "--initdata-toml",
        "--initdata_toml",
        metavar="PATH",
        type=Path,
        help="refuse to start unless MRCONFIGID holds this document's digest",
    )
    parser.add_argument(
        "-i",
        "--initdata-digest",
        "--initdata_digest",
        "--initdata",
        metavar="BASE64",
        help="the same with a digest; --initdata-toml wins",
    )
    return parser


def _initdata(options: argparse.Namespace) -> Initdata | None:
    if options.initdata_toml is not None:
        return read_initdata(options.initdata_toml)
    if options.initdata_digest is not None:
        return Initdata.of_base64(options.initdata_digest)
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 after an orderly end, 1 on any failure."""
    options = _parser().parse_args(argv)
    try:
        config = load_config(options.config_file, os.environ)
        configure_logging(config.log.journal_level)
        address = UnixAddress.parse(options.attestation_sock or config.socket)
        initdata = _initdata(options)
    except (AgentError, LifecycleError, TdxError) as error:
        sys.stderr.write(f"{error}\n")
        return EXIT_FAILED
    return run_service(lambda shutdown: serve(config, address, initdata, shutdown))


if __name__ == "__main__":
    sys.exit(main())
