"""What the hub refuses or fails at.

``CdhError`` is the base of everything raised here; errors of the key broker keep their own tree
(``kbs.KbsError``) and pass through. No message holds a secret or more than a bounded piece of
what a peer sent.

    CdhError
    |- ConfigurationRefusedError   a setting names something that is absent here
    |- KbsNotConfiguredError       a resource is asked for and no key broker is configured
    |- CredentialFileError         a resource was not put into its file
    |- OfflineFileError            a file of offline_fs_kbc cannot be used
    |- OfflineResourceError        no such resource in those files
    |- SecretPolicyError           the configuration does not let this guest open it
    |- AgentError                  the attestation agent did not give a session
    |  |- AgentUnreachableError
    |  `- AgentRefusedError
    |- SealedSecretError           a sealed secret was not opened
    |  |- SealedFormatError        not the textual form, or not the JSON inside
    |  |- SealedAlgorithmError     another signature algorithm than ES256
    |  |- SealedKeyError           the signing key cannot be had or is not a P-256 key
    |  |- SealedSignatureError     the signature does not hold
    |  |- SealedContentError       the content does not open with its data key
    |  `- SealedKmsError           the key management service did not help
    |- UnrecordedError             receipts are required and cannot be written
    `- MountError                  a mount was not made or not removed
       |- MountRefusedError        an option, flag or type that is not accepted, by name
       |- MountPointError          the place is absent, busy, outside or not a directory
       |- MountCredentialsError    the keys are unusable
       |- MountFailedError         the mount process says why, or died
       |- MountNotFoundError       nothing of ours is mounted there
       `- MountTableError          /proc/self/mountinfo cannot be read or understood
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kms import KmsError, KmsRefusedError, KmsRequestError

MAX_PEER_TEXT: Final = 200  # characters of somebody else's text in one of our messages


def bounded(text: str, limit: int = MAX_PEER_TEXT) -> str:
    """Return ``text`` as one printable line of at most ``limit`` characters."""
    line = "".join(char if char.isprintable() else "?" for char in text[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "…"


class CdhError(Exception):
    """Base of all errors of this package. ``hint`` says what can be done about it."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        self.hint = hint
        super().__init__(f"{message} ({hint})" if hint else message)


class ConfigurationRefusedError(CdhError):
    """A setting asks for something this hub does not have."""

    def __init__(self, key: str, problem: str, *, hint: str = "") -> None:
        self.key = key
        super().__init__(f"configuration key {bounded(key)}: {problem}", hint=hint)


class CredentialFileError(CdhError):
    """A resource was not put into its file at ``path``."""

    def __init__(self, path: str, problem: str) -> None:
        self.path = bounded(path)
        super().__init__(
            f"writing credential file {self.path}: {problem}",
            hint="it has to be on tmpfs, in directories that are not symbolic links",
        )


class OfflineFileError(CdhError):
    """A file of ``offline_fs_kbc`` is there and cannot be used."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"offline resources {bounded(str(path))}: {problem}",
            hint='expected {"repository/type/tag": "base64", ...}',
        )


class OfflineResourceError(CdhError):
    """The files of ``offline_fs_kbc`` have no such resource."""

    def __init__(self, resource: str) -> None:
        super().__init__(
            f"fetching {bounded(resource)}: not in the offline resource files",
            hint="kbc.name is offline_fs_kbc, so no key broker is asked; see kbc.offline_files",
        )


class KbsNotConfiguredError(CdhError):
    """No key broker is configured, so there is nobody to ask for ``resource``."""

    def __init__(self, resource: str) -> None:
        self.resource = resource
        super().__init__(
            f"fetching {bounded(resource)}: no key broker is configured",
            hint="set kbc.url in cdh.toml, or agent.aa_kbc_params=cc_kbc::URL",
        )


class SecretPolicyError(CdhError):
    """The allow-list ``secrets.<key>`` does not name what was asked for; nobody was asked."""

    def __init__(self, key: str, named: str) -> None:
        self.key = f"secrets.{key}"
        super().__init__(
            f"{self.key} does not name {bounded(named)!r}",
            hint=f"add a rule to {self.key} of the hub's configuration if this guest may open it",
        )


class AgentError(CdhError):
    """The attestation agent did not give a session."""


class AgentUnreachableError(AgentError):
    """Nobody answers on the agent's socket, or not in time."""

    def __init__(self, socket: str, problem: str) -> None:
        self.socket = socket
        super().__init__(
            f"asking the attestation agent at {socket} for a session: {bounded(problem)}",
            hint="start attestation-agent, or correct aa.aa_socket",
        )


