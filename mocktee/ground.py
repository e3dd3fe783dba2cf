"""The state directory of a harness: taken once, and given back empty whatever lies mounted in it.

A directory tree with a mount in it is never removed: deleting through a mounted bucket would
delete the bucket's contents. Mounts below the directory are detached first, the deepest first.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from mocktee.errors import HarnessError

UNMOUNT_SECONDS: Final = 5.0
_ESCAPES: Final = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


@asynccontextmanager
async def claimed(directory: Path) -> AsyncIterator[Path]:
    """The absolute path of ``directory``, new or empty at first and gone after the block.

    Raises :class:`HarnessError` if something is in it: it might belong to another harness.
    """
    path = Path(os.path.realpath(directory))
    try:
        path.mkdir(parents=True, mode=0o700)
    except FileExistsError as error:
        if not path.is_dir() or any(path.iterdir()):
            raise HarnessError(
                f"use {path} for state",
                "it exists and is not empty",
                hint="name a directory that no other harness uses",
            ) from error
    try:
        yield path
    finally:
        await _to_its_end(asyncio.create_task(remove(path)))


async def _to_its_end(task: asyncio.Task[None]) -> None:
    """Await ``task`` without passing a cancellation on to it; the few seconds are waited for."""
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise


async def remove(directory: Path) -> None:
    """Detach every mount below ``directory``, then delete it. Raises :class:`HarnessError`."""
    for point in reversed(mounts_below(directory)):
        await _detach(point)
    left = mounts_below(directory)
    if left:
        raise HarnessError(
            f"remove {directory}", f"still mounted: {', '.join(left)}", hint="unmount it by hand"
        )
    await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)


def mounts_below(directory: Path) -> list[str]:
    """Mount points in ``directory``, in the order of the kernel's table."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        points = [_unescaped(line.split(" ")[4]) for line in table]
    top = f"{directory}/"
    return [point for point in points if f"{point}/".startswith(top)]


def _unescaped(field: str) -> str:
    for code, character in _ESCAPES:
        field = field.replace(code, character)
    return field


async def _detach(point: str) -> None:
    """Lazily, because the process that served the mount may be dead."""
    program = ("umount", "-l") if os.geteuid() == 0 else ("fusermount3", "-u", "-z")
    helper = await asyncio.create_subprocess_exec(
        *program, point, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(UNMOUNT_SECONDS):
            await helper.wait()
    except TimeoutError:
        helper.kill()
        await helper.wait()
