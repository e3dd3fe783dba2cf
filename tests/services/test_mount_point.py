"""Places a volume may be mounted at, on the real file system: links, files, mounts, leftovers."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import MountPointError
from cdh.mounts.mountpoint import PreparedMountPoint, check_mount_point, prepare_mount_point
from cdh.mounts.unmount import detach
from lifecycle.directories import descriptor_path, open_directory


def link(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    return folder / "link" / "x"


def final_link(folder: Path) -> Path:
    (folder / "real").mkdir()
    (folder / "final").symlink_to("real")
    return folder / "final"


def dangling(folder: Path) -> Path:
    (folder / "dangling").symlink_to("nowhere")
    return folder / "dangling"


def plain_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file"


def below_file(folder: Path) -> Path:
    return plain_file(folder) / "x"


@pytest.mark.parametrize(
    ("arrange", "problem"),
    [
        (link, "is a symbolic link"),
        (final_link, "is a symbolic link"),
        (dangling, "is a symbolic link"),
        (plain_file, "is not a directory"),
        (below_file, "is not a directory"),
        (lambda _: Path("/proc/self/x"), "is a symbolic link"),
        (lambda _: Path("/proc"), "is already mounted"),
        (lambda _: Path("/proc/absent"), "No such file or directory"),
        (lambda folder: folder / ("n" * 256), "File name too long"),
    ],
    ids=[
        "link on the way",
        "link",
        "dangling",
        "file",
        "below a file",
        "magic",
        "busy",
        "kernel",
        "long name",
    ],
)
def test_places_that_cannot_be_used(
    tmp_path: Path, arrange: Callable[[Path], Path], problem: str
) -> None:
    place = arrange(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(MountPointError, match=problem):
        prepare_mount_point(str(place))
    assert sorted(tmp_path.rglob("*")) == before


def test_only_empty_directories_made_here_are_removed(tmp_path: Path) -> None:
    prepared = prepare_mount_point(str(tmp_path / "a/b/c"))
    assert prepared.created == tuple(str(tmp_path / name) for name in ("a", "a/b", "a/b/c"))
    (tmp_path / "a/b/kept").write_text("")
    assert prepared.remove_created() == prepared.created[:2]
    assert (tmp_path / "a/b/kept").exists()
    assert not (tmp_path / "a/b/c").exists()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("/run/a/../b", "'..' component", id="dot-dot"),
        pytest.param("/run/a/..", "'..' component", id="ends-in-dot-dot"),
        pytest.param("/run/./a", "'.' or '..' component", id="dot"),
        pytest.param("/run//a", "an empty", id="empty-component"),
        pytest.param("//run/a", "an empty", id="two-slashes"),
        pytest.param("/run", "outside the allowed roots", id="the-root-itself"),
        pytest.param("/run/", "outside the allowed roots", id="the-root-with-a-slash"),
        pytest.param("/", "outside the allowed roots", id="slash"),
        pytest.param("/running/a", "outside the allowed roots", id="only-begins-alike"),
        pytest.param("", "not an absolute path", id="empty"),
        pytest.param("run/a", "not an absolute path", id="relative"),
        pytest.param("/run/" + "a" * 1020, "at most 1024 bytes", id="long"),
        pytest.param("/run/" + "ä" * 511, "at most 1024 bytes", id="long-in-bytes"),
        pytest.param("/run/a\0b", "control characters", id="nul"),
        pytest.param("/run/a\nb", "control characters", id="newline"),
        pytest.param("/run/\udcff", "control characters", id="not-utf-8"),
        pytest.param("/run/systemd/x", "would cover /run/systemd", id="protected"),
    ],
)
def test_names_that_are_refused_unseen(text: str, problem: str) -> None:
    with pytest.raises(MountPointError, match=re.escape(problem)):
        check_mount_point(text, ("/run",))


def test_slashes_at_the_end_are_dropped() -> None:
    assert check_mount_point("/run/a/b//", ("/run/",)) == "/run/a/b"


@given(st.text(st.sampled_from("/.ar~\0 é\udc80"), max_size=40))
def test_what_passes_is_plain_and_below_the_root(text: str) -> None:
    try:
        path = check_mount_point("/run/" + text, ("/run",))
    except MountPointError:
        return
    assert path == os.path.normpath(path)
    assert path.startswith("/run/")
    assert open_or_none(path) in (None, path)


def open_or_none(path: str) -> str | None:
    """What the walk really reaches, None if there is nothing."""
    try:
        descriptor = open_directory(path)
    except OSError:
        return None
    try:
        return os.readlink(descriptor_path(descriptor))
    finally:
        os.close(descriptor)


@contextmanager
def swapping(folder: Path, *names: str) -> Iterator[Path]:
    """``folder/place`` is a directory and, a moment later, a link to ``folder/victim``.

    Both hold empty directories of these names.
    """
    place, link = folder / "place", folder / "link"
    for directory in (place, folder / "victim"):
        directory.mkdir()
        for name in names:
            (directory / name).mkdir()
    link.symlink_to("victim")
    libc = ctypes.CDLL(None, use_errno=True)
    ends = [ctypes.c_char_p(os.fsencode(path)) for path in (place, link)]
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            assert libc.renameat2(-100, ends[0], -100, ends[1], 2) == 0  # RENAME_EXCHANGE

    attacker = threading.Thread(target=swap)
    attacker.start()
    try:
        yield place
    finally:
        stop.set()
        attacker.join()


def test_a_link_put_there_meanwhile_is_not_followed(tmp_path: Path) -> None:
    """Neither for making directories nor for removing them."""
    victim = tmp_path / "victim"
    outcomes: set[bool] = set()
    with swapping(tmp_path, "empty") as place:
        for _ in range(2000):
            try:
                prepared = prepare_mount_point(str(place / "a" / "b"))
            except MountPointError:
                outcomes.add(False)
                continue
            outcomes.add(True)
            PreparedMountPoint(prepared.path, (str(place / "empty"),)).remove_created()
            prepared.remove_created()
    assert outcomes == {True, False}, "the race was not run"
    assert [entry.name for entry in victim.iterdir()] == ["empty"]


def test_an_unmount_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/")
    with pytest.raises(OSError, match="symbolic"):
        detach(str(tmp_path / "link" / "proc"))
    assert Path("/proc/self").exists()
    assert detach(str(tmp_path / "absent" / "x")) is False
    assert detach(str(tmp_path)) is False
