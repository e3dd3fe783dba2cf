"""Sequential read and write and stat rate of a mount, beside curl on the same server."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bench.figures import Figure, Report
from bench.processes import peak_mib, resident_mib
from demo.journey import BIG, read_big, write_big
from demo.mounting import mounted_bucket
from demo.stage import Stage, run

MIB = BIG >> 20
ROUNDS = 3
SMALL_FILES = 2000


def drop_page_cache() -> None:
    """So that a read goes to the mount process and not to the kernel's cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("1")


async def curl_rate(url: str) -> float:
    """MiB/s of one plain GET: the limit of this server on this machine."""
    start = time.perf_counter()
    done = await run("curl", "-sS", "-o", "/dev/null", url)
    if done.code != 0:
        raise RuntimeError(f"curl: {done.err}")
    return MIB / (time.perf_counter() - start)


def stat_all(folder: Path) -> float:
    """Names per second of a listing with attributes, as ``ls -l`` asks for them."""
    start = time.perf_counter()
    with os.scandir(folder) as entries:
        count = sum(1 for entry in entries if entry.stat().st_size >= 0)
    return count / (time.perf_counter() - start)


async def sequential(stage: Stage, point: Path, report: Report) -> None:
    writes, reads, limits = [], [], []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        await asyncio.to_thread(write_big, point / "big")
        writes.append(MIB / (time.perf_counter() - start))
        await asyncio.to_thread(drop_page_cache)
        start = time.perf_counter()
        await asyncio.to_thread(read_big, point / "big")
        reads.append(MIB / (time.perf_counter() - start))
        limits.append(await curl_rate(await stage.harness.presigned_url("big")))
        (point / "big").unlink()
    limit = sorted(limits)[len(limits) // 2]
    peer = "curl, one GET"
    report.add(Figure("sequential write 1 GiB, closed", "MiB/s", tuple(writes), "higher"))
    report.add(Figure("sequential read 1 GiB", "MiB/s", tuple(reads), "higher", 477, limit, peer))


async def measure(report: Report) -> None:
    """All figures of a mount, over http on loopback: TLS is measured with the complete mount."""
    async with (
        Stage.open(latency=0.0, tls=False, fast_etags=True) as stage,
        mounted_bucket(stage) as mount,
    ):
        daemon = resident_mib(stage.daemon.pid)
        child = resident_mib(mount.pid)
        report.add(Figure("resident memory of cguestd with a mount", "MiB", (daemon,), "lower"))
        report.add(Figure("resident memory of an idle mount process", "MiB", (child,), "lower"))
        await sequential(stage, mount.point, report)
        report.add(Figure("peak memory of it after 1 GiB both ways", "MiB",
                          (peak_mib(mount.pid),), "lower"))  # fmt: skip
        await stage.harness.put_objects({f"many/{n:05}": b"x" for n in range(SMALL_FILES)})
        cold = await asyncio.to_thread(stat_all, mount.point / "many")
        warm = tuple([await asyncio.to_thread(stat_all, mount.point / "many") for _ in range(5)])
        report.add(Figure("listing with attributes, cold, 2,000 files", "/s", (cold,), "higher"))
        report.add(Figure("listing with attributes, again", "/s", warm, "higher"))
