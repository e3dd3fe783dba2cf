"""What a host or an image may try with the hook, and what the hook may never do."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from demo.stage import Stage, run
from guesthook.bounded_work import run_bounded
from guesthook.errors import DeliveryError, RefusedError
from guesthook.hook import WORK_SECONDS, Invocation
from tests.guest.hook_ground import MARKER, SECRET, Ground, assert_stopped, contents, reason_of

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]


def state_of(bundle: Path, pid: int, **changes: object) -> bytes:
    state = {"ociVersion": "1.0.2", "id": bundle.name, "status": "created", "pid": pid}
    return json.dumps({**state, "bundle": str(bundle), **changes}).encode()


async def test_a_link_of_the_image_does_not_move_a_secret(ground: Ground, tmp_path: Path) -> None:
    """The destination /keys leads to /etc/keys *of the image*, where the runtime mounted too."""
    volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/password")})
    bundle = ground.bundle("cat /etc/keys/password", volumes={"/keys": volume})
    (bundle / "rootfs" / "etc" / "keys").mkdir(parents=True)
    (bundle / "rootfs" / "keys").symlink_to("/etc/keys")
    ran = await ground.run("runc", bundle)
    assert ran.out == SECRET.decode(), ran
    assert SECRET not in contents(tmp_path)


async def test_a_link_of_the_image_does_not_move_variables(
    stage: Stage, ground: Ground, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    ground.configure(environment="files")
    bundle = ground.bundle(MARKER, env=(f"P={ground.seal('default/hooks/password')}",))
    (bundle / "rootfs" / "run").mkdir()
    (bundle / "rootfs" / "run" / "secrets").symlink_to(outside)
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "symbolic link" in await reason_of(stage, bundle)
    assert not list(outside.iterdir())


async def test_a_link_of_the_host_is_not_followed_out_of_the_volume(
    ground: Ground, tmp_path: Path
) -> None:
    outside = tmp_path / "guest-file"
    outside.write_text("sealed.this is a file of the guest")
    volume = ground.secret_volume("keys", {"user": "alice"})
    (volume / "stray").symlink_to(outside)
    (volume / "up").symlink_to("../../guest-file")
    bundle = ground.bundle("cat /keys/user", volumes={"/keys": volume})
    ran = await ground.run("agent", bundle)
    assert ran.out == "alice"
    assert ran.report["prestart"]["code"] == 0


async def test_a_volume_with_a_pipe_is_refused_and_never_opened(
    stage: Stage, ground: Ground
) -> None:
    volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/password")})
    os.mkfifo(volume / "pipe")
    bundle = ground.bundle(MARKER, volumes={"/keys": volume})
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "pipe is neither file, directory nor link" in await reason_of(stage, bundle)


async def test_variables_do_not_go_into_a_directory_the_host_shares(
    stage: Stage, ground: Ground
) -> None:
    """A volume at /run/secrets is where the files of variables would be: they never get there."""
    sealed = ground.seal("default/hooks/password")
    ground.configure(environment="files")
    volume = ground.secret_volume("keys", {"password": sealed})
    bundle = ground.bundle(MARKER, volumes={"/run/secrets": volume}, env=(f"P={sealed}",))
    assert_stopped(await ground.run("agent", bundle), bundle)
    assert "environment: another mount" in await reason_of(stage, bundle)
    assert SECRET not in contents(ground.folder)


@contextmanager
def silent_file_system(place: Path) -> Iterator[None]:
    """A file system whose other end never answers, as a host may with what it shares."""
    device = os.open("/dev/fuse", os.O_RDWR)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    assert libc.mount(b"silent", os.fsencode(place), b"fuse", 0, options.encode()) == 0
    try:
        yield
    finally:
        os.close(device)  # ends the connection; whoever waits gets an error
        assert libc.umount2(os.fsencode(place), 2) == 0


async def test_a_host_that_never_answers_a_read_stops_the_container_in_time(
    stage: Stage, ground: Ground
) -> None:
    volume = ground.shared / "silent"
    volume.mkdir()
    with silent_file_system(volume):
        bundle = ground.bundle(MARKER, volumes={"/keys": volume})
        assert_stopped(await ground.run("agent", bundle), bundle)
    assert "hook: took longer than 7 s" in await reason_of(stage, bundle)


async def test_a_linked_bundle_is_refused(stage: Stage, ground: Ground) -> None:
    bundle = ground.bundle(MARKER)
    linked = bundle.with_name(f"{bundle.name}-linked")
    linked.symlink_to(bundle)
    done = await ground.hook("prestart", state_of(linked, 1))
    assert done.code == 1
    assert "is a symbolic link" in await reason_of(stage, linked)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"null", id="null"),
        pytest.param(b"[" * 100_000, id="deep"),
        pytest.param(b'{"id":"a","id":"b","bundle":"/x"}', id="twice"),
        pytest.param(b'{"id":"../x","bundle":"/x"}', id="id"),
        pytest.param(b'{"id":"a","bundle":"/run/../etc"}', id="parent"),
        pytest.param(b'{"id":"a","bundle":"/x","pid":true}', id="pid-bool"),
        pytest.param(b'{"id":"a","bundle":"/x","pid":-1}', id="pid-all"),
        pytest.param(b"\xff" * 64, id="bytes"),
        pytest.param(b" " * (2 << 20), id="long"),
    ],
)
async def test_a_hostile_state_is_refused_without_an_echo(ground: Ground, document: bytes) -> None:
    for kind in ("prestart", "poststop"):
        done = await ground.hook(kind, document)
        assert (done.code, done.out) == (1, b"")
        assert done.err == "cguest-hook: state refused; no container was examined"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["prestart"], 0, id="today"),
        pytest.param(["cguest-hook", "prestart"], 0, id="0.8-era"),
        pytest.param(["--help"], 0, id="help"),
        pytest.param(["poststart"], 2, id="no-work-for-it"),
        pytest.param([], 2, id="none"),
    ],
)
async def test_the_last_argument_is_the_kind(
    ground: Ground, arguments: list[str], code: int
) -> None:
    state = state_of(ground.bundle("ls"), 0)
    done = await run(str(ground.folder / "cguest-hook"), *arguments, stdin=state)
    assert done.code == code, done


async def test_processes_of_the_guest_are_never_killed(stage: Stage, ground: Ground) -> None:
    """Each state names a process that is not the container's; all of them live on."""
    bundle = ground.bundle(MARKER, env=("P=sealed.x",))
    bystander = await asyncio.create_subprocess_exec("sleep", "600")
    stranger = await asyncio.create_subprocess_exec("unshare", "-m", "sleep", "600")
    try:
        for pid in (0, 1, os.getpid(), bystander.pid, stranger.pid):
            done = await ground.hook("prestart", state_of(bundle, pid))
            assert done.code == 1
            assert "could not be stopped" in done.err
        assert bystander.returncode is None
        assert stranger.returncode is None
        os.kill(bystander.pid, 0)
        os.kill(stranger.pid, 0)
    finally:
        bystander.kill()
        stranger.kill()
        await asyncio.gather(bystander.wait(), stranger.wait())


