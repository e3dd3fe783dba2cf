"""What is put into a guest's root file system starts there, and its unit is sound and hardened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

MAX_EXPOSURE = 38  # tenths; what a service that mounts for others can reach


def need_debian(program: str, package: str) -> None:
    """Install ``package`` where that is allowed; a missing program in CI is a failure."""
    if shutil.which(program) is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-y", "-qq", package], check=True, timeout=300)
    assert shutil.which(program), f"{program} is missing; apt-get install {package}"


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tree made by the installer."""
    folder = tmp_path_factory.mktemp("rootfs")
    subprocess.run(
        [str(ROOT / "guest-image" / "install-rootfs.sh"), str(folder)], check=True, timeout=300
    )
    yield folder
    shutil.rmtree(folder)


def inside(layer: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` with the layer over this machine's /usr and /opt, in a mount namespace."""
    prologue = f"""
set -eu
mount --make-rprivate /
mkdir -p /opt
for part in usr opt; do
    mount -t overlay overlay -o lowerdir={layer}/$part:/$part /$part
done
cd /
"""
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", prologue + script],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "name",
    ["cguest", "cguestd", "attestation-agent", "confidential-data-hub", "api-server-rest",
     "cguest-hook"],
)  # fmt: skip
def test_installed_names_start(layer: Path, name: str) -> None:
    done = inside(layer, f"env -i PYTHONPATH=/nonexistent /usr/local/bin/{name} --help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


def test_mount_processes_are_found_and_the_harness_is_not(layer: Path) -> None:
    code = "import ossmount.__main__; print(ossmount.__file__)"
    script = f"/opt/confidential-guest/bin/python3 -I -c '{code}'"
    done = inside(layer, script)
    assert done.stdout.startswith("/opt/confidential-guest/lib/python3.11/"), done.stderr
    assert not list(layer.rglob("mocktee*"))


@pytest.mark.parametrize("kind", ["prestart", "poststop"])
def test_hooks_are_what_the_agent_takes_and_run(layer: Path, kind: str) -> None:
    """Regular files with an execute bit; nothing to do for this container, so they say nothing."""
    folder = layer / "usr/share/oci/hooks" / kind
    (file,) = folder.iterdir()
    assert file.is_file()
    assert not file.is_symlink()
    assert file.stat().st_mode & 0o111
    script = f"""
mount -t tmpfs none /run
mkdir -p /run/kata-containers/c1
echo '{{"root":{{"path":"rootfs"}}}}' > /run/kata-containers/c1/config.json
echo '{{"id":"c1","pid":0,"bundle":"/run/kata-containers/c1"}}' |
    env -i /usr/share/oci/hooks/{kind}/cguest-hook {kind}
"""
    done = inside(layer, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hooks_run_by_name_as_well(layer: Path) -> None:
    """With the PATH that the agent has as PID 1; argv[0] is then the path of the hook file."""
    script = (
        "export PATH=/bin:/sbin/:/usr/bin/:/usr/sbin/; "
        "exec -a /usr/share/oci/hooks/prestart/cguest-hook cguest-hook --help"
    )
    done = inside(layer, f"bash -c '{script}'")
    assert done.stdout.startswith("usage: cguest-hook"), done.stderr


def test_the_unit_is_valid(layer: Path) -> None:
    need_debian("systemd-analyze", "systemd")
    done = inside(layer, "systemd-analyze verify --man=no cguestd.service")
    assert done.returncode == 0, done.stderr
    assert "cguestd" not in done.stderr


def test_the_unit_is_hardened_as_far_as_mounting_allows(layer: Path) -> None:
    need_debian("systemd-analyze", "systemd")
    unit = layer / "usr/lib/systemd/system/cguestd.service"
    done = subprocess.run(
        ["systemd-analyze", "security", "--no-pager", "--offline=yes",
         f"--threshold={MAX_EXPOSURE}", str(unit)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    level = re.search(r"exposure level for \S+: (\S+)", done.stdout)
    assert done.returncode == 0, level and level.group(0)


def test_mounts_of_the_unit_stay_visible_to_others() -> None:
    """Any of these would give the service a mount namespace of its own."""
    text = (ROOT / "systemd" / "cguestd.service").read_text()
    hiding = r"^(PrivateTmp|PrivateDevices|PrivateMounts|PrivateUsers|ProtectSystem|ProtectHome|"
    hiding += r"ProtectProc|ProtectKernel\w+|ProtectControlGroups|\w+Paths|DynamicUser)="
    assert not re.search(hiding, text, re.MULTILINE)
