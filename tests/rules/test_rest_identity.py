"""Which container a process is in, from the texts of procfs and of bundles; hostile ones too."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.errors import CallerUnknownError
from rest.identity import (
    MAX_ATTRIBUTE,
    MAX_BUNDLE_CONFIG,
    Container,
    bundle_annotations,
    cgroup_paths,
    container_id,
)

A, B, UNKNOWN = "a" * 64, "b" * 64, "c" * 64
BUNDLES = {A, B, "web-1", "db"}
POD = "0f5e7a3c-9d1b-4e6f-8a2c-1234567890ab"
SLICE = f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{POD}.slice"
V1 = "12:pids:{0}\n11:memory:{0}\n3:cpu,cpuacct:{0}\n1:name=systemd:{0}\n0::/"


def identify(text: str) -> str | None:
    return container_id(cgroup_paths(text), BUNDLES.__contains__)


@pytest.mark.parametrize(
    ("text", "container"),
    [
        pytest.param(f"0::/{A}", A, id="agent without a path: id at the root"),
        pytest.param(f"0::/kubepods/besteffort/pod{POD}/{A}", A, id="v2 cgroupfs"),
        pytest.param(f"0::/kubepods/pod{POD}/{A}\n", A, id="v2 cgroupfs guaranteed"),
        pytest.param(f"0::/{SLICE}/cri-containerd-{A}.scope", A, id="v2 systemd containerd"),
        pytest.param(f"0::/{SLICE}/crio-{A}.scope", A, id="v2 systemd cri-o"),
        pytest.param(f"0::/kubepods/besteffort/pod{POD}/crio-{A}", A, id="v2 cgroupfs cri-o"),
        pytest.param(f"0::/system.slice/docker-{A}.scope", A, id="v2 systemd docker"),
        pytest.param(f"0::/machine.slice/libpod-{A}.scope/container", A, id="v2 podman, below"),
        pytest.param(V1.format(f"/kubepods/burstable/pod{POD}/{A}"), A, id="v1 cgroupfs"),
        pytest.param(V1.format(f"/{SLICE}/cri-containerd-{A}.scope"), A, id="v1 systemd"),
        pytest.param(f"1:name=systemd:/\n0::/{A}", A, id="hybrid: one hierarchy is enough"),
        pytest.param("0::/web-1", "web-1", id="a name of ctr"),
        pytest.param("0::/default/web-1", "web-1", id="a name in a namespace"),
        pytest.param(f"0::/{A}/docker/{UNKNOWN}", A, id="nested: docker in the container"),
        pytest.param(f"0::/{A}/init.scope", A, id="nested: systemd in the container"),
        pytest.param("0::/", None, id="root"),
        pytest.param(V1.format("/"), None, id="v1 root"),
        pytest.param("0::/system.slice/cguestd.service", None, id="a service"),
        pytest.param("0::/user.slice/x-1.scope", None, id="a scope that only ends like a name"),
        pytest.param(f"0::/{A[:-1]}", None, id="too short for an id"),
        pytest.param(f"0::/{A.upper()}", None, id="upper case is another name"),
        pytest.param("0::/a:b:c", None, id="colons in a path"),
        pytest.param(f"0::/{A}/x\x0b0::\x85\u2028/y", A, id="other line ends in a path"),
    ],
)
def test_forms(text: str, container: str | None) -> None:
    assert identify(text) == container


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "unknown form", id="empty"),
        pytest.param("0:/x", "unknown form", id="two fields"),
        pytest.param("x::/", "unknown form", id="no number"),
        pytest.param("0::x", "unknown form", id="relative"),
        pytest.param("0::/\n\n", "unknown form", id="empty line"),
        pytest.param("0::/\n" * 65, "unknown form", id="many lines"),
        pytest.param("0::/" + "x" * 70000, "unknown form", id="long"),
        pytest.param("0::" + "/x" * 65, "outside", id="deep"),
        pytest.param(f"0::/../{A}", "outside", id="outside of the namespace"),
        pytest.param(f"0::/{A}/../{B}", "outside", id="dots"),
        pytest.param(f"0::/{A} (deleted)", "removed", id="deleted"),
        pytest.param(f"0::/{UNKNOWN}", "no bundle", id="an id that nobody knows"),
        pytest.param(f"0::/{A}/{B}", "more than one", id="below another container"),
        pytest.param(f"0::/{A}/cri-containerd-{B}.scope", "more than one", id="as a scope below"),
        pytest.param(f"2:pids:/{A}\n1:cpu:/{B}", "more than one", id="hierarchies disagree"),
        pytest.param("0::/web-1/db", "more than one", id="two names"),
    ],
)
def test_what_is_unclear_is_nobody(text: str, problem: str) -> None:
    with pytest.raises(CallerUnknownError, match=problem):
        identify(text)


component = st.text(st.characters(blacklist_characters="/\n\0"), min_size=1, max_size=80)


@given(st.text(max_size=500))
def test_arbitrary_texts_are_known_unknown_or_none(text: str) -> None:
    try:
        found = identify(text)
    except CallerUnknownError:
        return
    assert found is None or found in BUNDLES


@given(st.lists(component, max_size=20))
def test_below_its_own_group_a_container_is_itself_or_nobody(below: list[str]) -> None:
    try:
        found = identify(f"0::/{A}/" + "/".join(below))
    except CallerUnknownError:
        return
    assert found == A


CRI = {
    "io.kubernetes.cri.container-name": "server",
    "io.kubernetes.cri.sandbox-namespace": "prod",
    "io.kubernetes.cri.sandbox-name": "pod-7",
    "io.kubernetes.cri.sandbox-uid": POD,
    "io.kubernetes.cri.image-name": "registry.example/m@sha256:00",
}
CRIO = {
    "io.kubernetes.container.name": "server",
    "io.kubernetes.pod.namespace": "prod",
    "io.kubernetes.pod.name": "pod-7",
    "io.kubernetes.pod.uid": POD,
    "io.kubernetes.cri-o.ImageName": "registry.example/m@sha256:00",
}


@pytest.mark.parametrize("annotations", [CRI, CRIO, {**CRI, **CRIO}], ids=["cri", "cri-o", "both"])
def test_attributes(annotations: dict[str, str]) -> None:
    container = Container(A, annotations)
    assert container.attribute("container") == "server"
    assert container.attribute("namespace") == "prod"
    assert container.attribute("pod") == "pod-7"
    assert container.attribute("pod_uid") == POD
    assert container.attribute("image") == "registry.example/m@sha256:00"
    assert str(container) == f"container {A} (prod/pod-7/server)"


def test_attributes_that_contradict_or_never_end_are_absent() -> None:
    both = {**CRI, "io.kubernetes.container.name": "other"}
    assert Container(A, both).attribute("container") is None
    long = {"io.kubernetes.cri.container-name": "x" * (MAX_ATTRIBUTE + 1)}
    assert Container(A, long).attribute("container") is None
    assert Container(A).attribute("image") is None


def test_annotations_of_a_bundle() -> None:
    config = {"ociVersion": "1.1.0", "process": {"args": ["x"]}, "annotations": CRI}
    assert bundle_annotations(json.dumps(config).encode()) == CRI
    assert bundle_annotations(b"{}") == {}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"\xff{}", id="not utf-8"),
        pytest.param(b'{"annotations": {"a": 1}}', id="a number"),
        pytest.param(b'{"annotations": []}', id="annotations are a list"),
        pytest.param(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="deep"),
        pytest.param(b'{"annotations": {}}' + b" " * MAX_BUNDLE_CONFIG, id="long"),
    ],
)
def test_hostile_bundles_are_refused(data: bytes) -> None:
    with pytest.raises(CallerUnknownError, match=r"config\.json"):
        bundle_annotations(data)


@given(st.binary(max_size=300))
def test_arbitrary_bundles(data: bytes) -> None:
    with contextlib.suppress(CallerUnknownError):
        assert isinstance(bundle_annotations(data), dict)
