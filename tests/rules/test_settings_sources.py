"""Layers of settings: who wins, what is remembered, what is shown, what is refused."""

from __future__ import annotations

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import file_source
from lifecycle.describe import describe
from lifecycle.errors import SettingsError, UnmeasuredSettingError
from lifecycle.file_source import load_file
from lifecycle.settings import parse_tree
from lifecycle.sources import Given, Layers, Source, SourceKind, Weakening

FILE = Source(SourceKind.FILE, "x.toml")
VARIABLE = Source(SourceKind.ENVIRONMENT, "X_URL")
KERNEL = Source(SourceKind.KERNEL, "x.url")
FLAG = Source(SourceKind.FLAG, "--url")


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    password: str = ""


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    url: str = "none"
    cert: str | None = None


class Outer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    inner: Inner = Inner()
    items: tuple[Item, ...] = ()
    required_header: str = ""
    count: int = 1


def test_later_sources_win_and_are_remembered() -> None:
    layers = Layers()
    layers.add([Given("inner.url", "variable", VARIABLE), Given("count", 2, KERNEL)])
    layers.add_tree({"inner": {"url": "file"}}, FILE, {})
    settings = layers.decode(Outer)
    assert settings.value.inner.url == "file"
    assert str(settings.source_of("inner.url")) == "file x.toml"
    assert str(settings.source_of("count")) == "kernel command line x.url"
    assert str(settings.source_of("inner.cert")) == "built-in default"
    layers.add([Given("inner.url", "flag", FLAG)])
    assert layers.decode(Outer).value.inner.url == "flag"
    assert str(layers.decode(Outer).source_of("inner.url")) == "flag --url"


def test_items_are_added_and_each_knows_its_source() -> None:
    layers = Layers()
    layers.add_tree({"items": [{"name": "a"}]}, FILE, {})
    layers.add([Given("items", [{"name": "b"}], KERNEL, adds=True)])
    settings = layers.decode(Outer)
    assert [item.name for item in settings.value.items] == ["a", "b"]
    assert settings.source_of("items[0].name") is FILE
    assert settings.source_of("items[1].name") is KERNEL
    assert settings.source_of("items[1].password").kind is SourceKind.DEFAULT


def test_a_list_of_a_later_source_replaces_the_whole_one() -> None:
    layers = Layers()
    layers.add([Given("items", [{"name": "a"}, {"name": "b"}], VARIABLE)])
    layers.add_tree({"items": [{"name": "c"}]}, FILE, {})
    settings = layers.decode(Outer)
    assert [item.name for item in settings.value.items] == ["c"]
    assert settings.source_of("items[1].name").kind is SourceKind.DEFAULT


def test_keys_of_older_releases_are_left_out_and_others_refused() -> None:
    layers = Layers()
    layers.add_tree({"inner": {"old": 1, "url": "x"}}, FILE, {"inner.old": "removed", "gone": "y"})
    settings = layers.decode(Outer)
    assert settings.notes == ("inner.old in x.toml has no effect: removed",)
    layers.add_tree({"inner": {"odl": 1}}, FILE, {})
    with pytest.raises(SettingsError, match="odl"):
        layers.decode(Outer)


def test_an_error_names_the_source_of_the_value() -> None:
    layers = Layers()
    layers.add_tree({"count": 1}, FILE, {})
    layers.add([Given("inner.url", 7, VARIABLE)])
    with pytest.raises(SettingsError) as caught:
        layers.decode(Outer)
    assert caught.value.source == "environment X_URL"


class Kind(StrEnum):
    ONE = "one"


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: Kind = Kind.ONE
    word: Literal["one", "two"] = "one"


@pytest.mark.parametrize("key", ["kind", "word"])
@pytest.mark.parametrize("value", ["hunter2", "hunter2 - at `$.x`\nhunter2"], ids=["word", "lines"])
def test_an_error_never_shows_a_value(key: str, value: str) -> None:
    layers = Layers()
    layers.add_tree({key: value}, FILE, {})
    with pytest.raises(
        SettingsError, match=f"Not one of the possible values - at .*{key}"
    ) as caught:
        layers.decode(Choice)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("table", [3, "x", ["a"]])
def test_what_should_be_a_table_and_is_none(table: object) -> None:
    layers = Layers()
    layers.add_tree({"inner": table}, FILE, {})
    layers.add([Given("inner.url", "x", FLAG)])
    with pytest.raises(SettingsError, match="inner"):
        layers.decode(Outer)


@pytest.mark.parametrize(
    ("source", "by_flag", "admitted"),
    [
        (FILE, False, True),
        (KERNEL, False, True),
        (VARIABLE, False, False),
        (VARIABLE, True, False),
        (FLAG, False, False),
        (FLAG, True, True),
        (Source(SourceKind.FILE, "x", "anybody can write it"), False, False),
    ],
)
def test_what_weakens_is_for_measured_sources(
    source: Source, by_flag: bool, admitted: bool
) -> None:
    layers = Layers()
    layers.add([Given("inner.url", "http://x", source)])
    settings = layers.decode(Outer)
    weakening = Weakening("inner.url", "open", by_flag=by_flag)
    if admitted:
        assert settings.judged([weakening]).weakenings == (weakening,)
    else:
        with pytest.raises(UnmeasuredSettingError, match=r"inner\.url.*open"):
            settings.judged([weakening])


