"""Directories on a real mount: markers, implicit ones, odd keys, many entries, renames."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mocktee.oss import MockOss
from tests.fuse.mounting import BUCKET, MountProcess, mounted, outside, shell

pytestmark = pytest.mark.real


async def test_implicit_directories(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "a/b/c", b"x")
    assert await shell("find . | sort", mount.path) == ".\n./a\n./a/b\n./a/b/c\n"
    await shell("rm a/b/c", mount.path)
    assert await shell("find . | sort", mount.path) == ".\n./a\n./a/b\n"
    await shell("rmdir a/b; rmdir a", mount.path)
    assert oss.keys(BUCKET) == []


async def test_odd_keys_are_hidden_and_never_fatal(oss: MockOss, mount: MountProcess) -> None:
    for key in ("d//x", "d/./x", "d/../x", "d/" + "n" * 300, "d/tab\there", "d/ok", "/lead", "d"):
        oss.put(BUCKET, key, b"x")
    # The file d hides what is below d/.
    assert await outside(os.listdir, mount.path) == ["d"]
    oss.delete(BUCKET, "d")
    assert sorted(await outside(os.listdir, mount.path / "d")) == ["ok", "tab\there"]
    assert await outside((mount.path / "d" / "tab\there").read_bytes) == b"x"


async def test_attributes_come_from_the_listing(oss: MockOss, tmp_path: Path) -> None:
    for number in range(300):
        oss.put(BUCKET, f"d/{number:03}", b"x" * number)
    async with mounted(oss, tmp_path / "mnt", attribute_seconds=60.0) as mount:
        oss.counters.clear()
        lines = (await shell("ls -l d", mount.path)).splitlines()[1:]
        assert [int(line.split()[4]) for line in lines] == list(range(300))
        assert oss.counters["ListObjectsV2"] <= 4
        assert oss.counters["HeadObject"] <= 4


async def test_opening_a_listed_file_brings_its_own_attributes(
    oss: MockOss, tmp_path: Path
) -> None:
    oss.put(BUCKET, "f", b"x", {"x-oss-meta-mode": str(0o100604), "x-oss-meta-mtime": "77"})
    async with mounted(oss, tmp_path / "mnt", attribute_seconds=60.0) as mount:

        def journey() -> tuple[int, float]:
            list(os.scandir(mount.path))
            with (mount.path / "f").open() as file:
                found = os.fstat(file.fileno())
                return found.st_mode, found.st_mtime

        assert await outside(journey) == (0o100604, 77.0)


async def test_more_entries_than_a_page(oss: MockOss, mount: MountProcess) -> None:
    names = [f"f{number:04}" for number in range(2100)]
    for name in names:
        oss.put(BUCKET, name, b"")
    assert sorted(await outside(os.listdir, mount.path)) == names


async def test_an_unflushed_file_is_listed_with_its_size(oss: MockOss, mount: MountProcess) -> None:
    def journey() -> list[tuple[str, int]]:
        with (mount.path / "new").open("wb", buffering=0) as file:
            file.write(b"12345")
            return [(entry.name, entry.stat().st_size) for entry in os.scandir(mount.path)]

    assert await outside(journey) == [("new", 5)]
    assert oss.get(BUCKET, "new") == b"12345"


async def test_a_prefix_is_the_whole_world(oss: MockOss, tmp_path: Path) -> None:
    oss.put(BUCKET, "in/x", b"x")
    oss.put(BUCKET, "out", b"y")
    async with mounted(oss, tmp_path / "mnt", prefix="in/") as mount:
        assert await shell("ls; echo z > z", mount.path) == "x\n"
    assert oss.keys(BUCKET) == ["in/x", "in/z", "out"]


async def test_renaming_a_tree(oss: MockOss, mount: MountProcess) -> None:
    await shell("mkdir -p a/b; echo 1 > a/1; echo 2 > a/b/2; mkdir c; mv -T a c", mount.path)
    assert oss.keys(BUCKET) == ["c/", "c/1", "c/b/", "c/b/2"]
    assert await shell("cat c/b/2", mount.path) == "2\n"


async def test_a_file_stays_open_while_its_directory_moves(
    oss: MockOss, mount: MountProcess
) -> None:
    oss.put(BUCKET, "a/f", bytes(6 << 20))

    def journey() -> None:
        with (mount.path / "a" / "f").open("r+b") as file:
            file.read(10)
            os.rename(mount.path / "a", mount.path / "b")
            assert file.read() == bytes((6 << 20) - 10)
            file.write(b"end")

    await outside(journey)
    assert oss.keys(BUCKET) == ["b/f"]
    assert oss.get(BUCKET, "b/f") == bytes(6 << 20) + b"end"


async def test_a_failed_rename_changes_nothing(oss: MockOss, mount: MountProcess) -> None:
    for number in range(20):
        oss.put(BUCKET, f"a/{number:02}", b"x")
    before = oss.keys(BUCKET)
    oss.faults.add("status", code="AccessDenied", operations=["CopyObject"], skip=10)
    with pytest.raises(PermissionError):
        await outside(os.rename, mount.path / "a", mount.path / "b")
    assert oss.keys(BUCKET) == before


@pytest.mark.parametrize(
    ("source", "target", "code"),
    [
        ("dir", "full", errno.ENOTEMPTY),
        ("dir", "file", errno.ENOTDIR),
        ("file", "full", errno.EISDIR),
        ("full", "full/sub", errno.EINVAL),
        ("none", "new", errno.ENOENT),
    ],
)
async def test_refused_renames(
    oss: MockOss, mount: MountProcess, source: str, target: str, code: int
) -> None:
    for key in ("dir/", "full/x", "file"):
        oss.put(BUCKET, key, b"")
    with pytest.raises(OSError) as caught:
        await outside(os.rename, mount.path / source, mount.path / target)
    assert caught.value.errno == code


async def test_a_full_directory_is_not_removed(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "d/x", b"")
    with pytest.raises(OSError) as caught:
        await outside(os.rmdir, mount.path / "d")
    assert caught.value.errno == errno.ENOTEMPTY


async def test_ownership_options_of_ossfs(oss: MockOss, tmp_path: Path) -> None:
    oss.put(BUCKET, "d/f", b"", {"x-oss-meta-mode": str(0o100600), "x-oss-meta-uid": "7"})
    options = {"uid": 11, "gid": 12, "umask": 0o27, "mp_umask": 0o22, "allow_other": True}
    async with mounted(oss, tmp_path / "mnt", **options) as mount:
        shown = await shell("stat -c '%a %u %g' . d d/f", mount.path)
    assert shown == "755 11 12\n750 11 12\n750 11 12\n"


async def test_statfs_and_flags(oss: MockOss, mount: MountProcess) -> None:
    assert (await outside(os.statvfs, mount.path)).f_namemax == 255
    line = await shell("grep ' '$PWD' ' /proc/mounts", mount.path)
    assert line.startswith(f"oss:{BUCKET} ")
    assert " fuse.oss rw,nosuid,nodev," in line
