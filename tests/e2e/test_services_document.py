"""The commands of docs/services.md, run in their order against real daemons.

A command followed by its output has to print that; one whose output is an error has to fail.
"""

from __future__ import annotations

import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from cguest.outcome import Exit
from demo.stage import Daemon, Stage, free_port, run
from tests.gate.test_services_document import DOCUMENT, blocks
from tests.wire.keywrap_samples import KEK, gcm_packet, reply_options, request_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
DEFAULT = "/run/confidential-containers/attestation-agent"
CODES = {"error:": Exit.ERROR, "refused:": Exit.REFUSED}


@dataclass(frozen=True, slots=True)
class Doors:
    """A daemon with every door, one that speaks gRPC, and what stands for them in the document."""

    folder: Path
    places: dict[str, str]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def doors(stage: Stage) -> AsyncIterator[Doors]:
    folder = stage.folder / "doors"
    folder.mkdir()
    ports = free_port(), free_port()
    configs = [stage.folder / "doors.toml", stage.folder / "grpc.toml"]
    for config, name in zip(configs, ("run", "grpc"), strict=True):
        stage.harness.write_config(config, folder / name, rest_bind=f"127.0.0.1:{ports[0]}")
    text = configs[0].read_text().replace(
        "[agent]\n",
        f'[agent]\nkeyprovider_socket = "unix://{folder}/keyprovider.sock"\n'
        f'getresource_socket = "unix://{folder}/getresource.sock"\n',
        1,
    )  # fmt: skip
    configs[0].write_text(f'{text}\n[metrics]\nsocket = "unix://{folder}/metrics.sock"\n')
    configs[1].write_text(
        re.sub(r'(?<=\[agent\]\nsocket = )"[^"]*"', f'"127.0.0.1:{ports[1]}"',
               configs[1].read_text())
    )  # fmt: skip
    (folder / "unwrap.json").write_bytes(request_for(gcm_packet()))
    await stage.harness.put_resource("default/image-kek/test-1", KEK)
    every = await Daemon.start(configs[0], stage.folder)
    grpc = await Daemon.start(configs[1], stage.folder, "--services", "agent")
    yield Doors(
        folder,
        {
            f"{DEFAULT}/attestation-agent.sock": f"{folder}/run/attestation-agent.sock",
            DEFAULT: str(folder),
            "/run/cguest/metrics.sock": f"{folder}/metrics.sock",
            "127.0.0.1:8006": f"127.0.0.1:{ports[0]}",
            "127.0.0.1:50002": f"127.0.0.1:{ports[1]}",
            "CONFIG": str(configs[0]),
            "MOUNT_POINT": str(stage.folder / "mnt" / "document"),
        },
    )
    assert [await every.stop(), await grpc.stop()] == [0, 0]


def steps() -> list[tuple[str, str]]:
    """Every command, with the output that is shown for it or nothing."""
    found: list[tuple[str, str]] = []
    for kind, content in blocks(DOCUMENT):
        if kind == "sh":
            found += [(line, "") for line in content.splitlines()]
        else:
            found[-1] = (found[-1][0], content.strip())
    return found


def fits(shown: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in shown.split("..."))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


async def test_every_command_of_the_document(stage: Stage, doors: Doors) -> None:
    program = f'set -eo pipefail; cguest() {{ {sys.executable} -m cguest "$@"; }}; '
    for line, shown in steps():
        script = line
        for written, real in doors.places.items():
            script = script.replace(written, real)
        if "UnsealSecret --set secret=@" in line:
            public = (doors.folder / "sealed-signing-public.json").read_bytes()
            await stage.harness.put_resource("default/signing-key/sealed", public)
        done = await run("bash", "-c", f"{program} cd {doors.folder}; {script}")
        told = f"{line}\n{done.text}\n{done.err}"
        assert done.code == CODES.get(shown.partition(" ")[0], Exit.PASS), told
        assert not shown or fits(shown, (done.text + "\n" + done.err).strip()), told
    contents = {
        (doors.folder / name).read_bytes() for name in ("key", "key.again", "key.rest", "value")
    }
    assert len(contents) == 1
    assert reply_options((doors.folder / "layer-key.json").read_bytes())
    assert "cguest" in (doors.folder / "metrics.txt").read_text()