def test_what_is_shown_and_what_is_not() -> None:
    pem = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----"
    layers = Layers()
    layers.add_tree(
        {
            "inner": {"url": "https://user:hunter2@host/x", "cert": pem},
            "items": [{"name": "n", "password": "hunter2"}],
            "required_header": "X-Guest: hunter2",
        },
        FILE,
        {},
    )
    settings = layers.decode(Outer).judged([Weakening("inner.cert", "trust")], ["said"])
    text = describe(settings, "program")
    assert "hunter2" not in text
    assert "MIIB" not in text
    assert 'inner.url = "https://<redacted>@host/x"' in text
    assert 'items[0].password = "<redacted>"' in text
    assert 'required_header = "X-Guest: <redacted>"' in text
    assert "<PEM, " in text
    assert "# weakens: inner.cert (file x.toml): trust\n# note: said\n" in text
    assert all("  # " in line for line in text.splitlines()[1:-2])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["inner", "items", "count", "url", "name", "x"])


@given(st.dictionaries(NAMES, VALUES | st.dictionaries(NAMES, VALUES)))
def test_any_tree_is_one_value_or_one_error(tree: dict[str, Any]) -> None:
    layers = Layers()
    layers.add_tree(tree, FILE, {"inner.x": "old"})
    layers.add([Given("inner.url", "flag", FLAG)])
    try:
        settings = layers.decode(Outer)
    except SettingsError:
        return
    assert settings.value.inner.url == "flag"
    assert describe(settings, "p")


@given(st.binary(max_size=60), st.sampled_from(["a.toml", "a.json", "a", "a.conf"]))
def test_any_text_is_a_table_or_one_error(text: bytes, name: str) -> None:
    try:
        assert isinstance(parse_tree(text, Path(name)), dict)
    except SettingsError as error:
        assert error.source == name  # noqa: PT017 - either way is right


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", '{"a": {"b": 1}}'),
        ("a.toml", "a = {b = 1}"),
        ("a.conf", "[a]\nb = 1"),
        ("conf", "[a]\nb = 1"),
        ("conf", ' {"a": {"b": 1}}'),
        ("A.JSON", '{"a": {"b": 1}}'),
    ],
)
def test_the_format_is_that_of_the_name(name: str, text: str) -> None:
    assert parse_tree(text.encode(), Path(name)) == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.json", "a = 1", "not valid JSON"),
        ("a.json", "[1]", "not a table"),
        ("a.toml", '{"secret": 1}', "not valid TOML"),
        ("a.yaml", "a: 1", "format .yaml is not read"),
        ("a.toml", b"a = '\xff'", "not UTF-8"),
        ("a.json", '{"a":' + "[" * 30 + "]" * 30 + "}", "nested too deeply"),
        ("a.json", "[" * 100_000, "not valid JSON|nested too deeply"),
        ("a.toml", "a = " + "[" * 100_000, "not valid TOML|nested too deeply"),
    ],
)
def test_what_is_no_configuration(name: str, text: str | bytes, problem: str) -> None:
    content = text.encode() if isinstance(text, str) else text
    with pytest.raises(SettingsError, match=problem) as caught:
        parse_tree(content, Path(name))
    assert "secret" not in str(caught.value)


def test_a_file_of_the_image_is_measured_and_one_anybody_can_write_is_not(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("a = 1")
    path.chmod(0o644)
    tree, source = load_file(path)
    assert tree == {"a": 1}
    assert source.why_unmeasured == ""
    path.chmod(0o666)
    assert "every user" in load_file(path)[1].why_unmeasured
    path.chmod(0o600)
    assert "CONFIG_PATH" in load_file(path, named_by="CONFIG_PATH")[1].why_unmeasured


def test_a_file_that_the_host_can_change_is_not_measured(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No virtio-fs here; the file system of this test stands for it.
    path = tmp_path_factory.mktemp("x") / "x.toml"
    path.write_text("")
    kind = file_source._file_system(path.stat().st_dev)
    monkeypatch.setattr("lifecycle.file_source.FOREIGN", frozenset({kind}))
    assert "from outside the guest" in load_file(path)[1].why_unmeasured


@pytest.mark.parametrize(
    ("document", "measured"),
    [
        ({"cdh.toml": "a = 1\n"}, True),
        ({"cdh.toml": "a = 2\n"}, False),
        ({"aa.toml": "a = 1\n"}, False),
        (None, False),
    ],
    ids=["its part", "another text", "another name", "no document"],
)
def test_a_part_of_initdata_counts_with_its_document_only(
    tmp_path: Path, document: dict[str, str] | None, measured: bool
) -> None:
    path = tmp_path / "cdh.toml"
    path.write_text("a = 1\n")
    if document is not None:
        data = "\n".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in document.items())
        text = f'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n{data}\n'
        assert tomllib.loads(text)
        (tmp_path / "initdata.toml").write_text(text)
    assert (load_file(path, initdata=tmp_path)[1].why_unmeasured == "") is measured
    linked = tmp_path.with_name(f"{tmp_path.name}-link.toml")
    linked.symlink_to(path)
    folder = tmp_path.with_name(f"{tmp_path.name}-folder")
    folder.symlink_to(tmp_path)
    for way in (linked, folder / "cdh.toml", tmp_path / ".." / tmp_path.name / "cdh.toml"):
        assert (load_file(way, initdata=tmp_path)[1].why_unmeasured == "") is measured, way
