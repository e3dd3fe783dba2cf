"""A gibibyte both ways, and TLS: with the store in a process of its own."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mocktee.certs import provide_tls
from ossmount.crc64 import crc64
from tests.fuse.mounting import (
    BUCKET,
    KEY_ID,
    KEY_SECRET,
    ROOT,
    finish,
    launch_document,
    mounted,
    outside,
    shell,
    start,
)

pytestmark = pytest.mark.real
GIB = 1 << 30
MIB = 1 << 20
MEMORY = 96 * MIB
INTERPRETER = 112 * MIB  # resident before a byte of file data: Python, OpenSSL, oss2 and friends


@dataclass(frozen=True)
class OtherServer:
    """A store that runs elsewhere."""

    endpoint: str
    region: str = "cn-hangzhou"


@asynccontextmanager
async def server_process(folder: Path, arguments: Sequence[str] = ()) -> AsyncIterator[OtherServer]:
    folder.mkdir()
    key = {"id": KEY_ID, "secret": KEY_SECRET}
    (folder / "oss.json").write_text(json.dumps({"buckets": [BUCKET], "access_keys": [key]}))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "mocktee.oss", "--state", str(folder), *arguments),
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        yield OtherServer(json.loads(await process.stdout.readline())["endpoint"])
    finally:
        process.terminate()
        await process.communicate()


def make_gibibyte(path: Path) -> int:
    """Write a file without repetition between its MiB blocks; return its CRC-64."""
    crc = 0
    with path.open("wb") as file:
        for number in range(GIB // MIB):
            block = number.to_bytes(8, "big") * (MIB // 8)
            crc = crc64(block, crc)
            file.write(block)
    return crc


def sum_of(path: Path) -> int:
    crc = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(MIB):
            crc = crc64(block, crc)
    return crc


def peak_memory(pid: int) -> int:
    """Return the largest resident set of a process so far, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in text.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


@pytest.mark.timeout(300)
async def test_a_gibibyte_both_ways_in_bounded_memory(tmp_path: Path) -> None:
    source = tmp_path / "gibibyte"
    expected = await outside(make_gibibyte, source)
    async with (
        server_process(tmp_path / "oss", ["--fast-etags"]) as server,
        mounted(server, tmp_path / "mnt", memory_bytes=MEMORY) as mount,
    ):
        await shell(f"cp {source} big", mount.path)
        assert (await outside((mount.path / "big").stat)).st_size == GIB
        assert await outside(sum_of, mount.path / "big") == expected
        assert peak_memory(mount.process.pid) < MEMORY + INTERPRETER
        assert (
            await shell("mv big moved; echo end >> moved; tail -c 4 moved", mount.path) == "end\n"
        )
    source.unlink()
    shutil.rmtree(tmp_path / "oss")


async def test_tls_against_the_given_roots(tmp_path: Path) -> None:
    tls = provide_tls(tmp_path / "tls")
    arguments = ["--tls-cert", str(tls.certificate), "--tls-key", str(tls.key)]
    async with server_process(tmp_path / "oss", arguments) as server:
        ca_pem = tls.ca.read_text()
        async with mounted(server, tmp_path / "mnt", ca_pem=ca_pem) as mount:
            await shell("echo secure > f; cat f", mount.path)
        stranger = provide_tls(tmp_path / "other").ca.read_text()
        for roots in (stranger, None):
            point = tmp_path / "mnt"
            refused = await start(point, launch_document(server, point) | {"ca_pem": roots})
            try:
                event = await refused.event()
                assert (event["kind"], await refused.exit_code()) == ("tls", 1)
            finally:
                await finish(refused)
