"""What a mount process is told: one JSON document, written to a pipe and nowhere else.

The other end is ``python -m ossmount``; its documentation states the same form. This module only
writes it, so that the hub does not import the mount process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from cdh.errors import MountCredentialsError, MountRefusedError
from cdh.mounts.spec import MountSpec
from secrecy import Secret, SecretEncodingError

VERSION: Final = 1
MAX_BYTES: Final = 64 * 1024  # what the other end reads, and what an empty pipe takes at once
DEFAULT_ATTRIBUTE_SECONDS: Final = 10.0  # changes made elsewhere show after this long


@dataclass(frozen=True, slots=True)
class OssCredentials:
    """An access key pair, unsealed. Kept for as long as the mount may have to be restarted."""

    access_key_id: Secret
    access_key_secret: Secret

    @classmethod
    def check(cls, access_key_id: Secret, access_key_secret: Secret) -> OssCredentials:
        """Drop a trailing line end and check the form. Raises :class:`MountCredentialsError`."""
        return cls(_checked("akId", access_key_id), _checked("akSecret", access_key_secret))

    def wipe(self) -> None:
        self.access_key_id.wipe()
        self.access_key_secret.wipe()


def _checked(option: str, key: Secret) -> Secret:
    try:
        text = key.reveal_text().rstrip("\r\n")
    except SecretEncodingError as error:
        raise MountCredentialsError(option, "the unsealed value is not text") from error
    if not text or len(text) > 256 or not text.isascii() or not text.isprintable() or " " in text:
        raise MountCredentialsError(
            option,
            "the value is not an access key: up to 256 visible ASCII characters",
            hint="see what the resource behind the sealed secret holds",
        )
    return Secret(text)


@dataclass(frozen=True, slots=True)
class Launch:
    """A mount that is about to be made: what was granted, the keys, and this guest's settings."""

    spec: MountSpec
    credentials: OssCredentials
    ca_pem: str | None
    memory_bytes: int

    @property
    def fs_name(self) -> str:
        """The source shown in the mount table; the supervisor knows its own mounts by it."""
        return f"oss-{self.spec.bucket}"

    def encode(self) -> Secret:
        """Return the document. Raises :class:`MountRefusedError` if it exceeds 64 KiB."""
        spec, options = self.spec, self.spec.options
        seconds = options.attribute_seconds
        document = {
            "version": VERSION,
            "mount_point": spec.mount_point,
            "bucket": spec.bucket,
            "prefix": spec.prefix,
            "endpoint": spec.endpoint.url,
            "region": spec.region,
            "signature": spec.signature,
            "access_key_id": self.credentials.access_key_id.reveal_text(),
            "access_key_secret": self.credentials.access_key_secret.reveal_text(),
            "security_token": None,
            "read_only": spec.read_only,
            "allow_other": options.allow_other,
            "uid": options.uid,
            "gid": options.gid,
            "umask": options.umask,
            "mp_umask": options.mp_umask,
            "ca_pem": self.ca_pem,
            "path_style": spec.path_style,
            "attribute_seconds": DEFAULT_ATTRIBUTE_SECONDS if seconds is None else seconds,
            "memory_bytes": self.memory_bytes,
            "fs_name": self.fs_name,
        }
        encoded = msgspec.json.encode(document)
        if len(encoded) > MAX_BYTES:
            raise MountRefusedError(
                "launch document", f"longer than {MAX_BYTES} bytes", hint="shorten mounts.ca_file"
            )
        return Secret(encoded)
