"""``[[credentials]]``: resources that are wanted as files, fetched after the hub can be asked.

The reference fetches them before it listens, so that a slow attestation ends the guest; here they
appear when they can be had, and whoever needs one waits for its file. Files lie below one
directory in memory, which no symbolic link leads out of. Owns paths, writing and trying again.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cdh.config import Credential
from cdh.errors import CdhError, ConfigurationRefusedError, CredentialFileError, bounded
from cdh.mounts.mountinfo import read_mountinfo
from cdh.resources import ResourceSource
from kbs import HoldOff, HoldOffPolicy, KbsError, ResourceUri
from kbs.errors import HandshakeHeldError
from lifecycle.directories import enter, open_root
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("cdh")

# guest-components confidential-data-hub/hub/src/auth/kbs.rs
CREDENTIALS_ROOT: Final = "/run/confidential-containers/cdh/kbs"
MAX_PATH: Final = 1024
MAX_CREDENTIALS: Final = 64
FILE_MODE: Final = 0o600
DIRECTORY_MODE: Final = 0o700
SHARED_MODE: Final = 0o755  # of the directories above, where sockets lie as well
IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class CredentialStatus:
    """How many files there are, of how many, and why the last attempt at one failed."""

    written: int
    wanted: int
    last_error: str


def check_credentials(credentials: Sequence[Credential], root: str = CREDENTIALS_ROOT) -> None:
    """Judge addresses and paths, by name alone.

    Raises :class:`~cdh.errors.ConfigurationRefusedError`.
    """
    if len(credentials) > MAX_CREDENTIALS:
        raise ConfigurationRefusedError("credentials", f"more than {MAX_CREDENTIALS}")
    paths = [credential.path for credential in credentials]
    if len(set(paths)) < len(paths):
        raise ConfigurationRefusedError("credentials", "a path is given twice")
    for number, credential in enumerate(credentials):
        key = f"credentials[{number}]"
        _segments(key, credential.path, root)
        try:
            ResourceUri.parse(credential.resource_uri).require_resource_path()
        except KbsError as error:
            raise ConfigurationRefusedError(f"{key}.resource_uri", bounded(str(error))) from error


def _segments(key: str, path: str, root: str) -> list[str]:
    inside = path.removeprefix(f"{root}/")
    if inside == path or len(os.fsencode(path)) > MAX_PATH or not path.isprintable():
        raise ConfigurationRefusedError(
            f"{key}.path", "not a path below the directory of credentials", hint=f"{root}/NAME"
        )
    segments = inside.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        raise ConfigurationRefusedError(f"{key}.path", "has an empty, '.' or '..' segment")
    return segments


class CredentialFiles:
    """Fetches each resource once and keeps trying until it has them all."""

    def __init__(
        self,
        credentials: Sequence[Credential],
        resources: ResourceSource,
        *,
        root: str = CREDENTIALS_ROOT,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        hold_off: HoldOffPolicy | None = None,
    ) -> None:
        """Raises :class:`~cdh.errors.ConfigurationRefusedError` for a path or address."""
        check_credentials(credentials, root)
        self._waiting = list(credentials)
        self._wanted = len(credentials)
        self._resources = resources
        self._root = root
        self._sleep = sleep
        self._hold_off = HoldOff(hold_off)
        self._last_error = ""

    @property
    def status(self) -> CredentialStatus:
        """Up to now; ``last_error`` is empty once all files are there."""
        return CredentialStatus(self._wanted - len(self._waiting), self._wanted, self._last_error)

    async def run(self) -> None:
        """Return when every file is there. Failures are said and tried again, with growing pauses.

        Cancellation leaves no half-written file.
        """
        while self._waiting:
            pause = 0.0
            for credential in tuple(self._waiting):
                pause = max(pause, await self._try(credential))
            if self._waiting:
                await self._sleep(max(pause, self._hold_off.remaining))

    async def _try(self, credential: Credential) -> float:
        """Write one file. Return the least number of seconds before the next attempt."""
        try:
            content = await self._resources.get(ResourceUri.parse(credential.resource_uri))
            try:
                await asyncio.to_thread(write_credential, credential.path, content, self._root)
            finally:
                content.wipe()
        except (CdhError, KbsError) as error:
            self._failed(credential, error)
            return error.retry_in if isinstance(error, HandshakeHeldError) else 0.0
        self._waiting.remove(credential)
        self._hold_off.succeeded()
        if not self._waiting:
            self._last_error = ""
        log.info("credential file written", path=credential.path)
        return 0.0

    def _failed(self, credential: Credential, error: Exception) -> None:
        said = bounded(str(error), 400)
        if said != self._last_error:
            log.warning("credential file is not there yet", path=credential.path, cause=said)
        self._last_error = said
        self._hold_off.failed(error)


def write_credential(path: str, content: Secret, root: str = CREDENTIALS_ROOT) -> None:
    """Put ``content`` at ``path``, mode 0600, at once and whole; directories are made 0700.

    Raises :class:`~cdh.errors.CredentialFileError`, also when the place is not in memory: what is
    written to a disk of this guest, the host can read later. Blocks.
    """
    *directories, name = _segments("credentials[]", path, root)
    try:
        directory = open_root()
        try:
            *above, own = root.strip("/").split("/")
            for part in above:
                directory = _enter(directory, part, SHARED_MODE)
            for part in (own, *directories):
                directory = _enter(directory, part, DIRECTORY_MODE)
            _require_memory(path.rpartition("/")[0])
            _replace(directory, name, content)
        finally:
            os.close(directory)
    except OSError as error:
        raise CredentialFileError(path, os.strerror(error.errno or 0)) from error


def _enter(directory: int, part: str, mode: int) -> int:
    """Open or make ``part``, never through a symbolic link. Closes ``directory`` on success."""
    try:
        inner = enter(directory, part)
    except FileNotFoundError:
        os.mkdir(part, mode, dir_fd=directory)
        inner = enter(directory, part)
    os.close(directory)
    return inner


def _require_memory(directory: str) -> None:
    kind, longest = "unknown", 0
    for entry in read_mountinfo():
        place = entry.mount_point.rstrip("/") + "/"
        # Of several mounts at one place, the last one covers the others.
        if f"{directory}/".startswith(place) and len(place) >= longest:
            kind, longest = entry.fs_type, len(place)
    if kind not in IN_MEMORY:
        raise CredentialFileError(directory, f"is on a file system of type {bounded(kind, 32)}")


def _replace(directory: int, name: str, content: Secret) -> None:
    temporary = f".{secrets.token_hex(8)}"
    file = os.open(temporary, _NEW_FILE, FILE_MODE, dir_fd=directory)
    try:
        try:
            os.fchmod(file, FILE_MODE)  # whatever the umask
            left = memoryview(content.reveal())
            while left:
                left = left[os.write(file, left) :]
        finally:
            os.close(file)
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:  # cleaned up and passed on, cancellation included
        os.unlink(temporary, dir_fd=directory)
        raise
