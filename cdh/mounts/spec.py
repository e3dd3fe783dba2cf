"""What a SecureMount request of type ``alibaba-cloud-oss`` asks for, parsed and judged.

No I/O. Every key is known here or refused by name; secrets are still sealed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cdh.errors import MountRefusedError
from cdh.mounts.endpoint import Endpoint, admit_endpoint, parse_endpoint
from cdh.mounts.mountpoint import check_mount_point
from cdh.mounts.options import MountOptions, parse_options
from cdh.sealed.textual import MAX_BYTES, is_sealed
from secrecy import Secret

OSS: Final = "alibaba-cloud-oss"
MAX_VALUE: Final = 4096  # characters of an option that is not a sealed secret
MAX_PREFIX: Final = 1000  # bytes; object keys end at 1023
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", re.ASCII)
_REQUIRED: Final = ("akId", "akSecret", "bucket", "path", "url", "otherOpts")
# The reference requires the first three and reads none of the five.
_UNREAD: Final = ("readonly", "targetPath", "volumeId", "kmsKeyId", "annotations")
_KNOWN: Final = frozenset((*_REQUIRED, *_UNREAD, "encrypted", "encPasswd"))
_READONLY: Final = {"": False, "false": False, "0": False, "no": False} | dict.fromkeys(
    ("true", "1", "yes"), True
)


@dataclass(frozen=True, slots=True)
class MountRequest:
    """A request as it arrived, nothing of it trusted."""

    volume_type: str
    options: Mapping[str, str]
    flags: Sequence[str]
    mount_point: str


@dataclass(frozen=True, slots=True)
class MountPolicy:
    """What the configuration says about mounts. Endpoints are ``host`` or ``host:port``."""

    allowed_roots: tuple[str, ...]
    endpoints: frozenset[str] = frozenset()
    allow_http: bool = False


@dataclass(frozen=True, slots=True)
class MountSpec:
    """A mount that may be made. The two keys are as given: sealed, or plain."""

    mount_point: str
    bucket: str
    prefix: str
    endpoint: Endpoint
    region: str | None
    signature: str
    read_only: bool
    path_style: bool
    options: MountOptions
    access_key_id: Secret
    access_key_secret: Secret
    volume_id: str
    absent_keys: tuple[str, ...]

    @classmethod
    def parse(cls, request: MountRequest, policy: MountPolicy) -> MountSpec:
        """Judge ``request``. Raises :class:`~cdh.errors.MountError` naming what is refused."""
        options = request.options
        _check_type(request.volume_type)
        _check_keys(options)
        _check_encryption(options)
        mount_point = check_mount_point(request.mount_point, policy.allowed_roots)
        bucket = _bucket(options["bucket"])
        endpoint = parse_endpoint(options["url"])
        admit_endpoint(endpoint, policy.endpoints, allow_http=policy.allow_http)
        if endpoint.host.startswith(f"{bucket}."):
            raise MountRefusedError("url", "contains the bucket", hint="give the endpoint only")
        extra = parse_options(options["otherOpts"], request.flags)
        region = extra.region or endpoint.region
        return cls(
            mount_point=mount_point,
            bucket=bucket,
            prefix=_prefix(options["path"]),
            endpoint=endpoint,
            region=region,
            signature=_signature(extra, region),
            read_only=extra.read_only or _read_only(options.get("readonly", "")),
            path_style=extra.path_style or endpoint.needs_path_style,
            options=extra,
            access_key_id=_key("akId", options["akId"]),
            access_key_secret=_key("akSecret", options["akSecret"]),
            volume_id=options.get("volumeId", "")[:128],
            absent_keys=tuple(key for key in _UNREAD[:3] if key not in options),
        )


def _check_type(volume_type: str) -> None:
    if volume_type == OSS:
        return
    if volume_type == "block-device":
        raise MountRefusedError(
            "volume_type block-device",
            "absent in this implementation",
            hint=f"available: {OSS}",
        )
    raise MountRefusedError(f"volume_type {volume_type}", "unknown", hint=f"available: {OSS}")


def _check_keys(options: Mapping[str, str]) -> None:
    for key, value in options.items():
        if key not in _KNOWN:
            raise MountRefusedError(
                f"option {key}", "unknown", hint=f"known: {', '.join(sorted(_KNOWN))}"
            )
        limit = MAX_BYTES if is_sealed(value) else MAX_VALUE
        if len(value) > limit:
            raise MountRefusedError(f"option {key}", f"longer than {limit} characters")
    for key in _REQUIRED:
        if key not in options:
            raise MountRefusedError(f"option {key}", "required and missing")


def _check_encryption(options: Mapping[str, str]) -> None:
    """Refuse what would mount in plain what was meant to be encrypted."""
    encrypted = options.get("encrypted", "")
    if encrypted:
        raise MountRefusedError(
            f"option encrypted={encrypted[:32]}", "client-side encryption is absent here"
        )
    if options.get("encPasswd", ""):
        raise MountRefusedError(
            "option encPasswd",
            "given while encrypted is empty: the mount would be in plain",
            hint="somebody may have cleared encrypted; remove encPasswd if plain is meant",
        )


def _bucket(name: str) -> str:
    if not _BUCKET.fullmatch(name):
        raise MountRefusedError(
            "option bucket", "not a bucket name: 3 to 63 of a-z, 0-9 and inner hyphens"
        )
    return name


def _prefix(path: str) -> str:
    """Return the key prefix for ``path``: empty, or without leading and with trailing slash."""
    if path in ("", "/"):
        return ""
    if not path.startswith("/"):
        raise MountRefusedError("option path", "neither empty nor starting with '/'")
    parts = path.strip("/").split("/")
    if path.startswith(("//", "/\\")) or any(part in ("", ".", "..") for part in parts):
        raise MountRefusedError(
            "option path", "contains an empty, '.' or '..' component, or begins with a backslash"
        )
    if not path.isprintable() or len(path.encode()) > MAX_PREFIX:
        raise MountRefusedError(
            "option path", f"longer than {MAX_PREFIX} bytes or with control characters"
        )
    return "/".join(parts) + "/"


def _read_only(text: str) -> bool:
    """Read ``readonly``. What is neither yes nor no is refused: guessing could allow writes."""
    known = _READONLY.get(text.strip().lower())
    if known is None:
        raise MountRefusedError("option readonly", "expected true, 1, yes, false, 0, no or nothing")
    return known


def _signature(options: MountOptions, region: str | None) -> str:
    """Choose the request signature: V4 unless V1 is asked for by name."""
    signature = options.signature or "v4"
    if signature == "v4" and region is None:
        raise MountRefusedError(
            "option region",
            "needed for signature V4 and not part of the endpoint's name",
            hint="add '-o region=cn-hangzhou' to otherOpts, or '-o sigv1' for signature V1",
        )
    return signature


def _key(name: str, value: str) -> Secret:
    if not value:
        raise MountRefusedError(f"option {name}", "empty", hint="give a sealed secret")
    return Secret(value)
