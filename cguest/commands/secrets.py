"""``cguest resource get|watch`` and ``cguest secret inspect|verify|unseal``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from cdh.errors import SealedSignatureError
from cdh.sealed.envelope import parse_sealing
from cdh.sealed.keys import parse_public_jwk
from cdh.sealed.payload import EnvelopePayload, VaultPayload, parse_payload
from cdh.sealed.signature import parse_header, verify_signature
from cdh.sealed.textual import decode_section, parse_sealed_text
from cguest.commands.registry import Noun, Verb
from cguest.commands.sealing import VERBS as SEALING
from cguest.commands.watching import WATCH
from cguest.connection import RefusedError, connect
from cguest.files import STDIN, read_file, write_private
from cguest.outcome import Outcome, Value
from cguest.sockets import Targets
from kbs import ResourceUri
from protos.stubs import GetResourceStub, SealedSecretStub
from secrecy import Secret

MAX_SEALED: Final = 64 * 1024  # bytes


def _deliver(secret: Secret, output: Path | None) -> Outcome:
    if output is None:
        return Outcome(raw=secret.reveal())
    write_private(output, secret.reveal())
    return Outcome({"written": str(output), "bytes": len(secret)})


async def get_resource(args: argparse.Namespace, targets: Targets) -> Outcome:
    uri = ResourceUri.parse(args.uri)
    async with connect(targets.hub, "data hub") as client:
        reply = await GetResourceStub(client).get_resource(str(uri), timeout_s=args.timeout)
    return _deliver(Secret(reply.Resource), args.output)


async def unseal(args: argparse.Namespace, targets: Targets) -> Outcome:
    sealed = _sealed(args)
    async with connect(targets.hub, "data hub") as client:
        reply = await SealedSecretStub(client).unseal_secret(sealed, timeout_s=args.timeout)
    return _deliver(Secret(reply.plaintext), args.output)


async def inspect(args: argparse.Namespace, _targets: Targets) -> Outcome:
    """Show what a sealed secret says of itself. Nothing is checked, and nothing in it is secret."""
    text = parse_sealed_text(_sealed(args))
    header = parse_header(text.header)
    payload = parse_payload(decode_section("payload", text.payload))
    shown: dict[str, Value] = {
        "type": type(payload).__struct_config__.tag,
        "provider": payload.provider,
        "kid": header.kid,
        "alg": header.alg,
    }
    match payload:
        case VaultPayload():
            shown["name"] = payload.name
        case EnvelopePayload():
            sealing = parse_sealing(payload)
            shown |= {
                "key_id": payload.key_id,
                "wrap_type": payload.wrap_type,
                "encrypted_bytes": len(sealing.encrypted_data),
            }
    for what in ("provider_settings", "annotations"):
        shown[what] = {k: bytes(v).decode() for k, v in getattr(payload, what).items()}
    shown["signature"] = "not checked: use cguest secret verify"
    return Outcome(shown)


async def verify(args: argparse.Namespace, _targets: Targets) -> Outcome:
    """Check signature and payload without a guest. Raises :class:`RefusedError`."""
    text = parse_sealed_text(_sealed(args))
    header = parse_header(text.header)
    key = parse_public_jwk(header.kid, read_file(args.key, MAX_SEALED))
    try:
        verify_signature(text, header.kid, key)
    except SealedSignatureError as error:
        raise RefusedError(str(error)) from error
    payload = parse_payload(decode_section("payload", text.payload))
    kind = type(payload).__struct_config__.tag
    return Outcome(
        {"signature": "holds", "kid": header.kid, "type": kind, "provider": payload.provider}
    )


def _sealed(args: argparse.Namespace) -> bytes:
    return args.sealed.encode() if args.sealed != "-" else read_file(STDIN, MAX_SEALED)


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


def _text_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sealed", metavar="SEALED", help="the text sealed.…, or - for stdin")


def _verify_arguments(parser: argparse.ArgumentParser) -> None:
    _text_arguments(parser)
    parser.add_argument("--key", required=True, type=Path, metavar="FILE", help="public JWK")


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
            *SEALING,
            Verb(
                "inspect",
                "show what a sealed secret says of itself, unchecked",
                inspect,
                _text_arguments,
            ),
            Verb(
                "verify",
                "check signature and payload of a sealed secret, without a guest",
                verify,
                _verify_arguments,
                "Exit code 1: the signature does not hold under the key.",
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
