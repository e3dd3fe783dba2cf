"""What a container may need of the hook, decided from its spec and the measured settings. No I/O.

Annotations and sources come from the host, so what they may reach is fixed by the settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from guesthook.errors import RefusedError
from guesthook.settings import FILES, HookSettings
from guesthook.spec import ContainerSpec, Mount
from guesthook.state import is_plain_path
from guesthook.strict_json import Json, StrictJsonError, parse_object

SEALED: Final = "sealed."
OSS_ANNOTATION: Final = "confidential-guest.io/oss-mount."
MAX_OSS_MOUNTS: Final = 8
MAX_ANNOTATION: Final = 64 * 1024  # characters
MAX_SEALED_VARIABLES: Final = 64
# What the runtime makes itself (kata-containers, src/agent/src/rpc.rs); it holds no secrets.
RUNTIME_FILES: Final = ("resolv.conf", "termination-log", "hostname", "hosts", "serviceaccount")
SANDBOX_MARKS: Final = (
    ("io.kubernetes.cri.container-type", "sandbox"),
    ("io.kubernetes.cri-o.ContainerType", "sandbox"),
)
CONTAINER_NAMES: Final = ("io.kubernetes.cri.container-name", "io.kubernetes.container.name")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)
_OSS_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SealedVariable:
    """A variable whose value in the spec is a sealed secret."""

    name: str
    sealed: str


@dataclass(frozen=True, slots=True)
class OssMount:
    """A bucket that an annotation asks for, at ``target`` inside the container."""

    name: str
    target: str
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class Plan:
    """``volumes`` are those that may hold sealed files; only their content tells."""

    variables: tuple[SealedVariable, ...]
    volumes: tuple[Mount, ...]
    oss_mounts: tuple[OssMount, ...]

    def is_empty(self) -> bool:
        return not (self.variables or self.volumes or self.oss_mounts)


def is_below(path: str, roots: Sequence[str]) -> bool:
    """Whether ``path`` is inside one of ``roots``, by name."""
    return any(path.startswith(root.rstrip("/") + "/") for root in roots)


def make_plan(spec: ContainerSpec, settings: HookSettings) -> Plan:
    """Decide. Raises :class:`RefusedError` for what is known now to be impossible."""
    plan = Plan(
        _variables(spec, settings), _volumes(spec.mounts, settings), _oss_mounts(spec, settings)
    )
    rooted = is_plain_path(spec.root) and is_below(spec.root, settings.bundle_roots)
    if not plan.is_empty() and not rooted:
        raise RefusedError("root of the container", "is no plain path below bundle_roots")
    return plan


def check_alone(volume: Mount, mounts: Sequence[Mount]) -> None:
    """Raise :class:`RefusedError` if one of ``mounts`` lies inside ``volume``, whose copy would
    hide it."""
    for mount in mounts:
        if is_below(mount.destination.rstrip("/"), (volume.destination,)):
            raise RefusedError(
                f"volume {volume.destination}",
                f"has sealed files and {mount.destination} inside it",
            )


def _variables(spec: ContainerSpec, settings: HookSettings) -> tuple[SealedVariable, ...]:
    found: dict[str, SealedVariable] = {}
    for name, value in spec.environment:
        if not value.startswith(SEALED):
            continue
        subject = f"environment {name[:128]}"
        if settings.environment != FILES:
            raise RefusedError(
                subject,
                "is sealed, and a hook cannot change the environment of a container; use a file,"
                ' or set environment = "files" in hooks.toml',
            )
        if not _VARIABLE.fullmatch(name):
            raise RefusedError(subject, "is sealed and its name is none of a shell's")
        if sum(1 for other, _ in spec.environment if other == name) > 1:
            raise RefusedError(subject, "is sealed and given twice")
        found[name] = SealedVariable(name, value)
    if len(found) > MAX_SEALED_VARIABLES:
        raise RefusedError("environment", f"more than {MAX_SEALED_VARIABLES} sealed variables")
    return tuple(found.values())


def _volumes(mounts: Sequence[Mount], settings: HookSettings) -> tuple[Mount, ...]:
    found = []
    for mount in mounts:
        if not is_below(mount.source, settings.shared_roots):
            continue
        if mount.source.endswith(RUNTIME_FILES):
            continue
        if not is_plain_path(mount.source) or not is_plain_path(mount.destination.rstrip("/")):
            raise RefusedError(
                f"volume {mount.destination}", "source or destination is not a plain absolute path"
            )
        found.append(mount)
    return tuple(found)


def _oss_mounts(spec: ContainerSpec, settings: HookSettings) -> tuple[OssMount, ...]:
    asked = {
        key.removeprefix(OSS_ANNOTATION): text
        for key, text in spec.annotations.items()
        if key.startswith(OSS_ANNOTATION)
    }
    if not asked or any(spec.annotations.get(key) == value for key, value in SANDBOX_MARKS):
        return ()  # a pod's annotations reach its pause container too, which needs no data
    if len(asked) > MAX_OSS_MOUNTS:
        raise RefusedError("annotations", f"ask for more than {MAX_OSS_MOUNTS} OSS mounts")
    names = {spec.annotations[key] for key in CONTAINER_NAMES if key in spec.annotations}
    found = []
    for name, text in sorted(asked.items()):
        mount, container = parse_oss_mount(name, text, settings.oss_targets)
        if container is not None and not names:
            raise RefusedError(f"oss-mount {name}", "container: this one's name is not known")
        if container is None or container in names:
            found.append(mount)
    return tuple(found)


def parse_oss_mount(
    name: str, text: str, allowed_targets: Sequence[str]
) -> tuple[OssMount, str | None]:
    """Read the annotation ``confidential-guest.io/oss-mount.NAME``: an object of strings.

    ``target`` is the place in the container, ``container`` (optional) the name of the one
    container of the pod that gets it; all else are options of ``alibaba-cloud-oss`` for the hub,
    which judges them. Raises :class:`RefusedError`.
    """
    subject = f"oss-mount {name[:48]}"
    if not _OSS_NAME.fullmatch(name):
        raise RefusedError(subject, "a name has 1 to 48 of a-z, 0-9 and inner hyphens")
    if len(text) > MAX_ANNOTATION:
        raise RefusedError(subject, f"longer than {MAX_ANNOTATION} characters")
    try:
        table: dict[str, Json] = parse_object(text.encode(errors="replace"))
    except StrictJsonError as error:
        raise RefusedError(subject, error.reason) from error
    options: dict[str, str] = {}
    for key, value in table.items():
        if not isinstance(value, str):
            raise RefusedError(subject, f"{key[:32]}: expected a string")
        options[key] = value
    target, container = options.pop("target", ""), options.pop("container", None)
    if not is_plain_path(target):
        raise RefusedError(subject, "target: expected an absolute path in the container")
    if not is_below(target, allowed_targets):
        raise RefusedError(
            subject, f"target is not below {', '.join(allowed_targets) or 'any place'}: oss_targets"
        )
    return OssMount(name, target, options), container
