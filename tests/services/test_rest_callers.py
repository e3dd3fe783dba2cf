"""Callers told apart over a real socket: real processes in real control groups and namespaces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rest import peer
from rest.app import open_rest
from rest.backends import Backends
from rest.config import BindAddress, RestConfig
from rest.errors import CallerUnknownError
from rest.identity import Container
from rest.peer import Guest, Identifier, PeerProcess, Unidentified
from tests.services.fake_rest import FakeBackend, HeldBackend

CURL = "curl -s -o - -w '\\n%{http_code}' --max-time 20 --unix-socket"
RULES: list[dict[str, Any]] = [
    {"name": "server", "match": {"container": "server", "namespace": "prod"},
     "resources": ["default/keys/*"], "evidence": True},
    {"name": "guest", "who": "guest", "tokens": ["kbs"]},
    {"name": "all", "who": "anyone", "resources": ["public/*/*"]},
]  # fmt: skip


def marked(container: str, namespace: str = "prod") -> dict[str, str]:
    return {
        "io.kubernetes.cri.container-name": container,
        "io.kubernetes.cri.sandbox-namespace": namespace,
    }


@dataclass
class World:
    """A guest with containers: control groups of this machine, bundles in a folder."""

    folder: Path
    group: Path
    made: list[Path] = field(default_factory=list)

    @property
    def bundles(self) -> Path:
        return self.folder / "bundles"

    @property
    def socket(self) -> Path:
        return self.folder / "rest.sock"

    def container(self, marks: dict[str, str] | None, *, rootfs: str = "/") -> str:
        """Make the bundle of a new container, whose root directory is ``rootfs``."""
        name = secrets.token_hex(32)
        bundle = self.bundles / name
        bundle.mkdir(parents=True)
        if marks is not None:
            (bundle / "config.json").write_text(json.dumps({"annotations": marks}))
        (bundle / "rootfs").symlink_to(rootfs)
        return name

    def group_of(self, path: str) -> Path:
        place = self.group
        for part in path.split("/"):
            place = place / part
            if not place.exists():
                place.mkdir()
                self.made.append(place)
        return place

    async def ask(self, target: str, *, group: str = "", before: str = "") -> tuple[int, str]:
        """Ask from a process in ``group``, started through the command ``before``."""
        enter = f"echo $$ > {self.group_of(group)}/cgroup.procs; " if group else ""
        script = f"{enter}exec {before} {CURL} {self.socket} http://localhost{target}"
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", script, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        body, _, status = out.decode("utf-8", "replace").rpartition("\n")
        return int(status), body


def _unified() -> Path:
    """Return where the version 2 hierarchy is mounted."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.startswith("cgroup2 "):
            return Path(fields.split(" ")[4])
    raise AssertionError("no cgroup2 hierarchy is mounted")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    group = _unified() / f"cguest-test-{secrets.token_hex(4)}"
    group.mkdir()
    found = World(tmp_path, group)
    (tmp_path / "bundles").mkdir()
    yield found
    for place in reversed([group, *found.made]):
        place.rmdir()


@asynccontextmanager
async def served(
    world: World, backend: FakeBackend | None = None, **settings: Any
) -> AsyncIterator[BindAddress]:
    backend = backend if backend is not None else FakeBackend()
    values = {
        "bind": "127.0.0.1:0", "features": "all", "socket": f"unix://{world.socket}",
        "bundles": str(world.bundles), "rules": RULES, **settings,
    }  # fmt: skip
    config = msgspec.convert(values, RestConfig)
    async with open_rest(config, Backends(backend, backend)) as address:
        yield address


KEY, EVIDENCE = "/cdh/resource/default/keys/1", "/aa/evidence?runtime_data=x"
TOKEN = "/aa/token?token_type=kbs"


@pytest.mark.parametrize(
    "path",
    ["kubepods/besteffort/podx/{0}", "kubepods.slice/cri-containerd-{0}.scope", "crio-{0}",
     "kubepods/podx/{0}/init.scope"],
)  # fmt: skip
async def test_a_container_gets_what_its_rule_grants(world: World, path: str) -> None:
    name = world.container(marked("server"))
    async with served(world):
        for target, status in [(KEY, 200), (EVIDENCE, 200), (TOKEN, 403),
                               ("/cdh/resource/default/other/1", 403),
                               ("/cdh/resource/default/keys/../other", 403),
                               ("/cdh/resource/public/x/1", 200), ("/info", 200)]:  # fmt: skip
            got, body = await world.ask(target, group=path.format(name))
            assert got == status, (target, body)
            if status == 403:
                assert body.startswith(f"Forbidden: container {name} (prod/server): none of its")


