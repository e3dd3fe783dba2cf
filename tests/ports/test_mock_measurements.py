"""The mock's measurement registers and event log files, on a real mount.

Sources: Linux Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest,
drivers/virt/coco/guest/tsm-mr.c, fs/sysfs/file.c, drivers/acpi/sysfs.c.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mocktee.bootlog import ccel_table
from mocktee.errors import TsmProcessError
from mocktee.td import TdState
from mocktee.tsm.process import TsmProcess
from tests.ports.conftest import CONFIG_ID
from tests.ports.syscalls import opened, read, refused

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

DIGEST = bytes(range(48))


def write_at(path: Path, data: bytes, offset: int = 0) -> int:
    with opened(path, os.O_WRONLY) as descriptor:
        return os.pwrite(descriptor, data, offset)


def after(register: bytes, *digests: bytes) -> bytes:
    for digest in digests:
        register = hashlib.sha384(register + digest).digest()
    return register


async def test_registers_have_the_names_modes_and_values_of_sysfs(mock_tsm: TsmProcess) -> None:
    def check() -> None:
        names = {f"rtmr{index}:sha384": 0o644 for index in range(4)}
        names |= dict.fromkeys(("mrtd:sha384", "mrconfigid", "mrowner", "mrownerconfig"), 0o444)
        shown = {
            name: os.stat(mock_tsm.measurements / name)
            for name in os.listdir(mock_tsm.measurements)
        }
        assert {name: stat.S_IMODE(s.st_mode) for name, s in shown.items()} == names
        assert {s.st_size for s in shown.values()} == {48}
        assert read(mock_tsm.measurements / "mrconfigid") == CONFIG_ID
        assert read(mock_tsm.measurements / "mrtd:sha384") == TdState.booted().mrtd

    await asyncio.to_thread(check)


@pytest.mark.parametrize("index", range(4))
async def test_write_of_48_bytes_extends(mock_tsm: TsmProcess, index: int) -> None:
    path = mock_tsm.measurements / f"rtmr{index}:sha384"

    def check() -> bytes:
        before = read(path)
        assert write_at(path, DIGEST) == 48
        value = read(path)
        assert value == after(before, DIGEST)
        return value

    value = await asyncio.to_thread(check)
    assert (await mock_tsm.state()).registers[f"rtmr{index}"] == value


REFUSALS: list[tuple[str, int, Callable[[Path], object]]] = [
    ("47 bytes", errno.EINVAL, lambda m: write_at(m / "rtmr3:sha384", DIGEST[:47])),
    ("1 byte", errno.EINVAL, lambda m: write_at(m / "rtmr3:sha384", b"x")),
    ("48 bytes at offset 1", errno.EINVAL, lambda m: write_at(m / "rtmr3:sha384", DIGEST, 1)),
    ("past the end", errno.EFBIG, lambda m: write_at(m / "rtmr3:sha384", DIGEST, 48)),
    ("mrtd for writing", errno.EACCES, lambda m: os.open(m / "mrtd:sha384", os.O_WRONLY)),
    ("mrconfigid read-write", errno.EACCES, lambda m: os.open(m / "mrconfigid", os.O_RDWR)),
    ("create", errno.EACCES, lambda m: os.open(m / "rtmr4:sha384", os.O_WRONLY | os.O_CREAT)),
    ("mkdir", errno.EPERM, lambda m: os.mkdir(m / "x")),
    ("unlink", errno.EPERM, lambda m: os.unlink(m / "rtmr3:sha384")),
    ("ccel for writing", errno.EACCES, lambda m: os.open(m.parent / "ccel/CCEL", os.O_WRONLY)),
]


@pytest.mark.parametrize(
    ("code", "call"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
async def test_refused_write_extends_nothing(
    mock_tsm: TsmProcess, code: int, call: Callable[[Path], object]
) -> None:
    def check() -> None:
        before = read(mock_tsm.measurements / "rtmr3:sha384")
        with refused(code):
            call(mock_tsm.measurements)
        assert read(mock_tsm.measurements / "rtmr3:sha384") == before

    await asyncio.to_thread(check)


async def test_long_write_extends_by_its_head_and_then_fails(mock_tsm: TsmProcess) -> None:
    path = mock_tsm.measurements / "rtmr3:sha384"

    def check() -> None:
        before = read(path)
        with opened(path, os.O_WRONLY) as descriptor:
            assert os.write(descriptor, DIGEST + bytes(48)) == 48
            with refused(errno.EFBIG):
                os.write(descriptor, bytes(48))
        assert read(path) == after(before, DIGEST)

    await asyncio.to_thread(check)


@pytest.mark.parametrize(
    ("kind", "times"), [("extend_lost", 0), ("extend_twice", 2)], ids=["lost", "twice"]
)
async def test_extend_that_goes_wrong_silently(mock_tsm: TsmProcess, kind: str, times: int) -> None:
    path = mock_tsm.measurements / "rtmr3:sha384"
    before = await asyncio.to_thread(read, path)
    await mock_tsm.set_faults([{"kind": kind}])
    assert await asyncio.to_thread(write_at, path, DIGEST) == 48
    assert await asyncio.to_thread(read, path) == after(before, *[DIGEST] * times)


async def test_a_foreign_extension_comes_first(mock_tsm: TsmProcess) -> None:
    path = mock_tsm.measurements / "rtmr3:sha384"
    before = await asyncio.to_thread(read, path)
    await mock_tsm.set_faults([{"kind": "foreign_extend"}])
    assert await asyncio.to_thread(write_at, path, DIGEST) == 48
    assert await asyncio.to_thread(read, path) not in {before, after(before, DIGEST)}


async def test_a_short_write_extends_nothing(mock_tsm: TsmProcess) -> None:
    path = mock_tsm.measurements / "rtmr3:sha384"
    before = await asyncio.to_thread(read, path)
    await mock_tsm.set_faults([{"kind": "short_write", "length": 20}])
    assert await asyncio.to_thread(write_at, path, DIGEST) == 20
    assert await asyncio.to_thread(read, path) == before


async def test_busy_register_extends_nothing(mock_tsm: TsmProcess) -> None:
    path = mock_tsm.measurements / "rtmr3:sha384"
    before = await asyncio.to_thread(read, path)
    await mock_tsm.set_faults([{"kind": "register_busy"}])
    with refused(errno.EBUSY):
        await asyncio.to_thread(write_at, path, DIGEST)
    assert await asyncio.to_thread(read, path) == before


async def test_event_log_files_are_those_of_the_boot(mock_tsm: TsmProcess) -> None:
    log = TdState.booted().boot_log
    assert await asyncio.to_thread(read, mock_tsm.ccel) == log.data_file()
    assert await asyncio.to_thread(read, mock_tsm.ccel_table) == ccel_table()
    assert stat.S_IMODE((await asyncio.to_thread(os.stat, mock_tsm.ccel)).st_mode) == 0o400


async def test_tampered_register_shows_in_files_and_quotes(mock_tsm: TsmProcess) -> None:
    await mock_tsm.tamper("rtmr1", DIGEST)
    assert await asyncio.to_thread(read, mock_tsm.measurements / "rtmr1:sha384") == DIGEST

    def quote() -> bytes:
        entry = mock_tsm.report_root / "tampered"
        os.mkdir(entry)
        with opened(entry / "inblob", os.O_WRONLY) as descriptor:
            os.write(descriptor, bytes(64))
        blob = read(entry / "outblob")
        os.rmdir(entry)
        return blob

    made = await asyncio.to_thread(quote)
    assert made[424:472] == DIGEST  # rtmr1 in a version 4 quote
    assert made[232:280] == CONFIG_ID


@pytest.mark.parametrize(
    ("register", "value"),
    [
        pytest.param("rtmr4", DIGEST, id="unknown"),
        pytest.param("rtmr3", DIGEST[:47], id="short"),
        pytest.param("attributes", DIGEST, id="not-a-register"),
    ],
)
async def test_bad_tampering_is_refused(mock_tsm: TsmProcess, register: str, value: bytes) -> None:
    before = (await mock_tsm.state()).registers
    with pytest.raises(TsmProcessError, match="HTTP 400"):
        await mock_tsm.tamper(register, value)
    assert (await mock_tsm.state()).registers == before
