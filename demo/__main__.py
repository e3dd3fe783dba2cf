"""``python -m demo``: harness, daemon, the journey, three refusals, a summary; exit code 0 or 1."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from demo.journey import Journey
from demo.refusals import Refusals
from demo.stage import Stage
from demo.story import Step, StepFailedError, Story
from ttrpc import TtrpcError

QUOTE_SECONDS = 1.0  # what a stock kernel takes; felt on purpose


async def after_the_end(story: Story, stage: Stage) -> None:
    """Stop the daemon and look for anything left behind."""
    async with story.step("The daemon stops and leaves nothing behind") as step:
        code = await stage.daemon.stop()
        if code != 0:
            raise StepFailedError(f"expected exit code 0, got {code}")
        _no_mounts(stage, step)
        uploads = await stage.harness.open_uploads()
        if uploads:
            raise StepFailedError(f"expected no open uploads, got {uploads}")
        step.fact("no abandoned upload", "the OSS server")


def _no_mounts(stage: Stage, step: Step) -> None:
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        left = [line for line in table if str(stage.folder / "mnt") in line]
    if left:
        raise StepFailedError(f"expected no mounts, got {left}")
    step.fact("no mount", "the kernel's mount table")


async def tell() -> bool:
    """Play everything. Returns whether it all holds."""
    story = Story()
    story.chapter("A confidential guest on a mock TEE")
    print("starting the harness: configfs-tsm (FUSE), key broker, object store …", flush=True)
    try:
        async with Stage.open(latency=QUOTE_SECONDS) as stage:
            story.chapter("The journey")
            await Journey(stage, story).play()
            story.chapter("Three refusals")
            await Refusals(stage, story).play()
            story.chapter("The end")
            await after_the_end(story, stage)
    except (StepFailedError, TtrpcError) as error:
        # A call that fails is a step that does not hold; its text is the daemon's own reason.
        print(f"\nthis step does not hold: {error}", file=sys.stderr)
    return story.summary()


async def interruptible() -> bool:
    """Tell the story; SIGTERM ends it as Ctrl-C does, with everything cleaned up."""
    telling = asyncio.current_task()
    assert telling is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, telling.cancel)
    return await tell()


def main() -> int:
    if os.geteuid() != 0:
        print("the demo mounts file systems: run it as root, or with `make demo`", file=sys.stderr)
        return 1
    try:
        return 0 if asyncio.run(interruptible()) else 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
