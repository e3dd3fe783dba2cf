"""``cguest secret keygen|seal``: the operator's side of sealed secrets. Needs no daemon."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from cdh.sealed.seal import (
    Signer,
    envelope_payload,
    generate_signing_key,
    held_payload,
    vault_payload,
)
from cdh.sealed.textual import MAX_BYTES
from cguest.commands.registry import Verb
from cguest.commands.uploading import add_upload_arguments, prepare_upload, upload
from cguest.connection import CommandError
from cguest.files import read_file, write_private
from cguest.kubernetes import manifests
from cguest.outcome import Outcome
from cguest.sockets import Targets
from kms import AliyunPlaces
from secrecy import Secret

MAX_KEY: Final = 64 * 1024  # bytes of a key, password or certificate file
MAX_CONTENT: Final = 30 * 1024  # bytes sealed into an envelope: the text stays under its limit
ALIYUN: Final = "aliyun"


async def keygen(args: argparse.Namespace, _targets: Targets) -> Outcome:
    """Make a key pair. If the upload fails, no file is left, so that it can be repeated."""
    target = prepare_upload(args) if args.upload else None
    key = generate_signing_key(args.kid)
    private = args.directory / f"{args.name}-private.json"
    public = args.directory / f"{args.name}-public.json"
    write_private(private, key.private_jwk.reveal())
    with _unless_done(private):
        write_private(public, key.public_jwk)
        if target is not None:
            with _unless_done(public):
                await upload(target[1], target[0], key.public_jwk)
    data = {"private_key": str(private), "public_key": str(public), "kid": args.kid}
    done = f"wrote {private.name} and {public.name} to {args.directory}\n"
    if target is None:
        text = f"{done}next: store the public half in the key broker as {args.kid}"
        return Outcome(data, text=text)
    return Outcome(
        {**data, "uploaded": True}, text=f"{done}stored the public half in the key broker"
    )


@contextmanager
def _unless_done(path: Path) -> Iterator[None]:
    """Remove ``path``, which was made just now, if the block does not come to its end."""
    try:
        yield
    except BaseException:  # cleaned up and passed on, cancellation included
        path.unlink(missing_ok=True)
        raise


async def seal(args: argparse.Namespace, _targets: Targets) -> Outcome:
    signer = Signer(args.kid, Secret(read_file(args.key, MAX_KEY)))
    sealed = signer.sign(await _payload(args))
    if len(sealed) > MAX_BYTES:
        raise CommandError(f"sealing: the text would be longer than {MAX_BYTES} bytes")
    if args.kubernetes is None:
        return Outcome({"sealed": sealed}, text=sealed)
    text = manifests(args.kubernetes, args.kubernetes_key, sealed)
    return Outcome({"sealed": sealed, "manifests": text}, text=text.rstrip("\n"))


async def _payload(args: argparse.Namespace) -> dict[str, Any]:
    if args.resource is not None:
        return vault_payload(args.resource)
    if args.kms_secret is not None:
        settings = _json_object("--provider-settings", args.provider_settings)
        annotations = _json_object("--annotations", args.annotations)
        return held_payload(args.kms_secret, ALIYUN, settings, annotations)
    return await _envelope(args)


async def _envelope(args: argparse.Namespace) -> dict[str, Any]:
    needed = ("kms_key_id", "kms_instance", "client_key", "password_file", "kms_ca")
    missing = [f"--{name.replace('_', '-')}" for name in needed if getattr(args, name) is None]
    if missing:
        raise CommandError(
            f"sealing a file takes {', '.join(missing)} as well",
            hint="the data key is wrapped by a dedicated instance of Alibaba Cloud KMS",
        )
    content = Secret(read_file(args.file, MAX_CONTENT))
    # Here, because the HTTP client takes a fifth of a second to import.
    from kms.aliyun.credentials import parse_client_key, parse_password
    from kms.aliyun.gateway import GatewayClient
    from kms.http import tls_context

    password = parse_password(Secret(read_file(args.password_file, MAX_KEY)))
    client_key = parse_client_key(
        Secret(read_file(args.client_key, MAX_KEY)), password, str(args.client_key)
    )
    ca_pem = read_file(args.kms_ca, MAX_KEY).decode("ascii", "replace")
    url = args.kms_url or AliyunPlaces().instance_url.format(instance=args.kms_instance)
    client = GatewayClient(url, client_key, tls_context(ca_pem, str(args.kms_ca)))
    settings = {
        "client_type": "client_key",
        "client_key_id": client_key.key_id,
        "kms_instance_id": args.kms_instance,
    }
    return await envelope_payload(content, args.kms_key_id, client, ALIYUN, settings)


def _json_object(option: str, text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise CommandError(f"{option}: not a JSON object") from error


def _keygen_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kid", required=True, metavar="URI", help="where the public half will be found"
    )
    parser.add_argument("--name", default="sealed-signing", help="first part of the file names")
    parser.add_argument("--directory", type=Path, default=Path(), help="default: here")
    add_upload_arguments(parser)


def _seal_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--resource", metavar="URI", help="stand for this resource of the KBS")
    what.add_argument("--kms-secret", metavar="NAME", help="stand for this secret of the KMS")
    what.add_argument(
        "--file", type=Path, metavar="FILE", help="hold this content (- for stdin), encrypted"
    )
    parser.add_argument("--key", required=True, type=Path, metavar="FILE", help="private JWK")
    parser.add_argument("--kid", required=True, metavar="URI", help="key id written into it")
    parser.add_argument("--kubernetes", metavar="NAME", help="print a Secret and a Pod using it")
    parser.add_argument("--kubernetes-key", default="value", metavar="KEY", help="default: value")
    held = parser.add_argument_group("for --kms-secret")
    held.add_argument(
        "--provider-settings", default='{"client_type":"ecs_ram_role"}', metavar="JSON",
        help="client_type and what goes with it (default: the machine's RAM role)",
    )  # fmt: skip
    held.add_argument("--annotations", default="{}", metavar="JSON", help="version_id, ...")
    wrapped = parser.add_argument_group("for --file")
    wrapped.add_argument("--kms-key-id", metavar="ID", help="key that wraps the data key")
    wrapped.add_argument("--kms-instance", metavar="ID", help="dedicated KMS instance")
    wrapped.add_argument("--client-key", type=Path, metavar="FILE", help="clientKey_<id>.json")
    wrapped.add_argument("--password-file", type=Path, metavar="FILE", help="its password")
    wrapped.add_argument("--kms-ca", type=Path, metavar="FILE", help="PrivateKmsCA_<id>.pem")
    wrapped.add_argument("--kms-url", metavar="URL", help="another address of the instance")


VERBS: Final = (
    Verb(
        "keygen",
        "make a signing key pair for sealed secrets",
        keygen,
        _keygen_arguments,
        "With --upload its public half is stored where guests look for it. The new key takes the\n"
        "place of one that is there, and what was sealed with that one no longer opens.\n\n"
        "example: cguest secret keygen --kid kbs:///default/signing-key/sealed \\\n"
        "  --upload --kbs-url https://kbs.example.org:8080 --admin-key admin.pem --kbs-ca ca.pem",
    ),
    Verb(
        "seal",
        "make a sealed secret",
        seal,
        _seal_arguments,
        "With --resource or --kms-secret the text holds no secret: it names one. With --file\n"
        "it holds the content, under a data key that only the KMS can unwrap. It is signed, so\n"
        "that the host cannot make it name or hold another one.\n\n"
        "example: cguest secret seal --resource kbs:///default/db/password"
        " --key sealed-signing-private.json \\\n"
        "  --kid kbs:///default/signing-key/sealed --kubernetes db-password",
    ),
)
