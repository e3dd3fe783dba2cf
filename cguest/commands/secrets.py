"""``cguest resource get|watch`` and ``cguest secret keygen|seal|unseal``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from cdh.sealed.seal import generate_signing_key, seal_vault
from cguest.commands.registry import Noun, Verb
from cguest.commands.watching import WATCH
from cguest.connection import CommandError, connect
from cguest.outcome import Outcome
from cguest.sockets import Targets
from kbs import ResourceUri
from protos.stubs import GetResourceStub, SealedSecretStub
from secrecy import Secret

MAX_SEALED: Final = 64 * 1024  # bytes


def _write_private(path: Path, content: bytes) -> None:
    """Create ``path`` with mode 0600; an existing file is kept and is an error."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CommandError(f"writing {path}: {error.strerror}") from error
    with os.fdopen(fd, "wb") as file:
        file.write(content)


def _deliver(secret: Secret, output: Path | None) -> Outcome:
    if output is None:
        return Outcome(raw=secret.reveal())
    _write_private(output, secret.reveal())
    return Outcome({"written": str(output), "bytes": len(secret)})


async def get_resource(args: argparse.Namespace, targets: Targets) -> Outcome:
    uri = ResourceUri.parse(args.uri)
    async with connect(targets.hub, "data hub") as client:
        reply = await GetResourceStub(client).get_resource(str(uri), timeout_s=args.timeout)
    return _deliver(Secret(reply.Resource), args.output)


async def unseal(args: argparse.Namespace, targets: Targets) -> Outcome:
    sealed = args.sealed.encode() if args.sealed != "-" else sys.stdin.buffer.read(MAX_SEALED + 1)
    if len(sealed) > MAX_SEALED:
        raise CommandError(f"reading the sealed secret: larger than {MAX_SEALED} bytes")
    async with connect(targets.hub, "data hub") as client:
        reply = await SealedSecretStub(client).unseal_secret(sealed, timeout_s=args.timeout)
    return _deliver(Secret(reply.plaintext), args.output)


async def keygen(args: argparse.Namespace, _targets: Targets) -> Outcome:
    key = generate_signing_key(args.kid)
    stem = args.name
    _write_private(args.directory / f"{stem}-private.json", key.private_jwk.reveal())
    _write_private(args.directory / f"{stem}-public.json", key.public_jwk)
    return Outcome(
        {
            "private_key": str(args.directory / f"{stem}-private.json"),
            "public_key": str(args.directory / f"{stem}-public.json"),
            "kid": args.kid,
        },
        text=f"wrote {stem}-private.json and {stem}-public.json to {args.directory}\n"
        f"next: store the public half in the key broker as {args.kid}",
    )


async def seal(args: argparse.Namespace, _targets: Targets) -> Outcome:
    try:
        key = Secret(args.key.read_bytes())
    except OSError as error:
        raise CommandError(f"reading {args.key}: {error.strerror}") from error
    sealed = seal_vault(args.resource, kid=args.kid, private_jwk=key)
    return Outcome({"sealed": sealed}, text=sealed)


def _output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write there (new, mode 0600), not to stdout"
    )


def _get_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", metavar="URI", help="kbs:///repository/type/tag")
    _output(parser)


def _unseal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sealed", metavar="SEALED", help="the text sealed.…, or - for stdin")
    _output(parser)


def _keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kid", required=True, metavar="URI", help="where the public half will be found"
    )
    parser.add_argument("--name", default="sealed-signing", help="first part of the file names")
    parser.add_argument("--directory", type=Path, default=Path(), help="default: here")


def _seal_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--resource", required=True, metavar="URI", help="what it stands for")
    parser.add_argument("--key", required=True, type=Path, metavar="FILE", help="private JWK")
    parser.add_argument("--kid", required=True, metavar="URI", help="key id written into it")


NOUNS = (
    Noun(
        "resource",
        "resources of the key broker",
        (
            Verb(
                "get",
                "fetch a resource and print it as it is",
                get_resource,
                _get_arguments,
                "example: cguest resource get kbs:///default/key/1 > key\n"
                "Exit code 1: the key broker refused (policy, missing resource, attestation).",
            ),
            WATCH,
        ),
    ),
    Noun(
        "secret",
        "sealed secrets",
        (
            Verb(
                "keygen",
                "make a signing key pair for sealed secrets",
                keygen,
                _keygen_arguments,
                "example: cguest secret keygen --kid kbs:///default/signing-key/sealed",
            ),
            Verb(
                "seal",
                "make a sealed secret that stands for a resource",
                seal,
                _seal_arguments,
                "The sealed text holds no secret: it names a resource, and is signed so that\n"
                "the host cannot make it name another one.",
            ),
            Verb(
                "unseal",
                "verify a sealed secret and print what it stands for",
                unseal,
                _unseal_arguments,
            ),
        ),
    ),
)
