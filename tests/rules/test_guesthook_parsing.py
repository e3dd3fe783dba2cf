"""The hook's documents: strict, bounded, never a surprise. No I/O but reading one settings file."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guesthook.errors import BundleError, HookError, HookSettingsError, StateError, one_line
from guesthook.init_process import in_group_of
from guesthook.settings import HookSettings, load_settings, parse_settings
from guesthook.spec import MAX_CONFIG, parse_spec
from guesthook.state import is_plain_path, parse_state
from guesthook.strict_json import StrictJsonError, parse_object

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["id", "pid", "bundle", "root", "path", "process", "env",
                                       "mounts", "source", "destination", "annotations"]), inner),
    max_leaves=20,
)  # fmt: skip


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
def test_any_document_is_read_or_refused_by_our_own_errors(document: bytes) -> None:
    for read in (parse_state, lambda data: parse_spec(data, "/run/kata-containers/c")):
        with suppress(HookError):  # nothing else may come out
            read(document)


def test_a_state_as_the_agent_writes_it() -> None:
    document = {
        "ociVersion": "1.1.0", "id": "0f9a", "status": "created", "pid": 77,
        "bundle": "/run/kata-containers/0f9a", "annotations": {"a": "b"}, "later": [1],
    }  # fmt: skip
    state = parse_state(json.dumps(document).encode())
    assert (state.id, state.pid, state.bundle) == ("0f9a", 77, "/run/kata-containers/0f9a")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param(b'{"id":"a"}', "bundle: expected a string", id="no-bundle"),
        pytest.param(b'{"id":1,"bundle":"/x"}', "id: expected a string", id="id-number"),
        pytest.param(b'{"id":"a b","bundle":"/x"}', "id: expected 1 to 128", id="id-space"),
        pytest.param(b'{"id":"a","bundle":"x"}', "bundle: expected an absolute", id="relative"),
        pytest.param(b'{"id":"a","bundle":"/x//y"}', "bundle: expected an absolute", id="empty"),
        pytest.param(b'{"id":"a","bundle":"/x","pid":"1"}', "pid: expected", id="pid-text"),
        pytest.param(b'{"id":"a","bundle":"/x","pid":99999999}', "pid: expected", id="pid-big"),
        pytest.param(b'{"id":"a","bundle":"/x","pid":1.0}', "pid: expected", id="pid-float"),
        pytest.param(b"[]", "not an object", id="list"),
        pytest.param(b'{"id":NaN}', "holds NaN or Infinity", id="nan"),
        pytest.param(b'{"id":"a","id":"a"}', "a key is given twice", id="twice"),
    ],
)
def test_a_state_is_refused_for_a_reason(document: bytes, reason: str) -> None:
    with pytest.raises(StateError) as caught:
        parse_state(document)
    assert caught.value.reason.startswith(reason)


def test_a_specification_as_runtimes_write_it() -> None:
    document = {
        "root": {"path": "rootfs"},
        "process": {"env": ["A=1=2", "B"]},
        "mounts": [{"destination": "/a", "source": None}, {"destination": "/b", "source": "/s"}],
    }
    spec = parse_spec(json.dumps(document).encode(), "/run/c")
    assert spec.root == "/run/c/rootfs"
    assert spec.environment == (("A", "1=2"), ("B", ""))
    assert [(mount.source, mount.destination) for mount in spec.mounts] == [
        ("", "/a"),
        ("/s", "/b"),
    ]
    assert spec.annotations == {}


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        pytest.param(b"{}", "path: expected a string", id="no-root"),
        pytest.param(b'{"root":{"path":"r"},"mounts":{}}', "mounts: expected a list", id="mounts"),
        pytest.param(b'{"root":{"path":"r"},"mounts":[1]}', "mounts: expected objects", id="mount"),
        pytest.param(b'{"root":{"path":"r"},"mounts":[{}]}', "destination: expected", id="place"),
        pytest.param(b'{"root":{"path":"r"},"process":{"env":"A"}}', "env: expected", id="env"),
        pytest.param(b'{"root":{"path":"r"},"process":[]}', "process: expected", id="process"),
        pytest.param(b'{"root":{"path":"r"},"annotations":{"a":1}}', "annotations:", id="notes"),
        pytest.param(b" " * (MAX_CONFIG + 1), "larger than", id="long"),
    ],
)
def test_a_specification_is_refused_for_a_reason(document: bytes, reason: str) -> None:
    with pytest.raises(BundleError) as caught:
        parse_spec(document, "/run/c")
    assert caught.value.reason.startswith(reason)


def test_a_parser_error_holds_nothing_of_the_document() -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object(b'{"password": "correct horse" oops')
    assert "horse" not in repr(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("path", "plain"),
    [
        ("/a/b", True), ("/", False), ("a", False), ("", False), ("/a/", False), ("/a//b", False),
        ("/a/./b", False), ("/a/../b", False), ("/a\n", False), ("/" + "a" * 1024, False),
    ],
)  # fmt: skip
def test_plain_paths(path: str, plain: bool) -> None:
    assert is_plain_path(path) is plain


def test_settings_have_safe_defaults(tmp_path: Path) -> None:
    settings = load_settings(str(tmp_path / "absent.toml"))
    assert settings == HookSettings()
    assert settings.environment == "refuse"


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text('environment = "files"\noss_targets = []\n')
    assert load_settings(str(path)) == HookSettings(environment="files", oss_targets=())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("environment = 'ignore'", id="value"),
        pytest.param("environment = 1", id="type"),
        pytest.param("bundle_roots = '/run'", id="no-list"),
        pytest.param("bundle_roots = [1]", id="list-of-numbers"),
        pytest.param("bundle_roots = ['/run/../etc']", id="parent"),
        pytest.param("hub_socket = 'cdh.sock'", id="relative"),
        pytest.param("environmental = 'files'", id="misspelt"),
        pytest.param("environment = ", id="no-toml"),
        pytest.param("# " + "x" * 70_000, id="long"),
    ],
)
def test_broken_settings_are_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hooks.toml"
    path.write_text(text)
    with pytest.raises(HookSettingsError):
        load_settings(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(HookSettingsError):
        load_settings(str(path))


def test_errors_quote_one_bounded_line() -> None:
    assert one_line("a\nb" + "x" * 1000) == "a?b" + "x" * 397 + "…"
    with pytest.raises(HookSettingsError, match="unknown key"):
        parse_settings({"x": 1}, "hooks.toml")


@pytest.mark.parametrize(
    ("cgroup", "container", "named"),
    [
        ("0::/kubepods/besteffort/pod1/c1\n", "c1", True),
        ("12:cpu:/x\n1:name=systemd:/c1/init\n0::/\n", "c1", True),
        ("0::/kubepods.slice/cri-containerd-c1.scope\n", "c1", True),
        ("0::/kubepods-pod1.slice:cri-containerd:c1\n", "c1", True),
        ("0::/../c1\n", "c1", True),
        ("0::/system.slice/cguestd.service\n", "c", False),
        ("0::/kubepods/c12\n", "c1", False),
        ("0::/kubepods/c1/\n", "kubepods/c1", False),
        ("1:c1:/\n", "c1", False),
        ("", "c1", False),
    ],
)
def test_a_control_group_is_named_after_a_container_as_a_whole(
    cgroup: str, container: str, named: bool
) -> None:
    assert in_group_of(cgroup, container) is named
