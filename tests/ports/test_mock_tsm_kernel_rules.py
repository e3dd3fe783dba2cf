"""The mock TSM against the kernel's rules, with a real mount and plain system calls.

Sources: Linux Documentation/ABI/testing/configfs-tsm-report, fs/configfs/{dir,file}.c,
drivers/virt/coco/guest/{report,tsm-mr}.c, fs/sysfs/file.c. What FUSE cannot imitate is absent:
EFAULT of an empty write, the store on the last of several closes, EINTR by a real signal.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mocktee.tsm.process import TsmProcess
from tests.ports.syscalls import generation, opened, read, refused, store

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.real]

DATA = bytes(range(64))
REPORT_DATA = slice(568, 632)  # in a version 4 quote


def nothing_happened(entry: Path) -> None:
    assert generation(entry) == 0
    with refused(errno.EINVAL):
        read(entry / "outblob")


# Refusals: one system call, one errno.

Call = Callable[[Path], object]


def seek(path: Path, flags: int) -> None:
    with opened(path, flags) as descriptor:
        os.lseek(descriptor, 0, os.SEEK_SET)


def write(path: Path, data: bytes, *, offset: int | None = None) -> int:
    with opened(path, os.O_WRONLY) as descriptor:
        if offset is None:
            return os.write(descriptor, data)
        return os.pwrite(descriptor, data, offset)


REFUSALS: list[tuple[str, int, Call]] = [
    ("inblob read-only", errno.EACCES, lambda e: os.open(e / "inblob", os.O_RDONLY)),
    ("inblob read-write", errno.EACCES, lambda e: os.open(e / "inblob", os.O_RDWR)),
    ("outblob for writing", errno.EACCES, lambda e: os.open(e / "outblob", os.O_WRONLY)),
    ("generation for writing", errno.EACCES, lambda e: os.open(e / "generation", os.O_WRONLY)),
    ("provider read-write", errno.EACCES, lambda e: os.open(e / "provider", os.O_RDWR)),
    ("auxblob absent", errno.ENOENT, lambda e: os.open(e / "auxblob", os.O_RDONLY)),
    ("privlevel absent", errno.ENOENT, lambda e: os.open(e / "privlevel", os.O_WRONLY)),
    ("create", errno.EACCES, lambda e: os.open(e / "new", os.O_WRONLY | os.O_CREAT)),
    ("create in report", errno.EACCES, lambda e: os.open(e.parent / "new", os.O_RDWR | os.O_CREAT)),
    ("mknod", errno.EACCES, lambda e: os.mknod(e / "new", stat.S_IFREG | 0o600)),
    ("mkdir again", errno.EEXIST, os.mkdir),
    ("mkdir inside an entry", errno.EPERM, lambda e: os.mkdir(e / "sub")),
    ("mkdir beside report", errno.EPERM, lambda e: os.mkdir(e.parent.parent / "x")),
    ("mkdir with a long name", errno.ENAMETOOLONG, lambda e: os.mkdir(e.parent / ("n" * 256))),
    ("rmdir report", errno.EPERM, lambda e: os.rmdir(e.parent)),
    ("rmdir absent", errno.ENOENT, lambda e: os.rmdir(e.parent / "absent")),
    ("unlink", errno.EPERM, lambda e: os.unlink(e / "inblob")),
    ("symlink", errno.EPERM, lambda e: os.symlink("x", e.parent / "link")),
    ("hard link", errno.EPERM, lambda e: os.link(e / "outblob", e / "other")),
    ("rename an entry", errno.EPERM, lambda e: os.rename(e, e.parent / "other")),
    ("chmod", errno.EPERM, lambda e: os.chmod(e / "inblob", 0o666)),
    ("inblob of 65 bytes", errno.EFBIG, lambda e: write(e / "inblob", bytes(65))),
    ("inblob of a page", errno.EFBIG, lambda e: write(e / "inblob", bytes(4096))),
    ("outblob before inblob", errno.EINVAL, lambda e: read(e / "outblob")),
    ("seek in inblob", errno.ESPIPE, lambda e: seek(e / "inblob", os.O_WRONLY)),
    ("seek in outblob", errno.ESPIPE, lambda e: seek(e / "outblob", os.O_RDONLY)),
]


@pytest.mark.parametrize(
    ("code", "call"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS]
)
async def test_refusal(mock_entry: Path, code: int, call: Call) -> None:
    def check() -> None:
        with refused(code):
            call(mock_entry)
        assert mock_entry.is_dir() and "new" not in os.listdir(mock_entry)

    await asyncio.to_thread(check)


# Stores: what closing inblob leaves behind. Each case returns nothing and asserts by itself.


def one_write(entry: Path) -> None:
    store(entry, DATA)
    assert generation(entry) == 1
    assert read(entry / "outblob")[REPORT_DATA] == DATA
    assert generation(entry) == 1


def two_writes_append(entry: Path) -> None:
    with opened(entry / "inblob", os.O_WRONLY) as descriptor:
        os.write(descriptor, DATA[:40])
        os.write(descriptor, DATA[40:])
        assert generation(entry) == 0
    assert generation(entry) == 1
    assert read(entry / "outblob")[REPORT_DATA] == DATA


def two_opens_are_two_stores(entry: Path) -> None:
    store(entry, bytes(64))
    store(entry, DATA)
    assert generation(entry) == 2
    assert read(entry / "outblob")[REPORT_DATA] == DATA


def open_and_close_is_no_store(entry: Path) -> None:
    os.close(os.open(entry / "inblob", os.O_WRONLY))
    nothing_happened(entry)


def truncation_is_no_store(entry: Path) -> None:
    os.close(os.open(entry / "inblob", os.O_WRONLY | os.O_TRUNC))
    os.truncate(entry / "inblob", 0)
    nothing_happened(entry)


def oversize_stores_what_was_buffered(entry: Path) -> None:
    with opened(entry / "inblob", os.O_WRONLY) as descriptor:
        os.write(descriptor, DATA)
        with refused(errno.EFBIG):
            os.write(descriptor, b"x")
    assert generation(entry) == 1
    assert read(entry / "outblob")[REPORT_DATA] == DATA


def oversize_alone_stores_nothing_but_counts(entry: Path) -> None:
    store(entry, DATA)
    with opened(entry / "inblob", os.O_WRONLY) as descriptor, refused(errno.EFBIG):
        os.write(descriptor, bytes(65))
    assert generation(entry) == 2
    with refused(errno.EINVAL):
        read(entry / "outblob")


def short_inblob_is_judged_at_the_quote(entry: Path) -> None:
    store(entry, DATA[:63])
    assert generation(entry) == 1
    with refused(errno.EINVAL):
        read(entry / "outblob")
    store(entry, DATA)
    assert read(entry / "outblob")[REPORT_DATA] == DATA


def duplicate_descriptor_stores_once(entry: Path) -> None:
    descriptor = os.open(entry / "inblob", os.O_WRONLY)
    other = os.dup(descriptor)
    os.write(descriptor, DATA)
    os.close(descriptor)
    os.close(other)
    assert generation(entry) == 1


def rmdir_before_close_drops_the_store(entry: Path) -> None:
    with opened(entry / "inblob", os.O_WRONLY) as descriptor:
        os.write(descriptor, DATA)
        os.rmdir(entry)
    os.mkdir(entry)
    nothing_happened(entry)


def rmdir_makes_open_files_stale(entry: Path) -> None:
    store(entry, DATA)
    with (
        opened(entry / "outblob", os.O_RDONLY) as quote,
        opened(entry / "generation", os.O_RDONLY) as text,
        opened(entry / "inblob", os.O_WRONLY) as blob,
    ):
        os.rmdir(entry)
        for descriptor in (quote, text):
            with refused(errno.ENOENT):
                os.read(descriptor, 9)
        with refused(errno.ENOENT):
            os.write(blob, DATA)


def entries_do_not_share_blobs(entry: Path) -> None:
    other = entry.with_name(entry.name + "-2")
    os.mkdir(other)
    try:
        store(entry, DATA)
        assert generation(other) == 0
        with refused(errno.EINVAL):
            read(other / "outblob")
    finally:
        os.rmdir(other)


STORES = [
    one_write,
    two_writes_append,
    two_opens_are_two_stores,
    open_and_close_is_no_store,
    truncation_is_no_store,
    oversize_stores_what_was_buffered,
    oversize_alone_stores_nothing_but_counts,
    short_inblob_is_judged_at_the_quote,
    duplicate_descriptor_stores_once,
    rmdir_before_close_drops_the_store,
    rmdir_makes_open_files_stale,
    entries_do_not_share_blobs,
]


@pytest.mark.parametrize("case", STORES, ids=[case.__name__ for case in STORES])
async def test_store(mock_entry: Path, case: Callable[[Path], None]) -> None:
    await asyncio.to_thread(case, mock_entry)


# Shape of the tree.


async def test_entry_has_exactly_the_four_files_of_tdx(mock_entry: Path) -> None:
    def check() -> None:
        assert sorted(os.listdir(mock_entry)) == ["generation", "inblob", "outblob", "provider"]
        shown = {name: os.stat(mock_entry / name) for name in os.listdir(mock_entry)}
        assert {n: stat.S_IMODE(s.st_mode) for n, s in shown.items()} == {
            "inblob": 0o200, "outblob": 0o444, "generation": 0o444, "provider": 0o444,
        }  # fmt: skip
        assert {n: s.st_size for n, s in shown.items()} == {
            "inblob": 0, "outblob": 0, "generation": 4096, "provider": 4096,
        }  # fmt: skip
        assert {(s.st_uid, s.st_gid) for s in shown.values()} == {(0, 0)}
        assert stat.S_IMODE(os.stat(mock_entry).st_mode) == 0o755
        assert read(mock_entry / "provider") == b"tdx_guest\n"
        assert os.statvfs(mock_entry).f_namemax == 255
        with opened(mock_entry / "inblob", os.O_WRONLY) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with refused(errno.ENOTTY):
                fcntl.ioctl(descriptor, 0xC4405401, bytearray(1088), True)

    await asyncio.to_thread(check)


async def test_text_is_shown_once_per_open_file(mock_entry: Path) -> None:
    def check() -> None:
        with opened(mock_entry / "generation", os.O_RDONLY) as descriptor:
            assert os.pread(descriptor, 16, 0) == b"0\n"
            store(mock_entry, DATA)
            assert os.pread(descriptor, 16, 0) == b"0\n"
        assert generation(mock_entry) == 1

    await asyncio.to_thread(check)


# Quotes: cached by generation, one at a time.


async def test_quote_is_made_once_per_generation(mock_tsm: TsmProcess, mock_entry: Path) -> None:
    before = (await mock_tsm.state()).quotes_made
    await asyncio.to_thread(store, mock_entry, DATA)
    first, second = [await asyncio.to_thread(read, mock_entry / "outblob") for _ in range(2)]
    assert first == second
    assert (await mock_tsm.state()).quotes_made == before + 1
    await asyncio.to_thread(store, mock_entry, DATA)
    third = await asyncio.to_thread(read, mock_entry / "outblob")
    assert third[REPORT_DATA] == DATA and third != first  # a fresh signature
    assert (await mock_tsm.state()).quotes_made == before + 2


async def test_open_quote_is_a_snapshot(mock_entry: Path) -> None:
    def check() -> None:
        store(mock_entry, DATA)
        with opened(mock_entry / "outblob", os.O_RDONLY) as descriptor:
            head = os.read(descriptor, 1000)
            store(mock_entry, bytes(64))
            tail = b"".join(iter(lambda: os.read(descriptor, 1000), b""))
        assert (head + tail)[REPORT_DATA] == DATA
        assert read(mock_entry / "outblob")[REPORT_DATA] == bytes(64)

    await asyncio.to_thread(check)


async def test_quote_in_progress_holds_the_subsystem_but_not_looking(
    mock_tsm: TsmProcess, mock_entry: Path
) -> None:
    other = mock_entry.with_name(mock_entry.name + "-other")
    await asyncio.to_thread(store, mock_entry, DATA)
    await mock_tsm.set_faults([{"kind": "hold"}])
    quote = asyncio.ensure_future(asyncio.to_thread(read, mock_entry / "outblob"))
    async with asyncio.timeout(20):
        while (await mock_tsm.state()).faults:  # taken when the quote is begun
            await asyncio.sleep(0)
    text = asyncio.ensure_future(asyncio.to_thread(read, mock_entry / "generation"))
    assert mock_entry.name in await asyncio.to_thread(os.listdir, mock_entry.parent)
    assert (await asyncio.to_thread(os.stat, mock_entry / "generation")).st_size == 4096
    made = asyncio.ensure_future(asyncio.to_thread(os.mkdir, other))
    done, _ = await asyncio.wait([quote, text, made], timeout=0.1)
    assert not done
    await mock_tsm.clear_faults()
    assert (await quote)[REPORT_DATA] == DATA
    assert await text == b"1\n"
    await made
    await asyncio.to_thread(os.rmdir, other)


async def test_rival_entries_each_get_their_own_quote(mock_tsm: TsmProcess) -> None:
    def one(number: int) -> None:
        path = mock_tsm.report_root / f"rival-{number}"
        os.mkdir(path)
        store(path, bytes([number]) * 64)
        assert read(path / "outblob")[REPORT_DATA] == bytes([number]) * 64
        assert generation(path) == 1
        os.rmdir(path)

    async with asyncio.TaskGroup() as tasks:
        for number in range(8):
            tasks.create_task(asyncio.to_thread(one, number))
    assert not [name for name in (await mock_tsm.state()).entries if name.startswith("rival")]
