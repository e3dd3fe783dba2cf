"""``cguest secret keygen --upload``: the public half goes to the key broker, by its operator."""

from __future__ import annotations

import argparse
from pathlib import Path

from cdh.sealed.keys import parse_kid
from cguest.connection import CommandError, RefusedError
from cguest.files import read_file
from kbs import KbsRefusedError, KbsTls, ResourceUri
from kbs.admin import KbsAdmin, read_admin_token, sign_admin_token
from lifecycle.addresses import is_open_http
from secrecy import Secret

MAX_FILE = 64 * 1024  # bytes of a key, token or certificate file


def add_upload_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("for --upload")
    group.add_argument(
        "--upload", action="store_true",
        help="store the public half in the key broker under the kid, in place of what is there",
    )  # fmt: skip
    group.add_argument("--kbs-url", metavar="URL", help="the key broker")
    who = group.add_mutually_exclusive_group()
    who.add_argument(
        "--admin-key", type=Path, metavar="FILE", help="its administrator's Ed25519 key, PEM"
    )
    who.add_argument("--admin-token", type=Path, metavar="FILE", help="or a ready-made token")
    group.add_argument("--kbs-ca", type=Path, metavar="FILE", help="its certificate's root, PEM")


def prepare_upload(args: argparse.Namespace) -> tuple[ResourceUri, KbsAdmin]:
    """Judge the arguments and read the files, before anything is made.

    Raises :class:`CommandError`, :class:`~cdh.errors.SealedKeyError` or ``kbs.KbsError``.
    """
    uri = parse_kid(args.kid)
    if not isinstance(uri, ResourceUri):
        raise CommandError(
            "--upload: the kid is a file name in the guest, not a resource",
            hint="--kid kbs:///repository/type/tag",
        )
    uri.require_resource_path()
    if args.kbs_url is None or (args.admin_key is None and args.admin_token is None):
        raise CommandError("--upload takes --kbs-url and --admin-key or --admin-token as well")
    if is_open_http(args.kbs_url):
        raise CommandError(
            "--kbs-url: the administrator's token would cross the network in plain",
            hint="use https://",
        )
    if args.admin_key is not None:
        key = Secret(read_file(args.admin_key, MAX_FILE))
        token = sign_admin_token(key, str(args.admin_key))
    else:
        content = Secret(read_file(args.admin_token, MAX_FILE))
        token = read_admin_token(content, str(args.admin_token))
    ca_pem = None
    if args.kbs_ca is not None:
        ca_pem = read_file(args.kbs_ca, MAX_FILE).decode("ascii", "replace")
    return uri, KbsAdmin(args.kbs_url, token, KbsTls(ca_pem=ca_pem))


async def upload(admin: KbsAdmin, uri: ResourceUri, content: bytes) -> None:
    """Store ``content``. Raises :class:`RefusedError` or ``kbs.KbsError``."""
    async with admin:
        try:
            await admin.put_resource(uri, content)
        except KbsRefusedError as error:
            if error.decided:
                raise RefusedError(str(error)) from error
            raise
