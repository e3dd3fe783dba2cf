"""Files on a real mount, with plain tools and system calls, against the local OSS server."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mocktee.oss import MockOss
from tests.fuse.mounting import BUCKET, MountProcess, mounted, outside, shell

pytestmark = pytest.mark.real
MIB = 1 << 20


async def test_the_everyday_tools(oss: MockOss, mount: MountProcess) -> None:
    await shell("mkdir d; echo hello > d/a; cp d/a d/b; cat d/a d/b > c", mount.path)
    assert oss.get(BUCKET, "c") == b"hello\nhello\n"
    assert await shell("ls -1 d; stat -c %s c", mount.path) == "a\nb\n12\n"
    await shell("mv d e; echo more >> e/a; rm e/b; mkdir f; rmdir f", mount.path)
    assert oss.get(BUCKET, "e/a") == b"hello\nmore\n"
    assert sorted(oss.keys(BUCKET)) == ["c", "e/", "e/a"]


def sized(size: int) -> bytes:
    """Content of which no two blocks are equal."""
    seed = hashlib.shake_256(str(size).encode()).digest(4093)
    return (seed * (size // len(seed) + 1))[:size]


@pytest.mark.parametrize("size", [0, 1, 4096, MIB + 1, 8 * MIB, 20 * MIB + 5])
async def test_a_file_goes_in_and_comes_out_again(
    oss: MockOss, mount: MountProcess, tmp_path: Path, size: int
) -> None:
    (tmp_path / "in").write_bytes(sized(size))
    await shell(f"cp {tmp_path}/in f", mount.path)
    assert oss.get(BUCKET, "f") == sized(size)
    await shell(f"cp f {tmp_path}/out; cmp {tmp_path}/in {tmp_path}/out", mount.path)


async def test_a_small_file_takes_one_put_and_a_large_one_parts(
    oss: MockOss, mount: MountProcess
) -> None:
    await outside((mount.path / "small").write_bytes, sized(MIB))
    assert oss.counters["PutObject"] == 1
    await outside((mount.path / "large").write_bytes, sized(20 * MIB))
    assert (oss.counters["PutObject"], oss.counters["UploadPart"]) == (1, 3)
    assert oss.stored(BUCKET, "large").size == 20 * MIB


async def test_appending_to_a_large_file_copies_its_head_at_the_server(
    oss: MockOss, mount: MountProcess
) -> None:
    oss.put(BUCKET, "f", sized(9 * MIB))
    await shell("echo tail >> f; echo again >> f", mount.path)
    assert oss.get(BUCKET, "f") == sized(9 * MIB) + b"tail\nagain\n"
    assert (oss.counters["GetObject"], oss.counters["UploadPartCopy"]) == (0, 2)


async def test_appending_finds_the_end_that_another_client_moved(
    oss: MockOss, tmp_path: Path
) -> None:
    oss.put(BUCKET, "f", b"short")
    async with mounted(oss, tmp_path / "mnt", attribute_seconds=60.0) as mount:
        assert await shell("stat -c %s f", mount.path) == "5\n"
        oss.put(BUCKET, "f", b"a longer line\n")
        await shell("echo more >> f", mount.path)
        assert oss.get(BUCKET, "f") == b"a longer line\nmore\n"
        assert await shell("cat f", mount.path) == "a longer line\nmore\n"


def overwrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(100)
        file.write(b"changed")
        file.seek(0, os.SEEK_END)
        file.write(b"end")


async def test_changing_the_middle_of_a_file(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "f", sized(9 * MIB))
    await outside(overwrite, mount.path / "f")
    expected = bytearray(sized(9 * MIB) + b"end")
    expected[100:107] = b"changed"
    assert oss.get(BUCKET, "f") == expected


def patch_header(path: Path) -> None:
    with path.open("wb") as file:
        file.write(sized(12 * MIB))
        file.seek(0)
        file.write(b"HEAD")


async def test_a_header_written_last(oss: MockOss, mount: MountProcess) -> None:
    await outside(patch_header, mount.path / "f")
    assert oss.get(BUCKET, "f") == b"HEAD" + sized(12 * MIB)[4:]


async def test_a_random_change_beyond_the_budget_is_refused_by_name(
    oss: MockOss, tmp_path: Path
) -> None:
    oss.put(BUCKET, "f", sized(20 * MIB))
    async with mounted(oss, tmp_path / "mnt", memory_bytes=32 * MIB) as mount:
        with pytest.raises(OSError, match="too large") as caught:
            await outside(overwrite, mount.path / "f")
        assert caught.value.errno == errno.EFBIG
        assert "file too large to change at random" in mount.log
    assert oss.get(BUCKET, "f") == sized(20 * MIB)


@pytest.mark.parametrize("before", [5, 9 * MIB])
@pytest.mark.parametrize("after", [0, 3, 9 * MIB - 1, 9 * MIB + 7])
async def test_truncating(oss: MockOss, mount: MountProcess, before: int, after: int) -> None:
    oss.put(BUCKET, "f", sized(before))
    await outside(os.truncate, mount.path / "f", after)
    assert oss.get(BUCKET, "f") == sized(before)[:after].ljust(after, b"\0")


def exclusive(path: Path) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))


async def test_exclusive_creation_is_decided_by_the_store(
    oss: MockOss, mount: MountProcess
) -> None:
    await outside(exclusive, mount.path / "lock")
    assert oss.get(BUCKET, "lock") == b""
    with pytest.raises(FileExistsError):
        await outside(exclusive, mount.path / "lock")


async def test_mode_owner_and_time_are_kept_as_ossfs_keeps_them(
    oss: MockOss, mount: MountProcess
) -> None:
    await shell("echo x > f; chmod 604 f; chown 12:34 f; touch -d @1234567890 f", mount.path)
    head = oss.stored(BUCKET, "f").headers
    assert {name: head[f"x-oss-meta-{name}"] for name in ("mode", "uid", "gid", "mtime")} == {
        "mode": str(0o100604),
        "uid": "12",
        "gid": "34",
        "mtime": "1234567890",
    }
    assert await shell("stat -c '%a %u %g %Y' f", mount.path) == "604 12 34 1234567890\n"
    await shell("cp -p f g; mkdir d; chmod 711 d", mount.path)
    assert await shell("stat -c '%a %Y' g; stat -c %a d", mount.path) == "604 1234567890\n711\n"


async def test_cp_p_of_a_large_file_keeps_its_time(
    oss: MockOss, mount: MountProcess, tmp_path: Path
) -> None:
    (tmp_path / "in").write_bytes(sized(9 * MIB))
    os.utime(tmp_path / "in", (1, 1234567890))
    await shell(f"cp -p {tmp_path}/in f; stat -c %Y f", mount.path)
    assert oss.stored(BUCKET, "f").headers["x-oss-meta-mtime"] == "1234567890"


async def test_renaming_keeps_open_handles_good(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "a", sized(5 * MIB))

    def journey() -> bytes:
        with (mount.path / "a").open("rb") as file:
            os.rename(mount.path / "a", mount.path / "b")
            return file.read()

    assert await outside(journey) == sized(5 * MIB)
    assert oss.keys(BUCKET) == ["b"]


async def test_content_in_memory_gives_way_to_what_another_client_stored(
    oss: MockOss, mount: MountProcess
) -> None:
    def journey() -> bytes:
        with (mount.path / "f").open("wb") as file:
            file.write(b"ours")
            file.flush()
            os.fsync(file.fileno())
            oss.put(BUCKET, "f", b"theirs, longer")
            return (mount.path / "f").read_bytes()

    assert await outside(journey) == b"theirs, longer"
    assert oss.get(BUCKET, "f") == b"theirs, longer"


async def test_unlinking_an_open_new_file_leaves_nothing(oss: MockOss, mount: MountProcess) -> None:
    def journey() -> None:
        with (mount.path / "t").open("wb") as file:
            file.write(sized(9 * MIB))
            os.unlink(mount.path / "t")

    await outside(journey)
    assert oss.keys(BUCKET) == []


async def test_a_read_only_mount(oss: MockOss, tmp_path: Path) -> None:
    oss.put(BUCKET, "f", b"content")
    async with mounted(oss, tmp_path / "mnt", read_only=True) as mount:
        assert await shell("cat f", mount.path) == "content"
        for change in (
            lambda: (mount.path / "g").write_bytes(b"x"),
            (mount.path / "f").unlink,
            (mount.path / "d").mkdir,
            lambda: (mount.path / "f").chmod(0o600),
        ):
            await refused(change, errno.EROFS)
    assert oss.keys(BUCKET) == ["f"]


async def refused(change: Callable[[], object], code: int) -> None:
    with pytest.raises(OSError) as caught:
        await outside(change)
    assert caught.value.errno == code


async def test_what_a_bucket_cannot_hold_is_refused(oss: MockOss, mount: MountProcess) -> None:
    oss.put(BUCKET, "f", b"x")
    await refused(lambda: os.symlink("f", mount.path / "s"), errno.ENOTSUP)
    await refused(lambda: os.link(mount.path / "f", mount.path / "l"), errno.ENOTSUP)
    await refused(lambda: os.mkfifo(mount.path / "p"), errno.ENOTSUP)
    await refused((mount.path / os.fsdecode(b"\xff")).touch, errno.EILSEQ)


async def test_temporary_keys_and_v1_signatures(oss: MockOss, tmp_path: Path) -> None:
    oss.add_key("STS.id", "stsSecret", "stsToken")
    keys = {"access_key_id": "STS.id", "access_key_secret": "stsSecret"}
    options = {"security_token": "stsToken", "signature": "v1", "region": None}
    async with mounted(oss, tmp_path / "mnt", **keys, **options) as mount:
        await shell("echo v1 > 'a b+c'; cat 'a b+c'; mv 'a b+c' ü", mount.path)
    assert oss.get(BUCKET, "ü") == b"v1\n"
