"""Where the hook is tried: bundles with a real root file system, and the runtimes that run them."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdh.sealed.seal import SigningKey, generate_signing_key, seal_vault
from demo.stage import Finished, Stage, run
from protos.stubs import HubStatusStub
from tests.conftest import ROOT

SECRET = b"correct horse battery staple"
RUNTIMES = ("runc", "crun", "agent")
MARKER = "touch /ran; "  # what a container's process does first
KID = "kbs:///default/signing-key/hooks"
STAND_IN = Path(__file__).with_name("agent_stand_in.py")
# crun refuses the mix of old and new cgroups that some machines have; it gets new ones only.
CRUN = """
umount -R -l /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
exec crun --cgroup-manager=disabled "$@"
"""
LAUNCHER = """#!{python} -I
import sys
sys.path.insert(0, {root!r})
from guesthook.__main__ import main
sys.exit(main({settings!r}, {kernel_log!r}))
"""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a container ended. ``out`` is what its process printed (not with the stand-in's JSON)."""

    runtime: str
    finished: Finished
    report: dict[str, Any]

    @property
    def out(self) -> str:
        return self.finished.out.decode().partition("{")[0].strip()

    @property
    def told(self) -> str:
        """What the hook wrote, all of which the host gets to see."""
        if self.report:
            return str(self.report["prestart"]["output"] + self.report["poststop"]["output"])
        return self.finished.err


@dataclass(slots=True)
class Ground:
    """One folder with the hook's settings, a shared directory and bundles."""

    folder: Path
    hub_socket: Path
    key: SigningKey
    settings: dict[str, str] = field(default_factory=dict)
    count: int = 0

    @classmethod
    async def prepare(cls, stage: Stage, folder: Path) -> Ground:
        key = generate_signing_key(KID)
        await stage.harness.put_resource("default/signing-key/hooks", key.public_jwk)
        ground = cls(folder, stage.hub_socket, key)
        for name in ("shared", "bundles", "state"):
            (folder / name).mkdir()
        ground.kernel_log.touch()
        ground.configure(oss_root=str(stage.folder / "oss"))
        launcher = folder / "cguest-hook"
        launcher.write_text(
            LAUNCHER.format(
                python=sys.executable, root=str(ROOT),
                settings=str(folder / "hooks.toml"), kernel_log=str(ground.kernel_log),
            )
        )  # fmt: skip
        launcher.chmod(0o755)
        return ground

    @property
    def kernel_log(self) -> Path:
        return self.folder / "kmsg"

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    def configure(self, **texts: str) -> None:
        """Write hooks.toml, keeping what was set before."""
        self.settings |= texts
        text = {"hub_socket": str(self.hub_socket), **self.settings}
        lines = [f"{key} = {json.dumps(value)}" for key, value in text.items()]
        lines.append(f"bundle_roots = [{json.dumps(str(self.folder / 'bundles'))}]")
        lines.append(f"shared_roots = [{json.dumps(str(self.shared))}]")
        (self.folder / "hooks.toml").write_text("\n".join(lines) + "\n")

    def seal(self, resource: str) -> str:
        return seal_vault(f"kbs:///{resource}", kid=KID, private_jwk=self.key.private_jwk)

    def secret_volume(self, name: str, files: dict[str, str]) -> Path:
        """A volume as the kubelet lays it out: links to a dated directory."""
        volume = self.shared / name
        dated = volume / "..2026_01_01"
        dated.mkdir(parents=True)
        (volume / "..data").symlink_to(dated.name)
        for key, content in files.items():
            (dated / key).write_text(content)
            (volume / key).symlink_to(f"..data/{key}")
        return volume

    def bundle(
        self,
        script: str,
        *,
        env: tuple[str, ...] = (),
        volumes: dict[str, Path] | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Path:
        """A bundle whose process is a shell with ``script``, and our hook as an OCI hook."""
        self.count += 1
        bundle = self.folder / "bundles" / f"c{self.count}-{secrets.token_hex(8)}"
        binaries = bundle / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        for name in ("dev", "proc"):  # crun wants the first, whether or not it is mounted on
            (bundle / "rootfs" / name).mkdir()
        busybox = shutil.which("busybox")
        assert busybox, "busybox is missing; apt-get install busybox-static"
        shutil.copy(busybox, binaries / "busybox")
        for name in ("sh", "cat", "ls", "touch", "mount", "grep"):
            (binaries / name).symlink_to("busybox")
        hook = {"path": str(self.folder / "cguest-hook"), "env": []}
        mounts = [{"destination": "/proc", "type": "proc", "source": "proc"}] + [
            {"destination": place, "source": str(source), "type": "bind",
             "options": ["rbind", "ro"]}
            for place, source in (volumes or {}).items()
        ]  # fmt: skip
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": False, "user": {"uid": 0, "gid": 0}, "cwd": "/",
                "args": ["/bin/sh", "-c", script], "env": ["PATH=/bin", *env],
            },
            "root": {"path": "rootfs", "readonly": False},
            "mounts": mounts,
            "annotations": annotations or {},
            "hooks": {
                kind: [{**hook, "args": ["cguest-hook", kind]}] for kind in ("prestart", "poststop")
            },
            "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "ipc"}]},
        }  # fmt: skip
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    async def run(self, runtime: str, bundle: Path) -> Ran:
        """Run the bundle's container to its end, however that comes."""
        state = str(self.folder / "state")
        command = {
            "runc": ("runc", "--root", state, "run", "--bundle", str(bundle), bundle.name),
            "crun": ("unshare", "-m", "sh", "-euc", CRUN, "crun", "--root", state,
                     "run", "--bundle", str(bundle), bundle.name),
            "agent": (sys.executable, str(STAND_IN), str(bundle), bundle.name,
                      str(self.folder / "cguest-hook")),
        }[runtime]  # fmt: skip
        async with asyncio.timeout(60):
            finished = await run(*command, stdin=b"")
        report = finished.out.decode().partition("{")
        return Ran(runtime, finished, json.loads("{" + report[2]) if runtime == "agent" else {})

    async def hook(self, kind: str, state: bytes) -> Finished:
        """Run the hook alone with any text on its standard input."""
        return await run(str(self.folder / "cguest-hook"), kind, stdin=state)


def contents(folder: Path) -> bytes:
    """Everything below ``folder`` that is a regular file, in one piece."""
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def reason_of(stage: Stage, bundle: Path) -> str:
    """What the hub says of a container that was stopped; exactly one report is expected."""
    async with await stage.hub() as client:
        status = await HubStatusStub(client).get_status(timeout_s=10)
    (found,) = [item for item in status.refusals if item.container_id == bundle.name]
    return f"{found.subject}: {found.reason}"


def assert_stopped(ran: Ran, bundle: Path) -> None:
    assert not (bundle / "rootfs" / "ran").exists(), ran
    if ran.report:
        assert ran.report["code"] == -9  # killed, though the failure of the hook was ignored
        assert ran.report["prestart"]["code"] == 1
    else:
        assert ran.finished.code != 0
    if ran.runtime != "crun":  # it keeps what a hook writes to itself
        assert f"container {bundle.name}: secret refused, stopped" in ran.told
