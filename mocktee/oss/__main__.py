"""``python -m mocktee.oss``: the local OSS server as a process of its own.

Prints one JSON line with the endpoint when it can be used; ends on SIGINT and SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from mocktee.oss.errors import MockOssSettingsError
from mocktee.oss.server import MockOss


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mocktee.oss", description=__doc__.partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, help="directory for all state")
    parser.add_argument("--listen", default="127.0.0.1:0", help="loopback HOST:PORT, 0 is any")
    parser.add_argument("--region", help="region for version 4 signatures")
    parser.add_argument("--tls-cert", type=Path, help="PEM chain; makes the endpoint https")
    parser.add_argument("--tls-key", type=Path, help="PEM private key")
    parser.add_argument("--fast-etags", action="store_true", help="no MD5, for benches")
    parser.add_argument("--lifeline-fd", type=int, help="stop when this descriptor ends")
    arguments = parser.parse_args(argv)
    if (arguments.tls_cert is None) != (arguments.tls_key is None):
        parser.error("--tls-cert and --tls-key go together")
    return arguments


async def serve(arguments: argparse.Namespace) -> None:
    """Run until a signal comes. Raises :class:`MockOssSettingsError`."""
    tls = None
    if arguments.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(arguments.tls_cert, arguments.tls_key)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    if arguments.lifeline_fd is not None:
        loop.add_reader(arguments.lifeline_fd, stop.set)  # nothing is ever written to it
    host, _, port = arguments.listen.rpartition(":")
    if not port.isdigit():
        raise MockOssSettingsError(arguments.listen, "not HOST:PORT")
    async with MockOss.start(
        arguments.state,
        host=host.strip("[]"),
        port=int(port),
        tls=tls,
        region=arguments.region,
        fast_etags=arguments.fast_etags,
    ) as server:
        print(json.dumps({"ready": True, "endpoint": server.endpoint}), flush=True)
        await stop.wait()


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    # asyncio's loop has sendfile, which counts without TLS; with TLS uvloop needs less time.
    run = asyncio.run if arguments.tls_cert is None else uvloop.run
    try:
        run(serve(arguments))
    except (MockOssSettingsError, OSError, ValueError) as error:
        print(f"mocktee.oss: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