@pytest.mark.parametrize("kind", ["prestart", "poststop"])
async def test_without_room_for_a_child_there_is_still_one_line_only(
    ground: Ground, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_process(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "no process")

    monkeypatch.setattr("guesthook.hook.run_bounded", no_process)
    bundle = ground.bundle(MARKER, env=("P=sealed.x",))
    ground.configure(oss_root=str(ground.folder / "full"))
    (ground.folder / "full" / bundle.name).mkdir(parents=True)
    hook = Invocation(str(ground.folder / "hooks.toml"), "/dev/full")
    assert hook.run(kind, state_of(bundle, 0)) == 1
    end = "secret refused, could not be stopped" if kind == "prestart" else "mounts remain"
    assert capfd.readouterr().err == f"cguest-hook: container {bundle.name}: {end}\n"


async def test_a_broken_configuration_stops_containers(ground: Ground) -> None:
    (ground.folder / "hooks.toml").write_text('environment = "ignore"\n')
    bundle = ground.bundle(MARKER)
    assert_stopped(await ground.run("agent", bundle), bundle)


async def test_a_hub_that_never_answers_stops_the_container_in_time(ground: Ground) -> None:
    """The stand-in kills a hook after 10 s, as the agent does; ours has ended by itself."""
    path = str(ground.folder / "silent.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        ground.hub_socket = Path(path)
        ground.configure()
        volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/password")})
        bundle = ground.bundle(MARKER, volumes={"/keys": volume})
        assert_stopped(await ground.run("agent", bundle), bundle)
    assert bundle.name in ground.kernel_log.read_text()


async def test_work_that_never_ends_is_killed() -> None:
    with pytest.raises(DeliveryError, match=r"longer than 0\.2 s"):
        run_bounded("volume", 0.2, lambda: time.sleep(600))


async def test_work_that_fails_unexpectedly_tells_nothing() -> None:
    def fail() -> None:
        raise ValueError(SECRET.decode())

    with pytest.raises(DeliveryError) as caught:
        run_bounded("volume", WORK_SECONDS, fail)
    assert SECRET.decode() not in str(caught.value)


async def test_work_holds_no_stream_of_the_agent(tmp_path: Path) -> None:
    seen = tmp_path / "seen"

    def look() -> None:
        seen.write_text(",".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)))
        raise RefusedError("volume /keys", "because")

    with pytest.raises(RefusedError, match="volume /keys: because"):
        run_bounded("volume", WORK_SECONDS, look)
    assert seen.read_text() == "/dev/null,/dev/null,/dev/null"
