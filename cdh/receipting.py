"""The hub's operations, each leaving a receipt before its result is anybody's."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from cdh.answers import noted_cause
from cdh.errors import MountError, SealedSecretError, UnrecordedError
from cdh.hub import ConfidentialDataHub, MountSettings
from cdh.mounts.spec import MountRequest
from cdh.mounts.supervisor import MountSupervisor
from cdh.refusal import is_refusal
from cdh.resources import ResourceSource
from cdh.sealed.payload import parse_payload
from cdh.sealed.signature import parse_header
from cdh.sealed.textual import PAYLOAD, decode_section, parse_sealed_text
from cdh.sealed.unseal import Unsealer
from kbs import ResourceUri, ResourceUriError
from receipts import (
    Act,
    ReceiptSink,
    ReceiptsUnavailableError,
    Subject,
    Verdict,
    noting,
    sealed_sha384,
    text,
)
from receipts.sink import Note
from secrecy import Secret


class RecordedResources:
    """Resources for the guest's own use: behind sealed secrets, and as files.

    Implements :class:`~cdh.resources.ResourceSource`.
    """

    def __init__(self, source: ResourceSource, receipts: ReceiptSink) -> None:
        self._source = source
        self._receipts = receipts

    async def get(self, uri: ResourceUri) -> Secret:
        async with _noting(self._receipts, "release", Subject(resource=text(str(uri)))):
            return await self._source.get(uri)


class RecordedHub(ConfidentialDataHub):
    """A hub that leaves receipts.

    Where those are required and cannot be written, operations raise
    :class:`~cdh.errors.UnrecordedError` instead of giving their result. Watching leaves none: it
    tells that a content changed, and never gives it.
    """

    def __init__(
        self,
        resources: ResourceSource,
        unsealer: Unsealer,
        mounts: MountSupervisor,
        mount_settings: MountSettings,
        receipts: ReceiptSink,
    ) -> None:
        super().__init__(resources, unsealer, mounts, mount_settings)
        self._receipts = receipts

    async def get_resource(self, uri_text: str) -> Secret:
        async with _noting(self._receipts, "release", _resource(uri_text)):
            return await super().get_resource(uri_text)

    async def unseal(self, sealed: bytes) -> Secret:
        async with _noting(self._receipts, "unseal", sealed_subject(sealed)):
            return await super().unseal(sealed)

    async def unwrap_key(self, packet: bytes) -> Secret:
        async with _noting(self._receipts, "unwrap-key", Subject()):
            return await super().unwrap_key(packet)

    async def secure_mount(self, request: MountRequest) -> None:
        subject = Subject(mount_point=text(request.mount_point))
        mounted = False
        try:
            async with _noting(self._receipts, "mount", subject) as note:
                await super().secure_mount(request)
                mounted = True
                options = request.options
                place = text(f"oss://{options['bucket']}/{options['path'].lstrip('/')}")
                note.subject = Subject(resource=place, mount_point=subject.mount_point)
        except BaseException:  # cleaned up and passed on, cancellation included
            # Mounted, but not recorded, or nobody waits for it: what is in it is nobody's.
            if mounted:
                with contextlib.suppress(MountError):
                    await super().unmount(request.mount_point)
            raise

    async def unmount(self, mount_point: str) -> None:
        async with _noting(self._receipts, "unmount", Subject(mount_point=text(mount_point))):
            await super().unmount(mount_point)


@asynccontextmanager
async def _noting(receipts: ReceiptSink, act: Act, subject: Subject) -> AsyncIterator[Note]:
    try:
        async with noting(receipts, act, subject, _judge) as note:
            yield note
    except ReceiptsUnavailableError as error:
        raise UnrecordedError(error.reason) from error


def _judge(error: Exception) -> tuple[Verdict, str]:
    return "refused" if is_refusal(error) else "failed", noted_cause(error)


def _resource(uri_text: str) -> Subject:
    """Only what is a resource URI: a caller may have put anything there, a secret included."""
    try:
        ResourceUri.parse(uri_text)
    except ResourceUriError:
        return Subject()
    return Subject(resource=text(uri_text))


def sealed_subject(sealed: bytes) -> Subject:
    """Return key and digest of a sealed text; nothing of what is none, for the same reason."""
    try:
        sections = parse_sealed_text(sealed)
        parse_payload(decode_section(PAYLOAD, sections.payload))
    except SealedSecretError:
        return Subject()
    digest = sealed_sha384(sealed)
    try:
        return Subject(kid=text(parse_header(sections.header).kid), sealed_sha384=digest)
    except SealedSecretError:
        return Subject(sealed_sha384=digest)
