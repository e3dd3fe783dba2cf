"""``confidential-data-hub``: the hub as a process of its own, as kata-agent starts it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from cdh.config import CdhConfig, default_config
from cdh.errors import CdhError
from cdh.serving import serve
from lifecycle import (
    LifecycleError,
    SettingsError,
    load_toml,
    run_service,
)
from secrecy.journal import configure_logging

KERNEL_COMMAND_LINE: Final = Path("/proc/cmdline")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="confidential-data-hub",
        description="Serves resources, sealed secrets and secure mounts to the pod over ttRPC.",
    )
    parser.add_argument("-c", "--config", type=Path, metavar="PATH", help="configuration (TOML)")
    parser.add_argument("-s", "--socket", metavar="URI", help="unix:///path to listen on")
    return parser.parse_args(argv)


def _kernel_command_line() -> str:
    """An unreadable command line is an error: it may name the key broker."""
    try:
        return KERNEL_COMMAND_LINE.read_text(errors="replace")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(str(KERNEL_COMMAND_LINE), f"cannot be read: {reason}") from error


def _configuration(arguments: argparse.Namespace) -> CdhConfig:
    if arguments.config is not None:
        config = load_toml(arguments.config, CdhConfig)
    else:
        config = default_config(os.environ, _kernel_command_line())
    if arguments.socket is not None:
        config = msgspec.structs.replace(config, socket=arguments.socket)
    config.check()
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Run the service; return the exit code: 0 orderly end, 1 failure, 2 usage."""
    arguments = _arguments(argv)
    try:
        config = _configuration(arguments)
        configure_logging(config.log.level)
    except (LifecycleError, CdhError, ValueError) as error:
        sys.stderr.write(f"confidential-data-hub: {error}\n")
        return 1
    return run_service(lambda shutdown: serve(config, shutdown))


if __name__ == "__main__":
    sys.exit(main())
