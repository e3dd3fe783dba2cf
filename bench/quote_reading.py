"""What our reader adds to the kernel's work for a quote: the same calls with and without it."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, Report
from mocktee.pki import MockPki
from mocktee.tsm.process import TsmProcess
from tdx import LinuxTsm, QuoteReader, ReportData
from tdx.tsm_report import TsmQuoteSource

QUOTES = 60
PROVIDER, GENERATION = "provider", "generation"


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = b""
        while chunk := os.read(fd, 1 << 16):
            content += chunk
        return content
    finally:
        os.close(fd)


def bare_quote(root: Path, number: int) -> bytes:
    """The read protocol's system calls and nothing else."""
    entry = root / f"bench-{number}"
    os.mkdir(entry)
    try:
        _read(entry / PROVIDER)
        _read(entry / GENERATION)
        fd = os.open(entry / "inblob", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, number.to_bytes(64, "big"))
        os.close(fd)
        _read(entry / GENERATION)
        quote = _read(entry / "outblob")
        _read(entry / GENERATION)
        return quote
    finally:
        os.rmdir(entry)


async def measure(report: Report) -> None:
    """Both in turn on one mock configfs that makes quotes at once, so that drift hits both."""
    with tempfile.TemporaryDirectory(prefix="cguest-bench-") as name:
        folder = Path(name)
        await asyncio.to_thread(MockPki.create().save, folder / "pki")
        mount = folder / "tee"
        mount.mkdir()
        async with TsmProcess.start(mount, folder / "pki", folder / "tsm.sock") as tsm:
            source = TsmQuoteSource(LinuxTsm(tsm.report_root))
            async with QuoteReader(source) as reader:
                added = [await _round(tsm.report_root, reader, number) for number in range(QUOTES)]
    report.add(
        Figure("our share of reading a quote (checks, parsing, threads)", "ms",
               tuple(added), "lower", 3)
    )  # fmt: skip


async def _round(root: Path, reader: QuoteReader, number: int) -> float:
    start = time.perf_counter()
    await asyncio.to_thread(bare_quote, root, number)
    middle = time.perf_counter()
    await reader.quote(ReportData.padded((number + 1000).to_bytes(8, "big")))
    end = time.perf_counter()
    return ((end - middle) - (middle - start)) * 1000
