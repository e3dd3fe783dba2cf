"""The units agree with the program about sockets, reload and watchdog."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.config import AgentConfig
from cdh.config import CdhConfig
from tests.conftest import ROOT
from tests.guest.test_rootfs import need_debian

SOCKETS = {"agent": AgentConfig().socket, "hub": CdhConfig().socket}


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(ROOT / "systemd" / name)
    return parser


@pytest.mark.parametrize("name", sorted(SOCKETS))
def test_a_socket_unit_has_the_name_and_the_path_of_the_configuration(name: str) -> None:
    section = unit(f"cguestd-{name}.socket")["Socket"]
    assert section["FileDescriptorName"] == name
    assert f"unix://{section['ListenStream']}" == SOCKETS[name]
    assert section["SocketMode"] == "0600"
    assert section["Service"] == "cguestd.service"


def test_the_service_is_watched_and_reloaded_without_a_core_dump() -> None:
    section = unit("cguestd.service")["Service"]
    assert section["Type"] == "notify"  # notify-reload came with systemd 253
    assert section["ExecReload"].endswith("kill -HUP $MAINPID'")
    assert int(section["WatchdogSec"]) >= 15  # a part may be away for 5 s of a third of it
    assert section["WatchdogSignal"] == "SIGKILL"


def test_systemd_accepts_all_units(tmp_path: Path) -> None:
    need_debian("systemd-analyze", "systemd")
    for path in (ROOT / "systemd").glob("*.s*"):
        text = path.read_text().replace("/usr/local/bin/cguestd", shutil.which("true") or "")
        (tmp_path / path.name).write_text(text)
    names = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "cguestd" not in done.stderr


def test_with_the_drop_in_the_service_may_tell_containers_apart() -> None:
    """A root process of a container has powers that the unit leaves us none of."""
    kept = [
        unit(name)["Service"]["CapabilityBoundingSet"].lower()
        for name in ("cguestd.service", "cguestd-callers.conf")
    ]
    powers = "-all," + ",".join(f"+{name.removeprefix('cap_')}" for name in kept)
    program = (
        "import sys; from pathlib import Path; from rest.peer import Guest, Identifier\n"
        "class Caller:\n"
        "    pid = int(sys.argv[1])\n"
        "    def is_alive(self): return True\n"
        "assert Identifier().identify(Caller()) == Guest(), Identifier().identify(Caller())"
    )
    done = subprocess.run(
        ["setpriv", "--bounding-set", powers, "--inh-caps", powers,
         sys.executable, "-c", program, str(os.getpid())],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
