"""A mount goes where the name led without links, also when somebody swaps directories for links."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

import pytest

from cdh.mounts.mountinfo import below, read_mountinfo
from cdh.mounts.unmount import detach
from ossmount.errors import MountPointError
from ossmount.place import MountPlace
from tests.services.test_mount_point import swapping


def mount_tmpfs(on: str, source: str = "ours") -> None:
    """What libfuse does in the end: mount(2) on a path."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = [ctypes.c_char_p(os.fsencode(name)) for name in (source, on, "tmpfs")]
    assert libc.mount(*names, 0, None) == 0, os.strerror(ctypes.get_errno())


def test_a_mount_never_lands_behind_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    outcomes: set[bool] = set()
    with swapping(tmp_path, "x") as parent:
        for _ in range(300):
            try:
                place = MountPlace.open(str(parent / "x"))
            except MountPointError:
                outcomes.add(False)
                continue
            with place:
                mount_tmpfs(place.bare)
                # The directory may be elsewhere by now, which is found, and undone below.
                with contextlib.suppress(MountPointError):
                    place.mounted()
                outcomes.add(True)
                assert below(read_mountinfo(), str(victim)) is None
                place.detach()
    assert outcomes == {True, False}, "the race was not run"
    assert below(read_mountinfo(), str(tmp_path)) is None


def test_only_the_own_mount_is_taken_away(tmp_path: Path) -> None:
    point = tmp_path / "x"
    point.mkdir()
    with MountPlace.open(str(point)) as place:
        mount_tmpfs(place.bare)
        place.mounted()
        assert detach(str(point)), "by an operator"
        mount_tmpfs(str(point), "theirs")
        place.detach()
        assert below(read_mountinfo(), str(point)) is not None
    with pytest.raises(MountPointError, match="mounted there already"):
        MountPlace.open(str(point))
    assert detach(str(point))


@pytest.mark.parametrize(
    ("name", "problem"),
    [("link/x", "symbolic link"), ("link", "symbolic link"), ("file", "not a directory"),
     ("absent", "does not exist")],
)  # fmt: skip
def test_places_that_are_none(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "real" / "x").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "file").write_text("")
    with pytest.raises(MountPointError, match=problem):
        MountPlace.open(str(tmp_path / name))
