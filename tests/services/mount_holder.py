"""A process that holds one scripted mount until it is killed: ``mount_holder TARGET STATE``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cdh.mounts.supervisor import MountSupervisor
from secrecy.journal import configure_logging
from tests.services.scripted_mount import FAKE, launch_at


async def hold(target: Path, state: Path) -> None:
    supervisor = MountSupervisor(command=(sys.executable, str(FAKE), "serve", str(state)))
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(supervisor.run())
        await supervisor.mount(launch_at(target))
        sys.stdout.write("mounted\n")
        sys.stdout.flush()


if __name__ == "__main__":
    configure_logging()
    asyncio.run(hold(Path(sys.argv[1]), Path(sys.argv[2])))
