"""A mount process without OSS: speaks the launch contract and mounts a tmpfs in place of a bucket.

Run by the supervisor as ``fake_ossmount.py SCRIPT STATE --launch-fd N --status-fd M --lifeline-fd
L``. ``STATE`` is a directory in which each start leaves its arguments, environment and open
descriptors, so that tests can look for what must not be there. ``SCRIPT``:

    serve          mount, say ready, serve until told otherwise
    once           as serve, but the second and later starts fail with kind "endpoint"
    fail:KIND      report a failure of that kind and exit 1
    hang           say nothing and ignore SIGTERM
    stubborn       serve, but ignore SIGTERM and the end of the lifeline
    silent-exit    exit 3 without a word
    pretend        say ready without having mounted
    garbage        write what is no status line
    chatter        flood stderr, then serve
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
from pathlib import Path

MNT_DETACH = 2


def say(fd: int, **event: str) -> None:
    os.write(fd, json.dumps(event).encode() + b"\n")


def mounted(path: str) -> bool:
    return any(line.split(" ")[4] == path for line in Path("/proc/self/mountinfo").open())


def read_all(fd: int) -> bytes:
    content = b""
    while chunk := os.read(fd, 65536):
        content += chunk
    return content


def record(state: Path) -> int:
    """Write down what this process can see of its start; return how many starts there were."""
    number = len(list(state.glob("start-*.json")))
    descriptors = sorted(
        os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) > 2
        if os.path.lexists(f"/proc/self/fd/{fd}")
    )  # fmt: skip
    seen = {
        "pid": os.getpid(),
        "argv": sys.argv,
        "environ": dict(os.environ),
        "descriptors": descriptors,
    }
    (state / f"start-{number}.json").write_text(json.dumps(seen))
    return number


def main() -> int:
    script, state = sys.argv[1], Path(sys.argv[2])
    launch_fd, status_fd, lifeline_fd = (int(sys.argv[i]) for i in (4, 6, 8))
    starts = record(state)
    document = json.loads(read_all(launch_fd))
    if script == "once" and starts > 0:
        script = "fail:endpoint"
    if script.startswith("fail:"):
        kind = script.removeprefix("fail:")
        say(status_fd, event="failed", kind=kind, message=f"no {kind}", hint=f"check {kind}")
        return 1
    if script == "silent-exit":
        return 3
    if script == "garbage":
        os.write(status_fd, b"\xff not json\n")
    if script in ("hang", "stubborn"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if script in ("hang", "garbage"):
        while True:
            signal.pause()
    if script == "chatter":
        for number in range(1000):
            sys.stderr.write(f"line {number}\n")
        sys.stderr.write("x" * 100_000)
        sys.stderr.flush()
    return serve(script, document, status_fd, lifeline_fd)


def serve(script: str, document: dict[str, str], status_fd: int, lifeline_fd: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    path = document["mount_point"]
    if script != "pretend":
        source = document["fs_name"].encode()
        if libc.mount(source, path.encode(), b"tmpfs", 0, b"size=64k") != 0:
            say(status_fd, event="failed", kind="mount", message="mount(2) failed", hint="")
            return 1
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    if script != "stubborn":
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(wake_write)
    poll = select.poll()
    table = os.open("/proc/self/mountinfo", os.O_RDONLY)
    poll.register(table, select.POLLPRI | select.POLLERR)
    poll.register(wake_read, select.POLLIN)
    if script != "stubborn":
        poll.register(lifeline_fd, select.POLLIN | select.POLLHUP)
    say(status_fd, event="ready")
    while True:
        ready = {fd for fd, _ in poll.poll()}
        if ready & {wake_read, lifeline_fd}:
            break
        if script != "pretend" and not mounted(path):
            break
    libc.umount2(path.encode(), MNT_DETACH)
    say(status_fd, event="stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