class AgentRefusedError(AgentError):
    """The agent answered with an error; ``detail`` is its text, cut.

    ``refused`` says whether the key broker said no, as opposed to a failure on the way.
    """

    def __init__(self, socket: str, detail: str, *, refused: bool = False) -> None:
        self.socket = socket
        self.refused = refused
        self.detail = bounded(detail, 400)
        super().__init__(
            f"asking the attestation agent at {socket} for a session: it answered: {self.detail}"
        )


class SealedSecretError(CdhError):
    """A sealed secret was not opened."""


class SealedFormatError(SealedSecretError):
    """Part ``part`` is not what the format says; the content is never shown."""

    def __init__(self, part: str, problem: str, *, hint: str = "") -> None:
        self.part = part
        super().__init__(f"sealed secret, {part}: {problem}", hint=hint)


class SealedAlgorithmError(SealedSecretError):
    """The protected header names another algorithm than ES256."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = bounded(algorithm, 32)
        super().__init__(
            f"sealed secret, protected header: alg is {self.algorithm!r}, expected 'ES256'",
            hint="seal it again with a P-256 key",
        )


class SealedKeyError(SealedSecretError):
    """The signing key named by ``kid`` cannot be had or is not a P-256 JWK."""

    def __init__(self, kid: str, problem: str, *, hint: str = "") -> None:
        self.kid = bounded(kid)
        super().__init__(f"sealed secret, signing key {self.kid!r}: {problem}", hint=hint)


class SealedSignatureError(SealedSecretError):
    """The signature does not hold under the key ``kid`` names."""

    def __init__(self, kid: str, problem: str) -> None:
        self.kid = bounded(kid)
        super().__init__(
            f"sealed secret, signature under key {self.kid!r}: {problem}",
            hint="the text was changed, or sealed with another key than the one kid names",
        )


class SealedContentError(SealedSecretError):
    """The content of an envelope does not open with its data key."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"sealed secret, content: {problem}", hint="seal it again under the key of key_id"
        )


class SealedKmsError(SealedSecretError):
    """The key management service of a secret of type ``layout`` did not help; ``cause`` says why.

    ``refused``: it, or the settings of the secret, said no; another attempt ends the same.
    """

    def __init__(self, layout: str, cause: KmsError) -> None:
        self.layout = layout
        self.refused = (
            cause.decided
            if isinstance(cause, KmsRefusedError)
            else isinstance(cause, KmsRequestError)
        )
        super().__init__(f"sealed secret of type {layout}: {cause}")


class MountError(CdhError):
    """A mount was not made, or not removed."""


class MountRefusedError(MountError):
    """Something the request asks for is not accepted; ``name`` says what."""

    def __init__(self, name: str, problem: str, *, hint: str = "") -> None:
        self.name = bounded(name, 64)
        super().__init__(f"secure mount, {self.name}: {problem}", hint=hint)


class MountPointError(MountError):
    """The place to mount at cannot be used."""

    def __init__(self, mount_point: str, problem: str, *, hint: str = "") -> None:
        self.mount_point = bounded(mount_point)
        super().__init__(f"mount point {self.mount_point}: {problem}", hint=hint)


class MountCredentialsError(MountError):
    """The value of ``option`` is unusable as a key. The value is never shown."""

    def __init__(self, option: str, problem: str, *, hint: str = "") -> None:
        self.option = option
        super().__init__(f"secure mount, {option}: {problem}", hint=hint)


class MountFailedError(MountError):
    """The mount process reported ``kind``, died, or was not confirmed by the mount table."""

    def __init__(self, mount_point: str, kind: str, problem: str, *, hint: str = "") -> None:
        self.mount_point = bounded(mount_point)
        self.kind = bounded(kind, 32)
        super().__init__(
            f"mounting at {self.mount_point} failed ({self.kind}): {bounded(problem, 400)}",
            hint=bounded(hint),
        )


class MountNotFoundError(MountError):
    """Nothing of ours is mounted at ``mount_point``."""

    def __init__(self, mount_point: str) -> None:
        self.mount_point = bounded(mount_point)
        super().__init__(
            f"mount point {self.mount_point}: no secure mount of this hub",
            hint="list the mounts to see what there is",
        )


class MountTableError(MountError):
    """The mount table cannot be read or understood; never taken for "not mounted"."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"reading the mount table /proc/self/mountinfo: {problem}")


class UnrecordedError(CdhError):
    """Something went well, but its receipt cannot be written, so nobody gets it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"recording what was given: {reason}",
            hint="receipts.required is set: nothing is given without a receipt",
        )
