"""Buckets that annotations ask for: inside the container, gone after it, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from demo.mounting import oss_options, sealed_oss_keys
from demo.stage import Stage
from protos.stubs import MountStub
from tests.guest.hook_ground import MARKER, Ground, assert_stopped, reason_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

PREFIX = "confidential-guest.io/oss-mount."
DATA = b"rows and rows"


async def annotation(stage: Stage, **changes: str) -> str:
    """The volume attributes of a CSI driver, and where the container wants the bucket."""
    key_id, key = await sealed_oss_keys(stage)
    options = {
        "target": "/mnt/data", "akId": key_id, "akSecret": key, "bucket": stage.harness.bucket,
        "path": "/", "url": stage.harness.oss_endpoint, "otherOpts": oss_options(stage),
        "readonly": "true",
    }  # fmt: skip
    return json.dumps(options | changes)


async def mounted(stage: Stage) -> list[str]:
    async with await stage.hub() as client:
        return [item.mount_point for item in (await MountStub(client).list_mounts()).mounts]


@pytest.mark.parametrize("runtime", ["runc", "agent"])
async def test_a_bucket_is_inside_the_container_and_gone_after_it(
    stage: Stage, ground: Ground, runtime: str
) -> None:
    await stage.harness.put_objects({"hooks/table.csv": DATA})
    bundle = ground.bundle(
        "cat /mnt/data/hooks/table.csv; echo; touch /mnt/data/new || echo read-only",
        annotations={PREFIX + "data": await annotation(stage)},
    )
    ran = await ground.run(runtime, bundle)
    assert ran.out.splitlines() == [DATA.decode(), "read-only"], ran
    assert await mounted(stage) == []
    assert not (stage.folder / "oss" / bundle.name).exists()


async def test_two_buckets_leave_nothing_behind(stage: Stage, ground: Ground) -> None:
    await stage.harness.put_objects({"hooks/table.csv": DATA})
    one = await annotation(stage)
    two = json.dumps(json.loads(one) | {"target": "/mnt/two"})
    bundle = ground.bundle(
        "cat /mnt/data/hooks/table.csv /mnt/two/hooks/table.csv",
        annotations={PREFIX + "a": one, PREFIX + "b": two},
    )
    assert (await ground.run("agent", bundle)).out == DATA.decode() * 2
    assert await mounted(stage) == []
    assert not (stage.folder / "oss" / bundle.name).exists()


async def test_buckets_that_would_hide_each_other_are_refused(stage: Stage, ground: Ground) -> None:
    outer = await annotation(stage)
    inner = json.dumps(json.loads(outer) | {"target": "/mnt/data/inner"})
    bundle = ground.bundle(MARKER, annotations={PREFIX + "a": inner, PREFIX + "b": outer})
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "/mnt/data in the container is not empty" in await reason_of(stage, bundle)
    bundle = ground.bundle(MARKER, annotations={PREFIX + "a": outer, PREFIX + "b": inner})
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "oss-mount b: another mount of the container hides it" in await reason_of(stage, bundle)
    assert await mounted(stage) == []


async def test_the_pause_container_gets_none(stage: Stage, ground: Ground) -> None:
    bundle = ground.bundle(
        "ls /",
        annotations={
            PREFIX + "data": "not even read",
            "io.kubernetes.cri.container-type": "sandbox",
        },
    )
    ran = await ground.run("agent", bundle)
    assert ran.report["prestart"] == {"code": 0, "output": ""}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({"target": "/bin/more"}, "target is not below /mnt", id="target"),
        pytest.param({"url": "http://oss.example"}, "[CDH] [ERROR]: Secure Mount", id="endpoint"),
        pytest.param({"encrypted": "gocryptfs"}, "[CDH] [ERROR]: Secure Mount", id="encrypted"),
    ],
)
async def test_a_refused_bucket_stops_the_container(
    stage: Stage, ground: Ground, changes: dict[str, str], reason: str
) -> None:
    bundle = ground.bundle(
        MARKER, annotations={PREFIX + "data": await annotation(stage, **changes)}
    )
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert f"oss-mount data: {reason}" in await reason_of(stage, bundle)
    assert await mounted(stage) == []


async def test_one_refused_bucket_takes_the_others_with_it(stage: Stage, ground: Ground) -> None:
    good = await annotation(stage)
    bad = json.dumps(json.loads(good) | {"target": "/mnt/other", "path": "no-slash"})
    bundle = ground.bundle(MARKER, annotations={PREFIX + "a": good, PREFIX + "b": bad})
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "oss-mount b" in await reason_of(stage, bundle)
    assert await mounted(stage) == []


async def test_a_link_of_the_image_does_not_move_the_bucket(
    stage: Stage, ground: Ground, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    bundle = ground.bundle(MARKER, annotations={PREFIX + "data": await annotation(stage)})
    (bundle / "rootfs" / "mnt").symlink_to(outside)
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "symbolic link" in await reason_of(stage, bundle)
    assert not list(outside.iterdir())


async def test_files_of_the_image_are_not_covered(stage: Stage, ground: Ground) -> None:
    bundle = ground.bundle(MARKER, annotations={PREFIX + "data": await annotation(stage)})
    (bundle / "rootfs" / "mnt" / "data").mkdir(parents=True)
    (bundle / "rootfs" / "mnt" / "data" / "there").touch()
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "is not empty" in await reason_of(stage, bundle)
