"""Places a volume may be mounted at, on the real file system: links, files, mounts, leftovers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cdh.errors import MountPointError
from cdh.mounts.mountpoint import prepare_mount_point


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
    ],
    ids=["link on the way", "link", "dangling", "file", "below a file", "magic", "busy", "kernel"],
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
