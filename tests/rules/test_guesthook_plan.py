"""What the hook decides from a specification, annotations and the measured settings."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guesthook.errors import HookSettingsError, RefusedError
from guesthook.plan import OSS_ANNOTATION, check_alone, make_plan, parse_oss_mount
from guesthook.settings import HookSettings, parse_settings
from guesthook.spec import ContainerSpec, Mount

SHARED = "/run/kata-containers/shared/containers"
OSS = {"target": "/mnt/data", "bucket": "b", "akId": "sealed.x"}
FILES = HookSettings(environment="files")


def spec(
    env: tuple[tuple[str, str], ...] = (),
    mounts: tuple[Mount, ...] = (),
    annotations: dict[str, str] | None = None,
) -> ContainerSpec:
    return ContainerSpec("/run/kata-containers/c/rootfs", env, mounts, annotations or {})


def annotated(value: Any = OSS, name: str = "data", **more: str) -> ContainerSpec:
    text = value if isinstance(value, str) else json.dumps(value)
    return spec(annotations={OSS_ANNOTATION + name: text, **more})


def test_nothing_to_do_is_an_empty_plan() -> None:
    usual = spec(
        (("PATH", "/bin"), ("TEXT", "not sealed.")),
        (Mount("proc", "/proc"), Mount(f"{SHARED}/c-resolv.conf", "/etc/resolv.conf")),
        {"io.kubernetes.cri.container-name": "web"},
    )
    assert make_plan(usual, HookSettings()).is_empty()


@pytest.mark.parametrize("name", ["resolv.conf", "hosts", "hostname", "termination-log",
                                  "serviceaccount"])  # fmt: skip
def test_what_the_runtime_made_is_not_looked_at(name: str) -> None:
    plan = make_plan(spec(mounts=(Mount(f"{SHARED}/c-1-{name}", "/x"),)), HookSettings())
    assert not plan.volumes


def test_shared_volumes_are_looked_at_wherever_they_go() -> None:
    mounts = (Mount(f"{SHARED}/c-keys", "/keys/"), Mount("/run/other", "/x"), Mount(SHARED, "/y"))
    assert make_plan(spec(mounts=mounts), HookSettings()).volumes == mounts[:1]


@pytest.mark.parametrize(
    "mount",
    [
        pytest.param(Mount(f"{SHARED}/../../etc", "/keys"), id="source"),
        pytest.param(Mount(f"{SHARED}/keys", "/a/../b"), id="destination"),
        pytest.param(Mount(f"{SHARED}/keys", "/"), id="root"),
        pytest.param(Mount(f"{SHARED}/keys", "keys"), id="relative"),
    ],
)
def test_crooked_mounts_are_refused(mount: Mount) -> None:
    with pytest.raises(RefusedError):
        make_plan(spec(mounts=(mount,)), HookSettings())


def test_sealed_variables_are_refused_unless_the_image_wants_files() -> None:
    sealed = spec((("A", "plain"), ("PASSWORD", "sealed.x.y.z")))
    with pytest.raises(RefusedError, match="cannot change the environment"):
        make_plan(sealed, HookSettings())
    (variable,) = make_plan(sealed, FILES).variables
    assert (variable.name, variable.sealed) == ("PASSWORD", "sealed.x.y.z")


@pytest.mark.parametrize(
    ("env", "reason"),
    [
        pytest.param((("a/b", "sealed.x"),), "none of a shell's", id="slash"),
        pytest.param((("env.sh", "sealed.x"),), "none of a shell's", id="our-own-file"),
        pytest.param((("..", "sealed.x"),), "none of a shell's", id="parent"),
        pytest.param((("", "sealed.x"),), "none of a shell's", id="empty"),
        pytest.param((("A", "sealed.x"), ("A", "plain")), "given twice", id="twice"),
        pytest.param(tuple((f"A{n}", "sealed.x") for n in range(65)), "more than 64", id="many"),
    ],
)
def test_variables_that_make_no_file_are_refused(
    env: tuple[tuple[str, str], ...], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason):
        make_plan(spec(env), FILES)


def test_a_bucket_is_asked_for_by_annotation() -> None:
    (mount,) = make_plan(annotated(), HookSettings()).oss_mounts
    assert (mount.name, mount.target) == ("data", "/mnt/data")
    assert mount.options == {"bucket": "b", "akId": "sealed.x"}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        pytest.param("Data", OSS, "a name has", id="name"),
        pytest.param("../x", OSS, "a name has", id="name-path"),
        pytest.param("", OSS, "a name has", id="no-name"),
        pytest.param("d", "nothing", "not JSON", id="no-json"),
        pytest.param("d", [], "not an object", id="list"),
        pytest.param("d", OSS | {"readonly": True}, "readonly: expected a string", id="boolean"),
        pytest.param("d", {"bucket": "b"}, "target: expected", id="no-target"),
        pytest.param("d", OSS | {"target": "mnt/x"}, "target: expected", id="relative"),
        pytest.param("d", OSS | {"target": "/mnt/../etc"}, "target: expected", id="parent"),
        pytest.param("d", OSS | {"target": "/usr/lib"}, "not below /mnt", id="outside"),
        pytest.param("d", OSS | {"target": "/mnt"}, "not below /mnt", id="root-itself"),
        pytest.param("d", "x" * 70_000, "longer than", id="long"),
    ],
)
def test_hostile_annotations_are_refused(name: str, value: Any, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        make_plan(annotated(value, name), HookSettings())


def test_an_image_can_allow_no_bucket_at_all() -> None:
    with pytest.raises(RefusedError, match="not below any place"):
        make_plan(annotated(), HookSettings(oss_targets=()))


def test_only_so_many_buckets() -> None:
    many = spec(annotations={f"{OSS_ANNOTATION}d{n}": json.dumps(OSS) for n in range(9)})
    with pytest.raises(RefusedError, match="more than 8"):
        make_plan(many, HookSettings())


@pytest.mark.parametrize(
    "mark",
    [
        {"io.kubernetes.cri.container-type": "sandbox"},
        {"io.kubernetes.cri-o.ContainerType": "sandbox"},
    ],
)
def test_a_pause_container_gets_no_bucket(mark: dict[str, str]) -> None:
    assert make_plan(annotated("junk", **mark), HookSettings()).is_empty()


def test_a_bucket_can_be_for_one_container_of_the_pod() -> None:
    key = "io.kubernetes.cri.container-name"
    for_web = OSS | {"container": "web"}
    assert make_plan(annotated(for_web, **{key: "web"}), HookSettings()).oss_mounts
    assert not make_plan(annotated(for_web, **{key: "sidecar"}), HookSettings()).oss_mounts
    with pytest.raises(RefusedError, match="name is not known"):
        make_plan(annotated(for_web), HookSettings())


def test_options_pass_to_the_hub_unjudged() -> None:
    mount, container = parse_oss_mount("d", json.dumps(OSS | {"url": "ftp://x"}), ("/mnt",))
    assert mount.options["url"] == "ftp://x"
    assert container is None


def test_a_root_elsewhere_is_refused_if_there_is_work() -> None:
    elsewhere = ContainerSpec("/", (), (), {})
    assert make_plan(elsewhere, HookSettings()).is_empty()
    with pytest.raises(RefusedError, match="root of the container"):
        make_plan(ContainerSpec("/", (("A", "sealed.x"),), (), {}), FILES)


def test_a_mount_inside_a_sealed_volume_is_refused() -> None:
    volume = Mount(f"{SHARED}/keys", "/keys/")
    check_alone(volume, (volume, Mount("tmpfs", "/keysuffix"), Mount("tmpfs", "/")))
    with pytest.raises(RefusedError, match="/keys/sub inside it"):
        check_alone(volume, (volume, Mount("tmpfs", "/keys/sub")))


TARGETS = st.lists(st.sampled_from(["", ".", "..", "mnt", "etc", "a b", "\n", "x"])).map("/".join)


@given(st.text(max_size=40) | st.dictionaries(st.sampled_from(["target", "container", "x"]),
                                              TARGETS | st.integers()).map(json.dumps))  # fmt: skip
def test_no_annotation_reaches_a_place_that_is_not_allowed(text: str) -> None:
    try:
        mount, _ = parse_oss_mount("data", text, ("/mnt", "/x/"))
    except RefusedError:
        return
    assert mount.target.startswith(("/mnt/", "/x/"))
    assert ".." not in mount.target.split("/")
    assert "target" not in mount.options


@given(st.dictionaries(st.sampled_from(["environment", "bundle_roots", "oss_root", "other"]),
                       st.text(max_size=8) | st.integers() | st.lists(TARGETS)))  # fmt: skip
def test_no_table_makes_settings_with_crooked_paths(table: dict[str, object]) -> None:
    try:
        settings = parse_settings(table, "hooks.toml")
    except HookSettingsError:
        return
    assert settings.environment in ("refuse", "files")
    for path in (settings.oss_root, *settings.bundle_roots):
        assert path.startswith("/")
        assert ".." not in path.split("/")