async def test_another_container_gets_nothing_of_it(world: World) -> None:
    other = world.container(marked("server", "test"))
    async with served(world):
        assert (await world.ask(KEY, group=f"kubepods/{other}"))[0] == 403
        status, body = await world.ask(EVIDENCE, group=f"kubepods/{other}")
    assert status == 403
    assert "none of its rules (all) grants evidence" in body


async def test_a_process_of_the_guest_is_its_own_identity(world: World) -> None:
    async with served(world):
        assert (await world.ask(TOKEN))[0] == 200
        status, body = await world.ask(KEY)
        assert status == 403
        assert body.startswith("Forbidden: guest: none of its rules (guest, all)")
        assert (await world.ask(TOKEN, group="system.slice/other.service"))[0] == 200


@pytest.mark.parametrize(
    ("group", "before", "reason"),
    [
        pytest.param("kubepods/{a}/{b}", "", "more than one container", id="below another"),
        pytest.param("kubepods/{unknown}", "", "has no bundle", id="no bundle"),
        pytest.param("kubepods/{elsewhere}", "", "root directory is not", id="group of another"),
        pytest.param("kubepods/{broken}", "", "config.json cannot be read", id="broken bundle"),
        pytest.param("kubepods/{a}", "chroot {chroot}", "root directory is not", id="chroot"),
        pytest.param("", "chroot {chroot}", "is not that of this guest", id="chroot, no group"),
        pytest.param("kubepods/x", "unshare -p -f", "do not name", id="a pid namespace"),
        pytest.param("", "unshare -p -f", "do not name", id="a pid namespace, no group"),
    ],
)
async def test_who_cannot_be_told_is_anyone(
    world: World, group: str, before: str, reason: str
) -> None:
    chroot = world.folder / "chroot"
    names = {
        "a": world.container(marked("server")),
        "b": world.container(marked("server")),
        "elsewhere": world.container(marked("server"), rootfs="/proc"),
        "broken": world.container(marked("server")),
        "unknown": secrets.token_hex(32),
        "chroot": str(chroot),
    }
    (world.bundles / names["broken"] / "config.json").write_text("{")
    with contextlib.ExitStack() as stack:
        if "chroot" in before:
            _bind_root(chroot, stack)
        async with served(world):
            where = group.format(**names)
            status, body = await world.ask(TOKEN, group=where, before=before.format(**names))
            assert status == 403, body
            assert reason in body
            public = "/cdh/resource/public/x/1"
            assert (await world.ask(public, group=where, before=before.format(**names)))[0] == 200


def _bind_root(place: Path, stack: contextlib.ExitStack) -> None:
    """Give ``place`` programs to run and the socket's folder, with another root directory."""
    for name in ("usr", "lib", "lib64", "bin", "etc", str(place.parent).lstrip("/")):
        source, target = Path("/") / name, place / name
        if not source.exists():
            continue
        target.mkdir(parents=True)
        assert os.system(f"mount --bind {source} {target}") == 0
        stack.callback(os.system, f"umount {target}")


async def test_a_container_that_takes_all_its_places_takes_nobody_elses(world: World) -> None:
    greedy, other = (world.container(marked("server")) for _ in range(2))
    backend = HeldBackend()
    limits = {"requests": 8, "requests_per_caller": 2}
    async with served(world, backend, limits=limits), asyncio.TaskGroup() as tasks:
        for _ in range(2):
            tasks.create_task(world.ask(KEY, group=f"kubepods/{greedy}"))
            await backend.waiting.acquire()
        assert (await world.ask(EVIDENCE, group=f"kubepods/{greedy}"))[0] == 429
        assert (await world.ask(EVIDENCE, group=f"kubepods/{other}"))[0] == 200
        assert (await world.ask(TOKEN))[0] == 200
        backend.release.set()


