"""``python -m mocktee.tsm``: serve the mock TSM until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from mocktee.errors import MockTeeError
from mocktee.td import ZERO_REGISTER
from mocktee.tsm.profile import DEFAULT_PROFILE, PROFILES
from mocktee.tsm.provider import TdxProvider
from mocktee.tsm.server import TsmOptions, serve
from mocktee.tsm.snp import SnpProvider


def _register(text: str) -> bytes:
    value = bytes.fromhex(text)
    if len(value) != len(ZERO_REGISTER):
        raise ValueError(text)
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 60:
        raise ValueError(text)
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mocktee.tsm", description=__doc__)
    parser.add_argument("--mount", type=Path, required=True, help="mount point, made if absent")
    parser.add_argument("--pki", type=Path, required=True, help="directory of MockPki.save")
    parser.add_argument("--control", type=Path, required=True, help="path of the control socket")
    parser.add_argument(
        "--latency", type=_seconds, default=0.0, help="seconds per quote; a stock kernel takes 1.0"
    )
    parser.add_argument(
        "--mrconfigid", type=_register, default=ZERO_REGISTER, help="48 bytes as hex digits"
    )
    parser.add_argument(
        "--kernel", choices=tuple(PROFILES), default=DEFAULT_PROFILE.name, help="Linux to play"
    )
    parser.add_argument(
        "--provider",
        choices=(TdxProvider.name, SnpProvider.name),
        default=TdxProvider.name,
        help="whose attributes report entries have",
    )
    parser.add_argument(
        "--lifeline-fd", type=int, default=None, help="stop when this descriptor reads end of file"
    )
    return parser


def main(argv: list[str] | None = None) -> int:
    """Exit code 0 after an orderly stop, 1 if it could not serve, 2 for wrong arguments."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    options = TsmOptions(
        mount=arguments.mount.absolute(),
        pki=arguments.pki,
        control=arguments.control,
        latency_s=arguments.latency,
        mrconfigid=arguments.mrconfigid,
        kernel=PROFILES[arguments.kernel],
        provider=arguments.provider,
        lifeline_fd=arguments.lifeline_fd,
    )
    try:
        asyncio.run(serve(options))
    except (MockTeeError, OSError, RuntimeError) as error:
        print(f"mocktee.tsm: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
