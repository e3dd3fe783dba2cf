"""The commands in the operators' documents, run as they are written there."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from demo.stage import Stage, run
from tests.conftest import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")


def commands(document: Path) -> list[str]:
    """Lines of the ``sh`` blocks, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


async def test_every_command_of_the_cguest_document_works(stage: Stage, tmp_path: Path) -> None:
    lines = commands(ROOT / "docs" / "cguest.md")
    assert len(lines) > 15
    places = {
        "CONFIG": str(stage.config),
        "MOUNT_POINT": str(stage.folder / "mnt" / "document"),
        "OSS_URL": stage.harness.oss_endpoint,
    }
    program = f'cguest() {{ {sys.executable} -m cguest "$@"; }}; cd {tmp_path}; set -e; '
    for line in lines:
        script = line
        for name, value in places.items():
            script = re.sub(rf"\b{name}\b", value, script)
        if "secret unseal" in line:
            public = (tmp_path / "sealed-signing-public.json").read_bytes()
            await stage.harness.put_resource("default/signing-key/sealed", public)
        done = await run("bash", "-c", program + script)
        assert done.code == 0, f"{line}\n{done.err}"
    assert (tmp_path / "key").read_bytes() == (tmp_path / "key.private").read_bytes()
    assert (tmp_path / "key.private").stat().st_mode & 0o777 == 0o600


async def test_the_harness_prints_commands_that_work(tmp_path: Path) -> None:
    """``mocktee up`` in one terminal, ``cguestd`` and ``cguest`` in another."""
    script = f"""
set -eu
cd {ROOT}
{sys.executable} -m mocktee up --state {tmp_path}/state --config {tmp_path}/c.toml \
    --latency 0 --rest-bind 127.0.0.1:0 > {tmp_path}/up.out 2>&1 &
up=$!
trap 'kill $up $daemon 2>/dev/null; wait' EXIT
daemon=$up
for i in $(seq 200); do [ -s {tmp_path}/c.toml ] && break; sleep 0.1; done
{sys.executable} -m cguestd -c {tmp_path}/c.toml &
daemon=$!
for i in $(seq 200); do
    {sys.executable} -m cguest -c {tmp_path}/c.toml status >/dev/null 2>&1 && break; sleep 0.1
done
{sys.executable} -m cguest -c {tmp_path}/c.toml doctor
{sys.executable} -m cguest -c {tmp_path}/c.toml attest
{sys.executable} -m cguest -c {tmp_path}/c.toml resource get kbs:///default/key/1 | wc -c
kill -TERM $daemon; wait $daemon
kill -INT $up; wait $up || test $? -eq 130
trap - EXIT
"""
    done = await run("bash", "-c", script)
    assert done.code == 0, done.err + (tmp_path / "up.out").read_text()
    assert "attested" in done.text
    assert done.text.splitlines()[-1].strip() == "32"
    assert not (tmp_path / "state").exists()
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("name", ["cguest", "cguestd", "attestation-agent",
                                  "confidential-data-hub", "api-server-rest"])  # fmt: skip
async def test_installed_programs_teach(name: str) -> None:
    program = Path(sys.executable).parent / name
    assert os.access(program, os.X_OK)
    done = await run(str(program), "--help")
    assert done.code == 0
    assert done.text.startswith("usage:")
