"""``python -m mocktee up``: the harness in the foreground, until Ctrl-C.

Exit code 0 after an orderly stop, 1 when it could not start, lost a process or could not clean up,
2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import secrets
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mocktee.errors import HarnessError, MockTeeError
from mocktee.harness import DEFAULT_REST_BIND, Harness
from mocktee.seeding import EXAMPLE_RESOURCE

# Ctrl-C reaches the children too; one that is quicker than the signal here is no accident.
SIGNAL_GRACE_SECONDS: Final = 0.5


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mocktee", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start mock TEE, key broker and object store")
    up.add_argument("--state", type=Path, help="directory for all state, new or empty")
    up.add_argument("--latency", type=float, default=1.0, help="seconds per quote (1.0)")
    up.add_argument("--no-tls", action="store_true", help="plain http on both servers")
    up.add_argument("--config", type=Path, help="where to write the daemon's configuration")
    up.add_argument("--rest-bind", default=DEFAULT_REST_BIND, help="HOST:PORT for the daemon")
    return parser.parse_args(argv)


async def up(arguments: argparse.Namespace) -> None:
    """Run until cancelled. Raises :class:`MockTeeError` when a process dies or does not start."""
    temporary = Path(tempfile.gettempdir()) / f"mocktee-{secrets.token_hex(4)}"
    state = arguments.state or temporary
    tls = not arguments.no_tls
    async with Harness.start(state, latency=arguments.latency, tls=tls) as harness:
        config = (arguments.config or harness.state / "cguest.toml").absolute()
        if config.exists():
            raise HarnessError(f"write {config}", "it exists", hint="name a new file")
        try:
            harness.write_config(config, harness.state / "run", rest_bind=arguments.rest_bind)
            print(describe(harness, config, arguments.rest_bind), flush=True)
            died = await harness.until_death()
            await asyncio.sleep(SIGNAL_GRACE_SECONDS)
            raise died
        finally:
            with contextlib.suppress(FileNotFoundError):
                config.unlink()


def describe(harness: Harness, config: Path, rest_bind: str) -> str:
    """What an operator copies from the terminal."""
    python, path = shlex.quote(sys.executable), shlex.quote(str(config))
    trust = "" if harness.kbs_ca is None else f"\n  authority       {harness.kbs_ca}"
    check = "" if harness.kbs_ca is None else f" --cacert {shlex.quote(str(harness.kbs_ca))}"
    token = harness.state / "oss" / "control-token"
    return f"""\
mock TEE, key broker and object store are up; Ctrl-C removes them

  reports         {harness.report_root}
  registers       {harness.measurements}
  event log       {harness.ccel}
  key broker      {harness.kbs_url}
  object store    {harness.oss_endpoint}
  bucket          {harness.bucket}, region {harness.oss_region}{trust}
  configuration   {config}

in another terminal, in the source tree:

  {python} -m cguestd -c {path}
  {python} -m cguest --config {path} doctor
  {python} -m cguest --config {path} attest
  curl -s http://{rest_bind}/cdh/resource/{EXAMPLE_RESOURCE} | xxd

faults of the object store (also lost-answer slow bandwidth cut wrong-length wrong-crc corrupt):

  curl -s{check} -H "x-mock-token: $(cat {shlex.quote(str(token))})" \\
    -d '{{"kind":"status","code":"ServiceUnavailable","count":3}}' \\
    {harness.oss_endpoint}/mock/faults
"""


async def run(arguments: argparse.Namespace) -> None:
    """Run :func:`up` until a signal comes; further signals do not disturb the cleaning up."""
    running = asyncio.create_task(up(arguments))  # awaited below
    stopping = False

    def stop() -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            running.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop)
    try:
        await running
    except asyncio.CancelledError:
        if not stopping:
            raise


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    os.umask(0o077)
    try:
        asyncio.run(run(arguments))
    except (MockTeeError, OSError) as error:
        print(f"mocktee: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
