"""Files on a real mount, with plain tools and system calls, against the local OSS server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuse.mounting import BUCKET, mounted, serving, shell

pytestmark = pytest.mark.real


async def test_the_everyday_tools(tmp_path: Path) -> None:
    async with serving(tmp_path / "oss") as oss, mounted(oss, tmp_path / "mnt") as mount:
        await shell("mkdir d; echo hello > d/a; cp d/a d/b; cat d/a d/b > c", mount.path)
        assert oss.get(BUCKET, "c") == b"hello\nhello\n"
        assert await shell("ls -1 d; stat -c %s c", mount.path) == "a\nb\n12\n"
        await shell("mv d e; echo more >> e/a; rm e/b; mkdir f; rmdir f", mount.path)
        assert oss.get(BUCKET, "e/a") == b"hello\nmore\n"
        assert sorted(oss.keys(BUCKET)) == ["c", "e/", "e/a"]
