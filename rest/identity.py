"""From what the kernel and kata-agent wrote down to who a process is. Parsing only.

``/proc/PID/cgroup`` (cgroups(7)) names the control groups; a container's id is part of their
path, in a form that depends on the cgroup driver and on who named the container. The bundle's
``config.json`` (OCI runtime specification) has the annotations. No I/O, nothing is believed yet:
:mod:`rest.peer` checks, :mod:`rest.rules` decides.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from rest.errors import CallerUnknownError

MAX_CGROUP_TEXT: Final = 64 * 1024  # bytes; a page for each of the dozen hierarchies of v1
MAX_HIERARCHIES: Final = 64
MAX_COMPONENTS: Final = 64  # of one path; a pod's has about five
MAX_BUNDLE_CONFIG: Final = 4 * 1024 * 1024  # bytes; what fits into a ttRPC message to the agent
MAX_ATTRIBUTE: Final = 1024  # characters of an annotation that rules look at

# kata-agent, src/rpc.rs: what it takes for a container's id.
CONTAINER_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,127}", re.ASCII)
_GENERATED_ID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
# The scope's prefix is the second part of a cgroupsPath slice:prefix:name (systemd driver);
# CRI-O puts its own in front with the cgroupfs driver as well.
_PREFIXES: Final = ("cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-", "kata-")
_SCOPE: Final = ".scope"
_DELETED: Final = " (deleted)"  # cgroups(7): the group was removed under a zombie

# Attributes by the annotations of containerd's CRI plugin and of CRI-O.
_ANNOTATIONS: Final[dict[str, tuple[str, str]]] = {
    "container": ("io.kubernetes.cri.container-name", "io.kubernetes.container.name"),
    "namespace": ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"),
    "pod": ("io.kubernetes.cri.sandbox-name", "io.kubernetes.pod.name"),
    "pod_uid": ("io.kubernetes.cri.sandbox-uid", "io.kubernetes.pod.uid"),
    "image": ("io.kubernetes.cri.image-name", "io.kubernetes.cri-o.ImageName"),
}


@dataclass(frozen=True, slots=True)
class Container:
    """A container by its id and its annotations. The annotations come from the host."""

    id: str
    annotations: Mapping[str, str] = field(default_factory=dict)

    def attribute(self, name: str) -> str | None:
        """Return an attribute that rules know by name; None if absent, too long or ambiguous."""
        values = {self.annotation(key) for key in _ANNOTATIONS[name] if key in self.annotations}
        return values.pop() if len(values) == 1 else None

    def annotation(self, key: str) -> str | None:
        value = self.annotations.get(key)
        return value if value is None or len(value) <= MAX_ATTRIBUTE else None

    def __str__(self) -> str:
        names = [self.attribute(name) for name in ("namespace", "pod", "container")]
        known = "/".join(name for name in names if name)
        return f"container {self.id[:64]} ({known[:200]})" if known else f"container {self.id[:64]}"


ATTRIBUTES: Final = tuple(_ANNOTATIONS)


def cgroup_paths(text: str) -> tuple[tuple[str, ...], ...]:
    """Return the path of each hierarchy as components, ``()`` for the root.

    Raises :class:`CallerUnknownError` for anything that is not as in cgroups(7), for a path
    outside of this process' cgroup namespace and for a removed group.
    """
    # Not splitlines(): a group's name may hold every other character that ends a line somewhere.
    lines = text.removesuffix("\n").split("\n")
    if len(lines) > MAX_HIERARCHIES or len(text) > MAX_CGROUP_TEXT:
        raise CallerUnknownError("its list of control groups has an unknown form")
    return tuple(_components(line) for line in lines)


def _components(line: str) -> tuple[str, ...]:
    fields = line.split(":", 2)
    if len(fields) != 3 or not fields[0].isdecimal() or not fields[2].startswith("/"):
        raise CallerUnknownError("a line of its list of control groups has an unknown form")
    if fields[2].endswith(_DELETED):
        raise CallerUnknownError("its control group was removed")
    components = tuple(part for part in fields[2].split("/") if part)
    if ".." in components or "." in components or len(components) > MAX_COMPONENTS:
        raise CallerUnknownError("its control group is outside of this guest's")
    return components


def container_id(
    paths: tuple[tuple[str, ...], ...], has_bundle: Callable[[str], bool]
) -> str | None:
    """Return the id of the one container that the paths lead into, None if they name none.

    Every component of every hierarchy is looked at. A container may make groups of any name
    below its own, and the host chooses where a container's group is, so no place in the path is
    more to be believed than another: two containers in one path are nobody. Ids without a bundle
    are of containers inside a container (kata-agent does not know them).

    Raises :class:`CallerUnknownError` for two, and for an id that no bundle belongs to.
    """
    names = {name for path in paths for part in path for name in _possible_ids(part)}
    known = {name for name in names if has_bundle(name)}
    if len(known) > 1:
        raise CallerUnknownError("its control groups name more than one container")
    if known:
        return known.pop()
    if any(_GENERATED_ID.fullmatch(name) for name in names):
        raise CallerUnknownError("its control groups name a container that has no bundle")
    return None


def _possible_ids(component: str) -> list[str]:
    base = component.removesuffix(_SCOPE)
    names = [base, *(base.removeprefix(p) for p in _PREFIXES if base.startswith(p))]
    return [name for name in names if CONTAINER_NAME.fullmatch(name)]


class _BundleConfig(msgspec.Struct):
    """The one member of config.json that matters here."""

    annotations: dict[str, str] = msgspec.field(default_factory=dict)


def bundle_annotations(data: bytes) -> Mapping[str, str]:
    """Return the annotations of a bundle's ``config.json``.

    Raises :class:`CallerUnknownError` if it is too long, nested too deep or of another form.
    """
    if len(data) > MAX_BUNDLE_CONFIG:
        raise CallerUnknownError("its container's config.json is too long")
    try:
        return msgspec.json.decode(data, type=_BundleConfig).annotations
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallerUnknownError("its container's config.json cannot be read") from error
