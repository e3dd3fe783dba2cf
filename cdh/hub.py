"""The confidential data hub: its operations, without transport.

Each takes what a peer sent, unjudged, and either does all of it or raises.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import ExitStack
from dataclasses import dataclass

from cdh.answers import cause_line
from cdh.mounts.launch import Launch, OssCredentials
from cdh.mounts.spec import MountPolicy, MountRequest, MountSpec
from cdh.mounts.supervisor import MountStatus, MountSupervisor
from cdh.refusal import is_refusal
from cdh.resources import ResourceSource
from cdh.sealed.textual import is_sealed
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri, ResourceWatch, WatchEvent
from keywrap import open_packet
from secrecy import Secret
from secrecy.journal import get_logger

log = get_logger("cdh")


@dataclass(frozen=True, slots=True)
class MountSettings:
    """What this guest's configuration adds to every mount."""

    policy: MountPolicy
    ca_pem: str | None
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class HubCounts:
    """What was asked of this hub since it started, and how it went.

    A resource is ``served``, ``refused`` when somebody who may decide said no, else ``failed``.
    ``unseal_failures`` include sealed keys of mounts, ``mount_restarts`` mounts that are gone.
    """

    served: int
    refused: int
    failed: int
    unseal_failures: int
    mount_restarts: int


@dataclass(frozen=True, slots=True)
class UnsealFailure:
    """Why the last sealed secret that was not opened was not, and when (unix seconds)."""

    at: int
    cause: str


class ConfidentialDataHub:
    """Resources, sealed secrets and mounts. Holds no state but the mounts and counts."""

    def __init__(
        self,
        resources: ResourceSource,
        unsealer: Unsealer,
        mounts: MountSupervisor,
        mount_settings: MountSettings,
    ) -> None:
        self._resources = resources
        self._unsealer = unsealer
        self._mounts = mounts
        self._mount_settings = mount_settings
        self._served = self._refused = self._failed = self._unseal_failures = 0
        self.last_unseal_failure: UnsealFailure | None = None

    def counts(self) -> HubCounts:
        """Return the counts up to now. A caller who hung up, and :meth:`watch`, count nowhere."""
        return HubCounts(
            self._served,
            self._refused,
            self._failed,
            self._unseal_failures,
            self._mounts.total_restarts,
        )

    async def get_resource(self, uri_text: str) -> Secret:
        """Return the resource ``uri_text`` names.

        Raises ``kbs.KbsError`` (a malformed URI included) or :class:`~cdh.errors.CdhError`.
        """
        try:
            content = await self._resources.get(ResourceUri.parse(uri_text))
        except Exception as error:
            if is_refusal(error):
                self._refused += 1
            else:
                self._failed += 1
            raise
        self._served += 1
        return content

    def watch(self, uri_text: str, interval: float) -> AsyncGenerator[WatchEvent, None]:
        """Tell how the resource is, and then whenever that changes; asks every ``interval`` s.

        A content from a cache, or one that is kept while the key broker is away, is no change.
        Raises ``kbs.ResourceUriError``.
        """
        uri = ResourceUri.parse(uri_text)
        return ResourceWatch(self._resources, uri, interval, refused=is_refusal).events()

    async def unseal(self, sealed: bytes) -> Secret:
        """Return the value of a sealed secret. Raises as :meth:`get_resource`."""
        try:
            return await self._unsealer.unseal(sealed)
        except Exception as error:  # counted and passed on
            self._unseal_failures += 1
            self.last_unseal_failure = UnsealFailure(int(time.time()), cause_line(error))
            raise

    async def unwrap_key(self, packet: bytes) -> Secret:
        """Return the private options of an image layer that an annotation packet wraps.

        The key is fetched for every packet and never kept. Raises ``keywrap.KeywrapError`` for
        the packet, and as :meth:`get_resource` for its key.
        """
        return await open_packet(packet, self.get_resource)

    async def secure_mount(self, request: MountRequest) -> None:
        """Mount what ``request`` asks for and return when it serves.

        The whole request is judged before a secret is fetched for it. Raises
        :class:`~cdh.errors.CdhError` or ``kbs.KbsError``; nothing is left behind then, nor on
        cancellation.
        """
        settings = self._mount_settings
        spec = MountSpec.parse(request, settings.policy)
        _note(spec)
        with ExitStack() as opened:
            # The checked pair are copies, which the mount wipes at its end.
            key_id = await self._open("akId", spec.access_key_id)
            opened.callback(key_id.wipe)
            key_secret = await self._open("akSecret", spec.access_key_secret)
            opened.callback(key_secret.wipe)
            credentials = OssCredentials.check(key_id, key_secret)
        launch = Launch(spec, credentials, settings.ca_pem, settings.memory_bytes)
        await self._mounts.mount(launch)

    def list_mounts(self) -> tuple[MountStatus, ...]:
        """Return the mounts and how they are."""
        return self._mounts.list()

    async def unmount(self, mount_point: str) -> None:
        """Flush and remove a mount. Raises :class:`~cdh.errors.MountError`."""
        await self._mounts.unmount(mount_point)

    async def _open(self, option: str, value: Secret) -> Secret:
        """Unseal a value that is marked as sealed; take any other as it is, as the reference."""
        text = value.reveal_text()
        if is_sealed(text):
            return await self.unseal(text.encode())
        log.warning(
            "mount key given in plain", option=option, hint="the host has seen it; seal it instead"
        )
        return value


def _note(spec: MountSpec) -> None:
    if spec.options.ignored:
        log.info("mount options without effect here", options=spec.options.ignored)
    if spec.absent_keys:
        log.info("mount request without keys the reference requires", keys=spec.absent_keys)
