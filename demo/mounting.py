"""A bucket mounted with sealed credentials, for benches and tests that only need the mount."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cdh.sealed.seal import generate_signing_key, seal_vault
from demo.stage import Stage
from protos.stubs import MountStub, SecureMountStub

KID = "kbs:///default/signing-key/mounting"


@dataclass(frozen=True, slots=True)
class MountedBucket:
    """Where it is, and which process serves it."""

    point: Path
    pid: int


async def sealed_oss_keys(stage: Stage) -> tuple[str, str]:
    """Seal references to the harness's OSS keys; the public half goes to the KBS."""
    key = generate_signing_key(KID)
    await stage.harness.put_resource("default/signing-key/mounting", key.public_jwk)
    return (
        seal_vault("kbs:///default/oss/access-key-id", kid=KID, private_jwk=key.private_jwk),
        seal_vault("kbs:///default/oss/access-key-secret", kid=KID, private_jwk=key.private_jwk),
    )


def oss_options(stage: Stage) -> str:
    """What a server on a loopback address needs: it has no region in its name, nor buckets."""
    return f"-o use_path_request_style,region={stage.harness.oss_region}"


@asynccontextmanager
async def mounted_bucket(stage: Stage, other_opts: str = "") -> AsyncIterator[MountedBucket]:
    """Mount the harness's bucket read-write; unmounted at the end of the block."""
    key_id, key = await sealed_oss_keys(stage)
    point = stage.folder / "mnt" / "bench"
    options = {
        "akId": key_id, "akSecret": key, "bucket": stage.harness.bucket, "path": "/",
        "url": stage.harness.oss_endpoint, "readonly": "false", "targetPath": "",
        "otherOpts": f"{oss_options(stage)} {other_opts}".strip(), "volumeId": "bench",
    }  # fmt: skip
    async with await stage.hub() as client:
        await SecureMountStub(client).secure_mount(
            "alibaba-cloud-oss", options, [], str(point), timeout_s=50
        )
        (mount,) = (await MountStub(client).list_mounts(timeout_s=10)).mounts
        try:
            yield MountedBucket(point, mount.pid)
        finally:
            await MountStub(client).unmount(str(point), timeout_s=30)
