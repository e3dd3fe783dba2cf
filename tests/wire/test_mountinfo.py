"""The mount table: kernel escapes, every split of fields, and nothing but our error on garbage."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import MountTableError
from cdh.mounts.mountinfo import (
    MountEntry,
    below,
    parse_mountinfo,
    read_mountinfo,
    topmost,
)

# The example of proc_pid_mountinfo(5).
EXAMPLE = (
    b"36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"
    b"40 36 0:50 / /mnt2/with\\040space\\134 ro - fuse.ossmount oss-data rw,user_id=0\n"
    b"41 36 0:51 / /mnt2/a shared:2 rw master:1 propagate_from:3 - tmpfs tmpfs rw\n"
)


def test_the_manual_page_example() -> None:
    table = parse_mountinfo(EXAMPLE)
    assert table[0] == MountEntry(36, 35, "/mnt2", "ext3", "/dev/root")
    assert table[1] == MountEntry(40, 36, "/mnt2/with space\\", "fuse.ossmount", "oss-data")
    assert table[2].fs_type == "tmpfs"


def escape(text: str) -> bytes:
    """Escape as the kernel's mangle() does."""
    return b"".join(
        b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in os.fsencode(text)
    )


paths = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1)


@given(paths, paths, st.lists(st.sampled_from(["shared:1", "master:2", "unbindable"])))
def test_escaped_fields_round_trip(path: str, source: str, optional: list[str]) -> None:
    fields = [b"7", b"6", b"0:1", b"/", escape("/" + path), b"rw", *map(str.encode, optional)]
    line = b" ".join([*fields, b"-", b"fuse", escape(source), b"rw"]) + b"\n"
    entry = parse_mountinfo(line)[0]
    assert (entry.mount_point, entry.source) == ("/" + path, source)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_give_only_our_error(data: bytes) -> None:
    try:
        parse_mountinfo(data)
    except MountTableError:
        return


@pytest.mark.parametrize(
    "line",
    [
        b"1 2 0:1 / /x rw tmpfs tmpfs rw",
        b"1 2 0:1 / /x rw - tmpfs tmpfs",
        b"1 2 0:1 / /x rw - tmpfs tmpfs rw more",
        b"x 2 0:1 / /x rw - tmpfs tmpfs rw",
        b"1 2 0:1 / /x\\777 rw - tmpfs tmpfs rw",
        b"1 2 - tmpfs",
    ],
)
def test_malformed_lines(line: bytes) -> None:
    with pytest.raises(MountTableError):
        parse_mountinfo(line)


def test_the_table_of_this_process() -> None:
    table = read_mountinfo()
    assert topmost(table, "/proc") is not None
    assert topmost(table, "/no/such/place") is None


def test_an_unreadable_table_is_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(MountTableError, match="No such file"):
        read_mountinfo(str(tmp_path / "absent"))


def test_topmost_and_below() -> None:
    lower = MountEntry(1, 0, "/a", "tmpfs", "one")
    upper = MountEntry(2, 1, "/a", "tmpfs", "two")
    inner = MountEntry(3, 2, "/a/b/c", "tmpfs", "three")
    table = (lower, upper, inner)
    assert topmost(table, "/a") is upper
    assert below(table, "/a/b") is inner
    assert below(table, "/a/bc") is None
    assert below(table, "/") is lower
