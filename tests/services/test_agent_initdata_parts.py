"""``aa.toml`` out of an initdata document: the agent checks the document, and the part against it.

kata-agent puts both below /run/confidential-containers/initdata. Each agent runs in a mount
namespace with a directory of its own there.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from lifecycle.file_source import INITDATA_DIRECTORY
from mocktee.pki import MockPki
from mocktee.tsm.layout import MEASUREMENTS, REPORT_ROOT
from mocktee.tsm.process import TsmProcess
from tests.conftest import ROOT

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]
LIMIT_SECONDS = 60
WEAKENING = '\n[token_configs.kbs]\nurl = "http://kbs.example"\n'


class Guest:
    """A mock TD that was started with ``document``, which has ``part`` as ``aa.toml``."""

    def __init__(self, part: str, document: bytes) -> None:
        self.part = part
        self.document = document


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guest(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Guest]:
    folder = tmp_path_factory.mktemp("tsm")
    MockPki.create().save(folder / "pki")
    mount = folder / "mount"
    # Where the mock's files will be has to be known before it starts: the document is measured.
    part = f"""
[tee]
report_path = "{mount / REPORT_ROOT}"
measurements_path = "{mount / MEASUREMENTS}"
"""
    part += WEAKENING
    document = document_with(part)
    digest = hashlib.sha384(document).digest()
    async with TsmProcess.start(mount, folder / "pki", folder / "control", mrconfigid=digest):
        yield Guest(part, document)


def document_with(part: str) -> bytes:
    text = f'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = {json.dumps(part)}\n'
    return text.encode()


async def checked(
    folder: Path, part: str, document: bytes | None, *flags: str, serve: bool = False
) -> tuple[int, str]:
    """Start the agent as kata-agent does; return its exit code and what it said."""
    (folder / "aa.toml").write_text(part)
    if document is not None:
        (folder / "initdata.toml").write_bytes(document)
    script = (
        "mount -t tmpfs none /run && "
        f'mkdir -p {INITDATA_DIRECTORY} && mount --bind {folder} {INITDATA_DIRECTORY}; exec "$@"'
    )
    process = await asyncio.create_subprocess_exec(
        "unshare", "--mount", "sh", "-c", script, "sh",
        sys.executable, "-m", "agent", "-c", str(INITDATA_DIRECTORY / "aa.toml"), *flags,
        *([] if serve else ["--check-config"]),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)},
        stdout=PIPE,
        stderr=PIPE,
    )  # fmt: skip
    async with asyncio.timeout(LIMIT_SECONDS):
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (stdout + stderr).decode()


async def test_a_part_of_its_document_may_weaken(guest: Guest, tmp_path: Path) -> None:
    code, said = await checked(tmp_path, guest.part, guest.document)
    assert code == 0, said
    assert "weakens: token_configs.kbs.url" in said


@pytest.mark.parametrize("with_document", [True, False], ids=["another text", "no document"])
async def test_what_is_no_part_of_it_may_not(
    guest: Guest, tmp_path: Path, with_document: bool
) -> None:
    document = guest.document if with_document else None
    flags = ["-i", base64.b64encode(hashlib.sha384(guest.document).digest()).decode()]
    code, said = await checked(tmp_path, guest.part + "\n", document, *flags)
    assert code == 1
    assert "refused from there, because it weakens security" in said
    assert f"not what {INITDATA_DIRECTORY}/initdata.toml has as aa.toml" in said


async def test_another_document_is_refused_without_a_flag(guest: Guest, tmp_path: Path) -> None:
    document = document_with(guest.part) + b"\n"
    code, said = await checked(tmp_path, guest.part, document, serve=True)
    assert code == 1
    assert hashlib.sha384(document).hexdigest() in said
    assert hashlib.sha384(guest.document).hexdigest() in said
