"""Entry point of ``cguestd``: where the configuration is, which services, nothing else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import cast

from cguestd.compose import serve
from cguestd.config import ALL_SERVICES, CguestdConfig, Service, load
from lifecycle import LifecycleError, run_service
from secrecy.journal import LEVELS, configure_logging


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
    parser = argparse.ArgumentParser(
        prog="cguestd",
        description="Attestation agent, confidential data hub and REST server in one process.",
        epilog="Everything else is in the configuration file: docs/configuration.md.",
    )
    parser.add_argument("-c", "--config", type=Path, metavar="PATH", help="TOML file")
    parser.add_argument(
        "--services", type=services_of, default=ALL_SERVICES, metavar="LIST",
        help="which to run, separated by commas (default: agent,hub,rest)",
    )  # fmt: skip
    parser.add_argument("--check-config", action="store_true", help="read the file, then exit")
    parser.add_argument("--log-level", choices=tuple(LEVELS), help="overrides [log] level")
    parser.add_argument("--version", action="version", version=version("confidential-guest"))
    return parser


def _load(args: argparse.Namespace) -> CguestdConfig:
    config = load(args.config)
    config.check()
    configure_logging(args.log_level or config.log.level)
    return config


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 after an orderly end, 1 when it could not start or failed, 2 on wrong usage."""
    args = build_parser().parse_args(argv)
    try:
        config = _load(args)
    except Exception as error:
        # Errors of ours carry a hint; anything else is a defect and shows its trace.
        if not isinstance(error, LifecycleError) and not hasattr(error, "hint"):
            raise
        sys.stderr.write(f"cguestd: {error}\n")
        return 1
    if args.check_config:
        print(f"cguestd: {args.config or 'built-in defaults'}: configuration is valid")  # noqa: T201
        return 0
    return run_service(lambda shutdown: serve(config, args.services, shutdown))


if __name__ == "__main__":
    sys.exit(main())
