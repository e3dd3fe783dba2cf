"""Supervision of mount processes, on a scripted child with real mounts, pipes and signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvloop

from cdh.errors import MountFailedError, MountNotFoundError, MountPointError, MountRefusedError
from cdh.mounts.mountinfo import read_mountinfo, topmost
from cdh.mounts.supervisor import MountState, MountStatus, MountSupervisor, SupervisionPolicy
from cdh.mounts.unmount import detach
from tests.conftest import ROOT
from tests.services.scripted_mount import FAKE, KEY_ID, KEY_SECRET, launch_at

QUICK = SupervisionPolicy(
    start_seconds=10.0, stop_seconds=0.5, restart_delays=(0.01, 0.01), stable_seconds=3600.0
)

pytestmark = pytest.mark.real


class Workshop:
    """A supervisor with scripted children, and the places they use."""

    def __init__(self, folder: Path, script: str, policy: SupervisionPolicy) -> None:
        self.state = folder / "state"
        self.state.mkdir()
        self.target = folder / "made" / "here"
        self.supervisor = MountSupervisor(
            policy, command=(sys.executable, str(FAKE), script, str(self.state))
        )

    def starts(self) -> list[dict[str, object]]:
        return [json.loads(path.read_text()) for path in sorted(self.state.glob("start-*.json"))]

    def nothing_left(self) -> bool:
        pids = [int(str(start["pid"])) for start in self.starts()]
        return (
            topmost(read_mountinfo(), str(self.target)) is None
            and not self.target.parent.exists()
            and not any(os.path.exists(f"/proc/{pid}") for pid in pids)
        )

    async def until(self, condition: Callable[[MountStatus], bool]) -> MountStatus:
        """Wait for the only mount to be in some condition."""
        while True:
            mounts = self.supervisor.list()
            if mounts and condition(mounts[0]):
                return mounts[0]
            await asyncio.sleep(0.01)

    async def until_gone(self) -> None:
        while self.supervisor.list():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def workshop(
    folder: Path, script: str = "serve", policy: SupervisionPolicy = QUICK
) -> AsyncIterator[Workshop]:
    made = Workshop(folder, script, policy)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.supervisor.run())
        try:
            yield made
        finally:
            running.cancel()
    assert made.supervisor.list() == ()


async def test_mount_and_unmount_leave_nothing(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        await made.supervisor.mount(launch_at(made.target))
        (status,) = made.supervisor.list()
        assert status.state is MountState.MOUNTED
        assert (status.bucket, status.volume_id, status.read_only) == ("data-bucket", "vol", True)
        assert status.pid == made.starts()[0]["pid"]
        entry = topmost(read_mountinfo(), str(made.target))
        assert entry is not None
        assert entry.source == "oss-data-bucket"
        assert made.target.parent.stat().st_mode & 0o777 == 0o755
        await made.supervisor.unmount(str(made.target))
        assert made.nothing_left()
        with pytest.raises(MountNotFoundError):
            await made.supervisor.unmount(str(made.target))


async def test_keys_reach_the_child_through_the_pipe_only(tmp_path: Path) -> None:
    os.environ["AN_INHERITED_VALUE"] = "x"
    try:
        async with workshop(tmp_path) as made:
            await made.supervisor.mount(launch_at(made.target))
            (start,) = made.starts()
    finally:
        del os.environ["AN_INHERITED_VALUE"]
    text = json.dumps(start)
    assert KEY_ID not in text
    assert KEY_SECRET not in text
    assert "AN_INHERITED_VALUE" not in text
    descriptors = start["descriptors"]
    assert isinstance(descriptors, list)
    assert all(str(name).startswith("pipe:") for name in descriptors)
    assert len(descriptors) == 3


async def test_a_directory_that_was_there_stays(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        made.target.mkdir(parents=True)
        await made.supervisor.mount(launch_at(made.target))
        await made.supervisor.unmount(str(made.target) + "/")
        assert made.target.is_dir()


@pytest.mark.parametrize(
    ("script", "kind", "problem"),
    [
        ("fail:credentials", "credentials", "no credentials"),
        ("fail:bucket", "bucket", "no bucket"),
        ("fail:endpoint", "endpoint", "no endpoint"),
        ("fail:tls", "tls", "no tls"),
        ("silent-exit", "died", "exit code 3"),
        ("garbage", "died", "killed by signal 9"),
        ("pretend", "mount", "mount table does not show it"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(
    tmp_path: Path, script: str, kind: str, problem: str
) -> None:
    async with workshop(tmp_path, script) as made:
        with pytest.raises(MountFailedError, match=problem) as caught:
            await made.supervisor.mount(launch_at(made.target))
        assert caught.value.kind == kind
        assert made.supervisor.list() == ()
        assert made.nothing_left()
        assert len(made.starts()) == 1


async def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    supervisor = MountSupervisor(QUICK, command=("/no/such/program",))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(supervisor.run())
        with pytest.raises(MountFailedError, match="No such file") as caught:
            await supervisor.mount(launch_at(tmp_path / "m"))
        running.cancel()
    assert caught.value.kind == "launch"
    assert not (tmp_path / "m").exists()


async def test_the_callers_deadline_undoes_everything(tmp_path: Path) -> None:
    async with workshop(tmp_path, "hang") as made:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await made.supervisor.mount(launch_at(made.target))
        assert made.supervisor.list() == ()
        assert made.nothing_left()


async def test_our_own_limit_ends_a_silent_start(tmp_path: Path) -> None:
    policy = SupervisionPolicy(start_seconds=0.5, stop_seconds=0.2)
    async with workshop(tmp_path, "hang", policy) as made:
        with pytest.raises(MountFailedError, match="not ready within") as caught:
            await made.supervisor.mount(launch_at(made.target))
        assert caught.value.kind == "timeout"
        assert made.nothing_left()


async def test_a_child_that_ignores_signals_is_killed_and_detached(tmp_path: Path) -> None:
    async with workshop(tmp_path, "stubborn") as made:
        await made.supervisor.mount(launch_at(made.target))
        await made.supervisor.unmount(str(made.target))
        assert made.nothing_left()


async def test_a_child_that_dies_is_replaced_with_the_same_keys(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        await made.supervisor.mount(launch_at(made.target))
        (first,) = made.supervisor.list()
        os.kill(first.pid, signal.SIGKILL)
        again = await made.until(lambda m: m.state is MountState.MOUNTED and m.pid != first.pid)
        assert again.restarts == 1
        assert "killed by signal 9" in again.last_error
        # The dead mount is gone: exactly one is there.
        own = [e for e in read_mountinfo() if e.mount_point == str(made.target)]
        assert len(own) == 1
    assert made.nothing_left()
    assert made.supervisor.total_restarts == 1  # a counter does not fall when a mount goes


async def test_a_mount_that_cannot_be_restarted_stays_listed_as_failed(tmp_path: Path) -> None:
    async with workshop(tmp_path, "once") as made:
        launch = launch_at(made.target)
        await made.supervisor.mount(launch)
        os.kill(made.supervisor.list()[0].pid, signal.SIGKILL)
        failed = await made.until(lambda m: m.state is MountState.FAILED)
        assert "no endpoint" in failed.last_error
        assert failed.pid == 0
        assert len(made.starts()) == 1 + len(QUICK.restart_delays)
        assert topmost(read_mountinfo(), str(made.target)) is None
        # Nobody can use the keys any more, so they are gone.
        assert not launch.credentials.access_key_secret
        await made.supervisor.unmount(str(made.target))
        assert made.nothing_left()


async def test_a_failed_mount_can_be_replaced(tmp_path: Path) -> None:
    async with workshop(tmp_path, "once") as made:
        await made.supervisor.mount(launch_at(made.target))
        os.kill(made.supervisor.list()[0].pid, signal.SIGKILL)
        await made.until(lambda m: m.state is MountState.FAILED)
        for path in made.state.glob("start-*.json"):
            path.unlink()
        await made.supervisor.mount(launch_at(made.target))
        assert made.supervisor.list()[0].state is MountState.MOUNTED


async def test_unmounting_from_outside_ends_the_record(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        await made.supervisor.mount(launch_at(made.target))
        assert detach(str(made.target))
        await made.until_gone()
        assert made.nothing_left()


async def test_stopping_removes_every_mount(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        other = tmp_path / "other"
        await made.supervisor.mount(launch_at(made.target))
        await made.supervisor.mount(launch_at(other, "more-data"))
        assert [m.bucket for m in made.supervisor.list()] == ["data-bucket", "more-data"]
    assert made.nothing_left()
    assert not other.exists()


async def test_closing_while_a_mount_starts(tmp_path: Path) -> None:
    async with workshop(tmp_path, "hang") as made:
        starting = asyncio.create_task(made.supervisor.mount(launch_at(made.target)))
        await made.until(lambda m: m.pid != 0)
        await made.supervisor.close()
        with pytest.raises(MountFailedError, match="while it was starting"):
            await starting
        assert made.nothing_left()


async def test_a_mount_cancelled_before_it_began_leaves_no_record(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        launch = launch_at(made.target)
        starting = asyncio.create_task(made.supervisor.mount(launch))
        while not made.supervisor.list():
            await asyncio.sleep(0)
        # Its own task has not had a turn yet.
        starting.cancel()
        await made.supervisor.close()
        await asyncio.wait([starting])
        assert made.supervisor.list() == ()
        assert not launch.credentials.access_key_secret
        assert made.nothing_left()


async def test_one_place_serves_one_mount(tmp_path: Path) -> None:
    async with workshop(tmp_path) as made:
        await made.supervisor.mount(launch_at(made.target))
        for place in (made.target, made.target / "below", made.target.parent):
            launch = launch_at(place)
            with pytest.raises(MountPointError, match="already at"):
                await made.supervisor.mount(launch)
            assert not launch.credentials.access_key_secret
        assert len(made.supervisor.list()) == 1


async def test_the_number_of_mounts_is_bounded(tmp_path: Path) -> None:
    async with workshop(tmp_path, policy=SupervisionPolicy(max_mounts=1)) as made:
        await made.supervisor.mount(launch_at(made.target))
        with pytest.raises(MountRefusedError, match="limit"):
            await made.supervisor.mount(launch_at(tmp_path / "other"))


async def test_no_mount_is_made_while_stopping(tmp_path: Path) -> None:
    async with workshop(tmp_path, "stubborn") as made:
        await made.supervisor.mount(launch_at(made.target))
        closing = asyncio.create_task(made.supervisor.close())
        await asyncio.sleep(0)
        with pytest.raises(MountFailedError, match="stopping"):
            await made.supervisor.mount(launch_at(tmp_path / "other"))
        await closing


async def test_a_chattering_child_cannot_flood_the_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with workshop(tmp_path, "chatter") as made:
        await made.supervisor.mount(launch_at(made.target))
    relayed = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    lines = [record for record in relayed if record["event"] == "mount process"]
    assert len(lines) == 200
    assert all(len(record["text"]) <= 513 for record in lines)
    (dropped,) = [r for r in relayed if r["event"] == "mount process said too much"]
    assert dropped["lines"] == 801


async def test_a_hub_that_is_killed_leaves_no_mount(tmp_path: Path) -> None:
    state, target = tmp_path / "state", tmp_path / "volume"
    state.mkdir()
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.services.mount_holder", str(target), str(state),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    try:
        assert await holder.stdout.readline() == b"mounted\n"
    finally:
        holder.kill()
        await holder.communicate()
    child = json.loads((state / "start-0.json").read_text())["pid"]
    while os.path.exists(f"/proc/{child}") or topmost(read_mountinfo(), str(target)) is not None:
        await asyncio.sleep(0.01)


def test_the_loop_of_the_service_does_the_same(tmp_path: Path) -> None:
    """The other tests run on asyncio's loop; the service runs on uvloop."""

    async def life() -> None:
        async with workshop(tmp_path) as made:
            await made.supervisor.mount(launch_at(made.target))
            (first,) = made.supervisor.list()
            os.kill(first.pid, signal.SIGKILL)
            await made.until(lambda m: m.state is MountState.MOUNTED and m.restarts == 1)
            await made.supervisor.unmount(str(made.target))
            assert made.nothing_left()
            assert len(made.starts()) == 2

    uvloop.run(life())
