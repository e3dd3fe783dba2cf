"""The harness as a whole: it answers, it is seeded, and nothing of it is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import ssl
import sys
import tomllib
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from mocktee.errors import HarnessError
from mocktee.ground import claimed, mounts_below
from mocktee.harness import Harness
from mocktee.oss.errors import OssProcessError
from mocktee.seeding import RESOURCE_POLICY

ROOT = Path(__file__).resolve().parents[2]
LIMIT_SECONDS = 45.0

pytestmark = pytest.mark.real


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(number) for number in text.split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@asynccontextmanager
async def up(state: Path, *arguments: str) -> AsyncIterator[tuple[Process, str]]:
    """``python -m mocktee up`` and everything it printed until it was ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mocktee", "up", "--state", str(state), "--latency", "0", *arguments,
        cwd=ROOT, stdout=PIPE, stderr=PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            shown = (await process.stdout.readuntil(b"/mock/faults\n")).decode()
        yield process, shown
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.communicate(), LIMIT_SECONDS)


async def ended(process: Process) -> tuple[int, str]:
    async with asyncio.timeout(LIMIT_SECONDS):
        _, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, stderr.decode()


def shown_value(shown: str, name: str) -> str:
    match = re.search(rf"^  {name} +(\S+)$", shown, re.MULTILINE)
    assert match is not None, shown
    return match[1]


async def test_up_answers_and_interrupt_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with up(state) as (process, shown):
        children = children_of(process.pid)
        assert len(children) == 3
        assert mounts_below(state) == [str(state / "tee")]
        trust = ssl.create_default_context(cafile=shown_value(shown, "authority"))
        async with aiohttp.ClientSession() as session:
            for name in ("key broker", "object store"):
                async with session.get(shown_value(shown, name), ssl=trust) as response:
                    assert response.status >= 400  # it answers, and wants more than that
        config = tomllib.loads(Path(shown_value(shown, "configuration")).read_text())
        assert config["agent"]["token_configs"]["kbs"]["url"] == shown_value(shown, "key broker")
        report = Path(config["agent"]["tee"]["report_path"])
        assert await asyncio.to_thread(report.is_dir)
        os.killpg(process.pid, signal.SIGINT)  # as the terminal does: the children get it too
        assert await ended(process) == (0, "")
    assert not state.exists()
    assert mounts_below(state) == []
    assert [pid for pid in children if alive(pid)] == []


async def test_a_dead_child_ends_everything_with_a_message(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with up(state, "--no-tls") as (process, _):
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children_of(process.pid)}
        victim = next(pid for pid, line in names.items() if b"mocktee.oss" in line)
        os.kill(victim, signal.SIGKILL)
        code, message = await ended(process)
    assert code == 1
    assert f"keep the object store (mocktee.oss) running: process {victim}" in message
    assert not state.exists()
    assert mounts_below(state) == []
    assert [pid for pid in names if alive(pid)] == []


async def test_two_side_by_side_and_seeds(tmp_path: Path) -> None:
    async with (
        Harness.start(tmp_path / "one", latency=0.0, tls=False) as one,
        Harness.start(tmp_path / "two", latency=0.0) as two,
    ):
        assert one.kbs_url.startswith("http://")
        assert two.kbs_url.startswith("https://")
        assert one.access_key_secret != two.access_key_secret
        await one.put_objects({"new": b"123456789"})
        assert await one.object_crc64("new") == 11051210869376104954
        assert await two.object_bytes("hello.txt") == await one.object_bytes("hello.txt")
        assert await two.open_uploads() == []
        await two.set_resource_policy(RESOURCE_POLICY)
        async with (
            aiohttp.ClientSession() as session,
            session.get(await one.presigned_url("new")) as response,
        ):
            assert await response.read() == b"123456789"
        paths = two.write_config(tmp_path / "guest.toml", tmp_path / "run")
        config = tomllib.loads((tmp_path / "guest.toml").read_text())
        assert config["cdh"]["socket"] == f"unix://{paths.hub_socket}"
        assert config["cdh"]["kbc"]["kbs_cert"] == two.kbs_ca_pem
        assert await one.quotes_made() == 0
        with pytest.raises(HarnessError, match="not empty"):
            async with Harness.start(tmp_path / "one", latency=0.0):
                pytest.fail("two harnesses in one directory")
        assert (tmp_path / "one" / "pki").is_dir()
    assert not (tmp_path / "one").exists()
    assert not (tmp_path / "two").exists()


async def test_failure_while_starting_leaves_nothing(tmp_path: Path) -> None:
    state = tmp_path / "state"
    with pytest.raises(OssProcessError, match="nonsense"):
        async with Harness.start(
            state, latency=0.0, tls=False, oss_faults=[{"kind": "slow", "nonsense": 1}]
        ):
            pytest.fail("started with a fault that does not exist")
    assert not state.exists()
    assert mounts_below(state) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--state", "/sys/kernel/mocktee"), "refuses to start"),
        (("--state", "/proc/self"), "refuses to start"),
        (("--state", str(ROOT)), "not empty"),
    ],
    ids=["sysfs", "procfs", "somebody's directory"],
)
async def test_up_refuses(arguments: tuple[str, ...], message: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mocktee", "up", *arguments), cwd=ROOT, stdout=PIPE, stderr=PIPE
    )
    code, said = await ended(process)
    assert code == 1
    assert message in said


async def test_up_keeps_a_file_that_was_there(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("mine")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mocktee", "up", "--no-tls", "--latency", "0",
        "--state", str(tmp_path / "state"), "--config", str(config),
        cwd=ROOT, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    code, said = await ended(process)
    assert (code, config.read_text()) == (1, "mine")
    assert "it exists" in said
    assert not (tmp_path / "state").exists()


async def test_mounts_are_detached_before_anything_is_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text(json.dumps("kept"))
    async with claimed(tmp_path / "state") as state:
        (state / "mnt").mkdir()
        mount = await asyncio.create_subprocess_exec(
            "mount", "--bind", str(outside), str(state / "mnt")
        )
        assert await mount.wait() == 0
    assert not state.exists()
    assert (outside / "precious").read_text() == '"kept"'
