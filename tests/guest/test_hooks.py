"""The guest hook with real runtimes, a real root file system, and the whole guest behind it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from demo.stage import Stage
from tests.guest.hook_ground import (
    MARKER,
    RUNTIMES,
    SECRET,
    Ground,
    assert_stopped,
    contents,
    reason_of,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_secret_files_are_clear_inside_and_nowhere_else(ground: Ground, runtime: str) -> None:
    files = {"password": ground.seal("default/hooks/password") + "\n", "user": "alice"}
    volume = ground.secret_volume("keys", files)
    os.chown(volume / "password", 1000, 1001)
    (volume / "password").chmod(0o404)
    bundle = ground.bundle(
        "cat /keys/password; echo; cat /keys/user; echo; ls -l /keys/; ls -lnL /keys/; "
        "touch /keys/new || echo read-only",
        volumes={"/keys": volume},
    )
    ran = await ground.run(runtime, bundle)
    lines = ran.out.splitlines()
    assert lines[:2] == [SECRET.decode(), "alice"], ran
    assert "password -> ..data/password" in ran.out
    assert re.search(r"-r-----r--.* 1000 +1001 .*password$", ran.out, re.MULTILINE)
    assert lines[-1] == "read-only"
    assert SECRET not in contents(ground.folder)
    assert (volume / "password").read_text() == files["password"]
    assert "cguest-hook" not in ran.told
    assert str(ground.folder) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_a_refused_secret_stops_the_container(
    stage: Stage, ground: Ground, runtime: str
) -> None:
    volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/absent")})
    bundle = ground.bundle(f"{MARKER} cat /keys/password", volumes={"/keys": volume})
    ran = await ground.run(runtime, bundle)
    assert_stopped(ran, bundle)
    reason = await reason_of(stage, bundle)
    assert reason.startswith("volume /keys/..2026_01_01/password: [CDH] [ERROR]: Unseal Secret")
    shown = await stage.cguest("status")
    assert f"container stopped {bundle.name}" in shown.text
    assert "container stopped by hook" in stage.daemon.log.read_text()
    assert not ground.kernel_log.read_text()


async def test_sealed_variables_are_refused_by_default(stage: Stage, ground: Ground) -> None:
    sealed = ground.seal("default/hooks/password")
    bundle = ground.bundle(MARKER, env=(f"PASSWORD={sealed}",))
    ran = await ground.run("agent", bundle)
    assert_stopped(ran, bundle)
    assert "environment PASSWORD: is sealed" in await reason_of(stage, bundle)


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_sealed_variables_become_files_if_the_image_says_so(
    ground: Ground, runtime: str
) -> None:
    ground.configure(environment="files")
    sealed = ground.seal("default/hooks/password")
    bundle = ground.bundle(
        # The environment itself stays as it is: the runtime handed it over before any hook ran.
        'echo "$PASSWORD"; cat /run/secrets/cguest-env/PASSWORD; echo; '
        '. /run/secrets/cguest-env/env.sh; echo "$PASSWORD"; ls /run/secrets/cguest-env',
        env=(f"PASSWORD={sealed}", "OTHER=plain"),
    )
    ran = await ground.run(runtime, bundle)
    assert ran.out.splitlines() == [sealed, SECRET.decode(), SECRET.decode(), "PASSWORD", "env.sh"]
    assert SECRET not in contents(ground.folder)


async def test_nothing_to_do_asks_nobody(ground: Ground) -> None:
    ground.hub_socket = ground.folder / "nobody.sock"
    ground.configure()
    volume = ground.secret_volume("plain", {"user": "alice"})
    bundle = ground.bundle("cat /keys/user", volumes={"/keys": volume}, env=("A=b",))
    ran = await ground.run("agent", bundle)
    assert ran.out == "alice"
    assert ran.report["prestart"] == {"code": 0, "output": ""}
    assert ran.report["poststop"] == {"code": 0, "output": ""}


async def test_without_a_hub_the_container_is_stopped_and_only_its_name_told(
    ground: Ground,
) -> None:
    ground.hub_socket = ground.folder / "nobody.sock"
    ground.configure()
    volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/password")})
    bundle = ground.bundle(MARKER, volumes={"/keys": volume})
    assert_stopped(await ground.run("agent", bundle), bundle)
    line = f"<4>cguest-hook: container {bundle.name}: secret refused, stopped\n"
    assert ground.kernel_log.read_text() == line


@pytest.mark.parametrize("runtime", RUNTIMES)
async def test_one_file_of_a_volume_is_clear_inside(ground: Ground, runtime: str) -> None:
    """A subPath: the runtime mounts one file of the volume over a file of the container."""
    volume = ground.secret_volume("keys", {"password": ground.seal("default/hooks/password")})
    source = volume / "..2026_01_01" / "password"
    bundle = ground.bundle("cat /etc/password", volumes={"/etc/password": source})
    (bundle / "rootfs" / "etc").mkdir()
    (bundle / "rootfs" / "etc" / "password").touch()
    ran = await ground.run(runtime, bundle)
    assert ran.out == SECRET.decode(), ran
    assert SECRET not in contents(ground.folder)
    assert str(ground.folder) not in Path("/proc/self/mountinfo").read_text()
