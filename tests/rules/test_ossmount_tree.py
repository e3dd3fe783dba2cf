"""Inodes live exactly as long as the kernel or an open handle needs them."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import FileError
from ossmount.tree import ROOT, Tree

PATHS = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=20)


@given(PATHS)
def test_forgetting_everything_leaves_the_root(paths: list[list[str]]) -> None:
    tree = Tree("p/")
    known: list[int] = []
    for path in paths:
        at = tree.root
        for name in path:
            at = tree.attach(at, name, is_directory=True)
            at.lookups += 1
            known.append(at.number)
        assert tree.key(at) == "p/" + "/".join(path) + "/"
    for number in known:
        tree.forget(number, 1)
    assert len(tree) == 1
    assert tree.root.children == {}


def test_a_moved_directory_takes_its_children_along() -> None:
    tree = Tree("")
    first = tree.attach(tree.root, "a", is_directory=True)
    file = tree.attach(first, "f", is_directory=False)
    first.lookups = file.lookups = 1
    target = tree.attach(tree.root, "b", is_directory=True)
    target.lookups = 1
    tree.move(first, target, "c")
    assert tree.key(file) == "b/c/f"


def test_a_file_that_became_a_directory_gets_another_number() -> None:
    tree = Tree("")
    file = tree.attach(tree.root, "x", is_directory=False)
    file.lookups = 1
    directory = tree.attach(tree.root, "x", is_directory=True)
    assert directory.number != file.number
    assert file.removed


@pytest.mark.parametrize("number", [2, 99], ids=["forgotten", "never-given"])
def test_unknown_numbers_are_stale(number: int) -> None:
    with pytest.raises(FileError) as caught:
        Tree("").get(number)
    assert caught.value.errno == errno.ESTALE


def test_the_root_is_never_forgotten() -> None:
    tree = Tree("")
    tree.forget(ROOT, 5)
    assert tree.get(ROOT) is tree.root
