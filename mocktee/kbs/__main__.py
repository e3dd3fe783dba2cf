"""``python -m mocktee.kbs``: the mock KBS as a process of its own.

Prints one JSON line when it listens: ``{"ready":true,"url":...,"ca":PATH or null,
"admin_token":PATH}``. SIGTERM, SIGINT, or the end of the lifeline ends it cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from cryptography import x509

from mocktee.errors import MockTeeError
from mocktee.kbs.admin import load_admin_key
from mocktee.kbs.era import ERAS, HEAD
from mocktee.kbs.errors import MalformedError
from mocktee.kbs.server import KbsOptions, MockKbs
from mocktee.kbs.signer import SignerIdentity
from mocktee.pki import MockPki


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; ends the process on bad usage."""
    parser = argparse.ArgumentParser(
        prog="python -m mocktee.kbs",
        description="A mock Key Broker Service, protocol 0.1.0 to 0.4.0.",
    )
    parser.add_argument("--state", type=Path, required=True, help="directory for tokens and TLS")
    parser.add_argument("--pki", type=Path, required=True, help="directory of the mock PKI")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument("--no-tls", action="store_true", help="plain http")
    parser.add_argument("--dns-name", action="append", default=[], help="further name in the cert")
    parser.add_argument("--token-seconds", type=int, default=300, help="life of tokens")
    parser.add_argument("--session-seconds", type=float, default=300.0, help="life of sessions")
    parser.add_argument("--body-limit", type=int, default=2 * 1024 * 1024, help="bytes of a body")
    parser.add_argument(
        "--admin-key", action="append", default=[], type=Path, help="PEM public key of an admin"
    )
    parser.add_argument("--terse-refusals", action="store_true", help="hide reasons, as Trustee")
    _add_era_arguments(parser)
    parser.add_argument("--lifeline-fd", type=int, help="stop when this descriptor ends")
    return parser.parse_args(arguments)


def _add_era_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--era", choices=ERAS, default=HEAD.name, help="server generation")
    parser.add_argument("--simple-token", action="store_true", help="RS384 tokens, v0.11 to v0.13")
    parser.add_argument("--open-admin", action="store_true", help="admin calls without a token")
    parser.add_argument(
        "--signer",
        nargs=2,
        type=Path,
        metavar=("KEY", "CHAIN"),
        help="PEM files of the token signer",
    )
    parser.add_argument(
        "--trusted-cert", action="append", default=[], type=Path, help="PEM, signers of other KBSes"
    )
    parser.add_argument(
        "--insecure-header-jwk",
        action="store_true",
        help="take tokens of any signer, as Trustee can",
    )


def options_of(arguments: argparse.Namespace) -> KbsOptions:
    """Turn parsed arguments into options. Raises ``ValueError`` on a bad address."""
    host, _, port = arguments.listen.rpartition(":")
    if not host or not port.isdecimal():
        raise MalformedError(f"--listen {arguments.listen} is not of the form HOST:PORT")
    return KbsOptions(
        host=host,
        port=int(port),
        tls=not arguments.no_tls,
        dns_names=tuple(arguments.dns_name),
        token_seconds=arguments.token_seconds,
        session_seconds=arguments.session_seconds,
        body_limit=arguments.body_limit,
        verbose_refusals=not arguments.terse_refusals,
        admin_keys=[load_admin_key(path) for path in arguments.admin_key],
        admin_open_to_all=arguments.open_admin,
        era=arguments.era,
        simple_token=arguments.simple_token,
        identity=None if arguments.signer is None else SignerIdentity.load(*arguments.signer),
        trusted_certificates=[
            certificate
            for path in arguments.trusted_cert
            for certificate in x509.load_pem_x509_certificates(path.read_bytes())
        ],
        insecure_header_jwk=arguments.insecure_header_jwk,
    )


async def serve(arguments: argparse.Namespace) -> None:
    """Run until a signal or the end of the lifeline."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if arguments.lifeline_fd is not None:
        _watch_lifeline(loop, arguments.lifeline_fd, stop)
    pki = MockPki.load(arguments.pki)
    async with MockKbs.start(arguments.state, pki, options_of(arguments)) as kbs:
        ready = {
            "ready": True,
            "url": kbs.url,
            "ca": None if kbs.ca_file is None else str(kbs.ca_file),
            "admin_token": str(kbs.admin_token_file),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        await stop.wait()


def _watch_lifeline(loop: asyncio.AbstractEventLoop, descriptor: int, stop: asyncio.Event) -> None:
    def readable() -> None:
        if not os.read(descriptor, 4096):
            loop.remove_reader(descriptor)
            stop.set()

    loop.add_reader(descriptor, readable)


def main(arguments: list[str]) -> int:
    """Run the process; return its exit code."""
    try:
        asyncio.run(serve(parse_arguments(arguments)))
    except (MockTeeError, OSError, ValueError) as error:
        sys.stderr.write(f"mock KBS: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
