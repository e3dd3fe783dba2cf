"""Two containers of a real runtime on one REST socket: each gets what its rule grants."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from rest.app import open_rest
from rest.backends import Backends
from rest.config import RestConfig
from tests.services.fake_rest import FakeBackend

PROGRAMS = {"/usr": "/usr", "/lib": "/usr/lib", "/lib64": "/usr/lib64"}
GROUP = f"cguest-test-{secrets.token_hex(4)}"
GROUPS = Path("/sys/fs/cgroup")
ASK = "curl -s --unix-socket /run/guest/rest.sock http://localhost"


def make_bundle(bundles: Path, sockets: Path, container: str, script: str) -> Path:
    """Write a bundle as kata-agent does, with the folder of the socket mounted at /run/guest."""
    bundle = bundles / secrets.token_hex(32)
    for place in ("proc", "run/guest", "bin", *(path[1:] for path in PROGRAMS)):
        (bundle / "rootfs" / place).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "busybox is missing; apt-get install busybox-static"
    shutil.copy(busybox, bundle / "rootfs/bin/sh")
    mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}] + [
        {"destination": place, "source": source, "type": "bind", "options": ["rbind", "ro"]}
        for place, source in {**PROGRAMS, "/run/guest": str(sockets)}.items()
    ]
    spec = {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False, "user": {"uid": 1000, "gid": 1000}, "cwd": "/",
            "args": ["/bin/sh", "-c", script], "env": ["PATH=/usr/bin:/bin"],
        },
        "root": {"path": "rootfs", "readonly": True},
        "mounts": mounts,
        "annotations": {
            "io.kubernetes.cri.container-name": container,
            "io.kubernetes.cri.sandbox-namespace": "prod",
        },
        "linux": {
            "cgroupsPath": f"/{GROUP}/{bundle.name}",
            "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")],
        },
    }  # fmt: skip
    (bundle / "config.json").write_text(json.dumps(spec))
    return bundle


async def run_container(state: Path, bundle: Path) -> list[str]:
    """Run to the end; return the lines that it printed."""
    process = await asyncio.create_subprocess_exec(
        "runc", "--root", str(state), "run", "--bundle", str(bundle), bundle.name,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return out.decode().splitlines()


@pytest.fixture
def no_groups_left() -> Iterator[None]:
    """The runtime removes the groups of containers, and leaves the one that they were in."""
    yield
    for place in (*GROUPS.glob(GROUP), *GROUPS.glob(f"*/{GROUP}")):
        place.rmdir()


@pytest.mark.usefixtures("no_groups_left")
async def test_containers_of_a_runtime(tmp_path: Path) -> None:
    bundles, sockets, state = (tmp_path / name for name in ("bundles", "sockets", "state"))
    for folder in (bundles, sockets, state):
        folder.mkdir()
    settings = {
        "bind": "127.0.0.1:0", "features": "all", "bundles": str(bundles),
        "socket": f"unix://{sockets}/rest.sock",
        "rules": [
            {"name": "server", "match": {"container": "server"}, "evidence": True},
            {"name": "trainer", "match": {"container": "trainer"}, "tokens": ["kbs"]},
        ],
    }  # fmt: skip
    script = f"{ASK}/aa/evidence?runtime_data=x; echo; {ASK}/aa/token?token_type=kbs; echo"
    server = make_bundle(bundles, sockets, "server", script)
    trainer = make_bundle(bundles, sockets, "trainer", script)
    backend = FakeBackend()
    async with open_rest(msgspec.convert(settings, RestConfig), Backends(backend, backend)):
        of_server = await run_container(state, server)
        of_trainer = await run_container(state, trainer)
    assert of_server[0] == "evidence"
    assert of_server[1].startswith(f"Forbidden: container {server.name} (prod/server): none of")
    assert of_trainer[0].startswith(f"Forbidden: container {trainer.name} (prod/trainer): none of")
    assert of_trainer[1] == '{"token":"t"}'
