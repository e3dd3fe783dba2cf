"""``cguest mount oss|list|remove``."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from cguest.commands.registry import Noun, Verb
from cguest.connection import CommandError, connect
from cguest.outcome import Outcome, rows
from cguest.sockets import Targets
from protos import cguest_pb2
from protos.stubs import MountStub, SecureMountStub

OSS = "alibaba-cloud-oss"


def _prefix(path: str) -> str:
    return path if path.startswith("/") or not path else "/" + path


async def mount_oss(args: argparse.Namespace, targets: Targets) -> Outcome:
    for name, value in (("--ak-id", args.ak_id), ("--ak-secret", args.ak_secret)):
        if not value.startswith("sealed."):
            raise CommandError(
                f"mounting: {name} is not a sealed secret",
                hint="an argument list is no place for a key; make one with: cguest secret seal",
            )
    options = {
        "akId": args.ak_id,
        "akSecret": args.ak_secret,
        "bucket": args.bucket,
        "path": _prefix(args.path),
        "url": args.url,
        "otherOpts": args.other_opts,
        "readonly": "true" if args.read_only else "false",
        "targetPath": args.mount_point,
        "volumeId": args.volume_id,
    }
    async with connect(targets.hub, "data hub") as client:
        await SecureMountStub(client).secure_mount(
            OSS, options, [], args.mount_point, timeout_s=args.timeout
        )
    return Outcome({"mounted": args.mount_point, "bucket": args.bucket})


def _row(mount: cguest_pb2.Mount) -> list[str]:
    since = datetime.fromtimestamp(mount.since_unix, UTC).isoformat(timespec="seconds")
    source = f"{mount.bucket}/{mount.prefix}"
    mode = "ro" if mount.read_only else "rw"
    return [
        mount.mount_point, source, mode, mount.state, str(mount.pid or "-"),
        str(mount.restarts), since, mount.last_error or "-",
    ]  # fmt: skip


async def list_mounts(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.hub, "data hub") as client:
        mounts = (await MountStub(client).list_mounts(timeout_s=args.timeout)).mounts
    titles = ["MOUNT POINT", "BUCKET", "MODE", "STATE", "PID", "RESTARTS", "SINCE", "LAST ERROR"]
    keys = [title.lower().replace(" ", "_") for title in titles]
    lines = [_row(mount) for mount in mounts]
    data = {"mounts": [dict(zip(keys, line, strict=True)) for line in lines]}
    return Outcome(data, text=rows(titles, lines) if lines else "no mounts")


async def remove(args: argparse.Namespace, targets: Targets) -> Outcome:
    async with connect(targets.hub, "data hub") as client:
        await MountStub(client).unmount(args.mount_point, timeout_s=args.timeout)
    return Outcome({"removed": args.mount_point})


def _oss_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bucket", metavar="BUCKET")
    parser.add_argument("mount_point", metavar="MOUNT_POINT", help="absolute, below allowed roots")
    parser.add_argument("--url", required=True, help="endpoint, https://oss-REGION.aliyuncs.com")
    parser.add_argument("--ak-id", required=True, metavar="SEALED", help="sealed access key id")
    parser.add_argument("--ak-secret", required=True, metavar="SEALED", help="sealed secret key")
    parser.add_argument("--path", default="/", help="prefix in the bucket (default: all of it)")
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--volume-id", default="", help="a name for logs and lists")
    parser.add_argument(
        "--other-opts", default="", metavar="OPTS",
        help="ossfs options, e.g. '-o allow_other -o umask=022'; unknown ones are refused",
    )  # fmt: skip


def _point(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mount_point", metavar="MOUNT_POINT")


NOUNS = (
    Noun(
        "mount",
        "encrypted-credential mounts of OSS buckets",
        (
            Verb("oss", "mount a bucket inside the guest", mount_oss, _oss_arguments),
            Verb("list", "show every mount, its process and its last error", list_mounts),
            Verb("remove", "flush and unmount", remove, _point),
        ),
    ),
)