async def test_over_tcp_only_what_anyone_may(world: World) -> None:
    async with served(world) as address:
        for target, status in [(KEY, 403), (TOKEN, 403), (EVIDENCE, 403), ("/info", 200),
                               ("/readyz", 200), ("/cdh/resource/public/x/1", 200)]:  # fmt: skip
            process = await asyncio.create_subprocess_exec(
                "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                f"http://127.0.0.1:{address.port}{target}", stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            out, _ = await process.communicate()
            assert int(out) == status, target


async def test_every_user_may_connect_and_the_socket_goes_with_the_server(world: World) -> None:
    async with served(world):
        assert world.socket.stat().st_mode & 0o777 == 0o666
    assert not world.socket.exists()


async def connected_pair(folder: Path) -> tuple[socket.socket, socket.socket]:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        listening.listen()
        theirs = socket.socket(socket.AF_UNIX)
        theirs.connect(str(folder / "s"))
        return listening.accept()[0], theirs


def fake_proc(folder: Path, pid: int, cgroup: str) -> Path:
    """A procfs root in which ``pid`` is in ``cgroup`` and in this process' namespaces."""
    proc = folder / "proc"
    for name in (str(pid), "self"):
        (proc / name / "ns").mkdir(parents=True)
        (proc / name / "ns" / "pid").symlink_to("pid:[1]")
        (proc / name / "root").symlink_to("/")
        (proc / name / "cgroup").write_text(cgroup)
    return proc


@pytest.mark.parametrize(
    "cgroup",
    ["0::/kubepods/{0}\n", "4:memory:/kubepods/{0}\n1:name=systemd:/\n0::/\n",
     "11:cpu,cpuacct:/kubepods.slice/crio-{0}.scope\n1:name=systemd:/kubepods.slice/crio-{0}.scope"],
    ids=["v2", "hybrid", "v1"],
)  # fmt: skip
async def test_other_machines_control_groups(world: World, cgroup: str) -> None:
    name = world.container(marked("server"))
    proc = fake_proc(world.folder, os.getpid(), cgroup.format(name))
    ours, theirs = await connected_pair(world.folder)
    with ours, theirs, contextlib.closing(PeerProcess.of(ours)) as process:
        assert process.pid == os.getpid()
        found = Identifier(proc, world.bundles).identify(process)
    assert found == Container(name, marked("server"))


@pytest.mark.parametrize("file", ["cgroup", "config.json"])
@pytest.mark.parametrize("kind", ["symlink", "pipe", "folder", "endless"])
async def test_files_that_are_not_what_they_should_be(world: World, file: str, kind: str) -> None:
    name = world.container(marked("server"))
    proc = fake_proc(world.folder, os.getpid(), f"0::/{name}")
    place = {"cgroup": proc / str(os.getpid()) / "cgroup",
             "config.json": world.bundles / name / "config.json"}[file]  # fmt: skip
    content = place.read_bytes()
    place.unlink()
    match kind:
        case "symlink":
            (world.folder / "real").write_bytes(content)
            place.symlink_to(world.folder / "real")
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
        case _:
            place.write_bytes(content)
            os.truncate(place, 5 * 1024 * 1024)
    ours, theirs = await connected_pair(world.folder)
    with ours, theirs, contextlib.closing(PeerProcess.of(ours)) as process:
        assert isinstance(Identifier(proc, world.bundles).identify(process), Unidentified)


@pytest.mark.parametrize("option", [peer.SO_PEERPIDFD, 9999], ids=["peerpidfd", "pidfd_open"])
async def test_a_process_that_ended_is_nobody(
    world: World, option: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even while its files can be read: its number may be another's by now.

    A kernel before 6.5 does not know the option, as no kernel knows 9999.
    """
    monkeypatch.setattr(peer, "SO_PEERPIDFD", option)
    ours, theirs = socket.socket(socket.AF_UNIX), str(world.folder / "s")
    with ours:
        ours.bind(theirs)
        ours.listen()
        child = await asyncio.create_subprocess_exec(
            "python3", "-c",
            f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({theirs!r}); input()",
            stdin=asyncio.subprocess.PIPE,
        )  # fmt: skip
        accepted = ours.accept()[0]
    with accepted, contextlib.closing(PeerProcess.of(accepted)) as process:
        assert process.pid == child.pid
        proc = fake_proc(world.folder, child.pid, "0::/")
        identifier = Identifier(proc, world.bundles)
        assert identifier.identify(process) == Guest()
        await child.communicate(b"\n")
        assert isinstance(identifier.identify(process), Unidentified)
        # Newer kernels still hand out a descriptor of it, older ones do not.
        with (
            contextlib.suppress(CallerUnknownError),
            contextlib.closing(PeerProcess.of(accepted)) as again,
        ):
            assert not again.is_alive()
