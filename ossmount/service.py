"""The life of one mount: probe, mount, answer, and leave nothing behind.

The bucket is probed before anything is mounted. The end comes from a signal, from the lifeline (the
parent died or closed it) or from an operator's ``umount``; unflushed files are stored, uploads that
cannot be finished are aborted, and the mount is taken away.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import pyfuse3
import pyfuse3.asyncio

from lifecycle import Shutdown
from ossmount.attributes import Presentation
from ossmount.bucket import Bucket
from ossmount.client import OssClient
from ossmount.endpoint import Endpoint
from ossmount.errors import LaunchError, MountPointError
from ossmount.files import FileTable
from ossmount.kernel import raise_read_ahead
from ossmount.launch import LaunchSpec
from ossmount.memory import MemoryBudget, Shares
from ossmount.multipart import MultipartApi
from ossmount.namespace import Namespace
from ossmount.operations import OssOperations
from ossmount.place import MountPlace
from ossmount.readahead import ReadPool
from ossmount.rename import Renamer
from ossmount.signing import OssSigner
from ossmount.store import Backend
from ossmount.tree import Tree
from secrecy.journal import get_logger

log = get_logger("ossmount")

PROBE_SECONDS: Final = 20.0
MOUNT_SECONDS: Final = 10.0
DRAIN_SECONDS: Final = 30.0  # for storing unflushed files at the end


class Lifeline:
    """The pipe whose other end the parent holds: its end of file is the order to stop."""

    def __init__(self, fd: int, shutdown: Shutdown) -> None:
        self._fd = fd
        self._shutdown = shutdown

    def __enter__(self) -> None:
        os.set_blocking(self._fd, False)
        asyncio.get_running_loop().add_reader(self._fd, self._readable)

    def __exit__(self, *_exception: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            if os.read(self._fd, 64):
                return  # the parent has nothing to say here
            asyncio.get_running_loop().remove_reader(self._fd)
            self._shutdown.request("lifeline")


@asynccontextmanager
async def open_bucket(spec: LaunchSpec, shares: Shares) -> AsyncIterator[Bucket]:
    """Yield the bucket after one LIST has shown that key, name and endpoint are right.

    Raises an :class:`~ossmount.errors.OssMountError` that says which of them is not.
    """
    if spec.signature == "v4" and spec.region is None:
        raise LaunchError("region must be given, V4 signs with it")
    endpoint = Endpoint.parse(spec.endpoint, spec.bucket, path_style=spec.path_style)
    signer = OssSigner(spec.credentials, spec.bucket, version=spec.signature, region=spec.region)
    client = OssClient(endpoint, signer, ca_pem=spec.ca_pem, connections=shares.connections)
    async with client:
        bucket = Bucket(spec.bucket, client)
        await bucket.list_page(spec.prefix, limit=1, seconds=PROBE_SECONDS)
        yield bucket


def mount_options(spec: LaunchSpec) -> set[str]:
    """Return the FUSE options. Permissions are checked by the kernel against what we show."""
    options = {
        "default_permissions",
        "nodev",
        "nosuid",
        "noatime",
        f"fsname={spec.fs_name}",
        "subtype=oss",
    }
    if spec.read_only:
        options.add("ro")
    if spec.ownership.allow_other:
        options.add("allow_other")
    return options


def build(spec: LaunchSpec, bucket: Bucket, shares: Shares) -> tuple[OssOperations, FileTable]:
    """Put the parts together."""
    tree = Tree(spec.prefix)
    parts = MemoryBudget(shares.parts)
    backend = Backend(bucket, MultipartApi(bucket), tree, parts, spec.attribute_seconds)
    files = FileTable(
        backend,
        pool=ReadPool(MemoryBudget(shares.reads)),
        scratch=MemoryBudget(shares.scratch),
        read_only=spec.read_only,
    )
    namespace = Namespace(backend, files, read_only=spec.read_only)
    operations = OssOperations(
        bucket=bucket,
        tree=tree,
        namespace=namespace,
        renamer=Renamer(backend, files, namespace),
        files=files,
        presentation=Presentation(spec.ownership, spec.attribute_seconds, time.time_ns()),
    )
    return operations, files


async def serve(spec: LaunchSpec, shutdown: Shutdown, on_ready: Callable[[], None]) -> None:
    """Mount and serve until ``shutdown`` is requested or the mount disappears.

    Raises an :class:`~ossmount.errors.OssMountError` when it cannot start; then nothing is mounted.
    Cancellation unmounts as well.
    """
    with MountPlace.open(spec.mount_point) as place:
        async with open_bucket(spec, Shares.of(spec.memory_bytes)) as bucket:
            await _serve_on(place, spec, bucket, shutdown, on_ready)


async def _serve_on(
    place: MountPlace,
    spec: LaunchSpec,
    bucket: Bucket,
    shutdown: Shutdown,
    on_ready: Callable[[], None],
) -> None:
    shares = Shares.of(spec.memory_bytes)
    operations, files = build(spec, bucket, shares)
    log.info("mounting", mount_point=spec.mount_point, read_only=spec.read_only)
    pyfuse3.asyncio.enable()
    try:
        pyfuse3.init(operations, place.bare, mount_options(spec))
    except RuntimeError as error:
        raise MountPointError(
            spec.mount_point, "the kernel refused the mount", hint="is /dev/fuse there?"
        ) from error
    try:
        place.mounted()
        await _run(place, shares, shutdown, on_ready)
    finally:
        try:
            await _drain(files)
        finally:
            # Not by name, as libfuse does. Closed first: nobody serves it any more.
            pyfuse3.close(unmount=False)
            place.detach()


async def _run(
    place: MountPlace, shares: Shares, shutdown: Shutdown, on_ready: Callable[[], None]
) -> None:
    # Awaited below: pyfuse3 ends it when the mount disappears or after terminate().
    session = asyncio.create_task(pyfuse3.main(max_tasks=shares.workers))
    stop = asyncio.create_task(shutdown.wait())
    try:
        async with asyncio.timeout(MOUNT_SECONDS):
            await asyncio.to_thread(_answers, place)
        on_ready()
        await asyncio.wait({session, stop}, return_when=asyncio.FIRST_COMPLETED)
        if session.done():
            await session  # ended by itself: by an unmount, or with an error that must be told
    except TimeoutError as error:
        raise MountPointError(place.path, "does not answer after mounting") from error
    finally:
        stop.cancel()
        if not session.done():
            pyfuse3.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await session


def _answers(place: MountPlace) -> None:
    """Ask the mounted file system something through the kernel, then tune it. Runs in a thread."""
    os.statvfs(place.inside)
    if not raise_read_ahead(place.inside):
        log.info("read-ahead not raised", mount_point=place.path)


async def _drain(files: FileTable) -> None:
    """Store what is unflushed, within a limit; the rest is given up and its uploads aborted."""
    if not len(files):
        return
    try:
        async with asyncio.timeout(DRAIN_SECONDS):
            await files.shut()
    except TimeoutError:
        log.error("not everything was stored in time", seconds=DRAIN_SECONDS)  # noqa: TRY400
        async with asyncio.timeout(DRAIN_SECONDS):
            await files.give_up()
