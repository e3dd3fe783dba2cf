"""File names and object keys: the mapping is exact both ways, and odd keys are hidden."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.errors import NameRefusedError
from ossmount.names import child_key, component, visible_name

NAMES = st.text(min_size=1, max_size=60).filter(
    lambda name: "/" not in name and "\0" not in name and name not in {".", ".."} and _is_text(name)
)


def _is_text(name: str) -> bool:
    try:
        return len(name.encode()) <= 255
    except UnicodeEncodeError:
        return False


@given(st.sampled_from(["", "dir/", "a/b c/", "目录/"]), NAMES)
def test_a_name_survives_the_way_to_the_bucket_and_back(prefix: str, name: str) -> None:
    if not prefix and name.startswith("\\"):
        return
    assert component(name.encode()) == name
    key = child_key(prefix, name)
    assert visible_name(key, prefix) == name
    assert visible_name(key + "/", prefix) == name


@given(st.text(max_size=1100), st.sampled_from(["", "a/", "dir/sub/"]))
def test_any_key_is_hidden_or_a_usable_name(key: str, prefix: str) -> None:
    if not _is_encodable(key):
        return
    name = visible_name(key, prefix)
    if name is not None:
        assert name and "/" not in name and "\0" not in name and name not in {".", ".."}
        assert len(name.encode()) <= 255
        assert key in {prefix + name, prefix + name + "/"}


def _is_encodable(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize(
    ("key", "prefix"),
    [
        ("d//", "d/"),
        ("d/./", "d/"),
        ("d/..", "d/"),
        ("/", ""),
        ("\\a", ""),
        ("d/" + "x" * 256, "d/"),
        ("other", "d/"),
    ],
    ids=["empty", "dot", "dotdot", "slash", "backslash", "long", "elsewhere"],
)
def test_keys_without_a_name(key: str, prefix: str) -> None:
    assert visible_name(key, prefix) is None


@pytest.mark.parametrize(
    ("name", "code"),
    [(b"\xff", errno.EILSEQ), (b"x" * 256, errno.ENAMETOOLONG)],
    ids=["not-utf8", "too-long"],
)
def test_refused_names(name: bytes, code: int) -> None:
    with pytest.raises(NameRefusedError) as caught:
        component(name)
    assert caught.value.errno == code


@pytest.mark.parametrize(
    ("prefix", "name", "code"),
    [("p" * 1000 + "/", "n" * 30, errno.ENAMETOOLONG), ("", "\\a", errno.EINVAL)],
    ids=["key-too-long", "backslash"],
)
def test_refused_keys(prefix: str, name: str, code: int) -> None:
    with pytest.raises(NameRefusedError) as caught:
        child_key(prefix, name)
    assert caught.value.errno == code
