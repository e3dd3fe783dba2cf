"""Runs one container as kata-agent does, hooks included: ``agent_stand_in.py BUNDLE ID HOOK``.

The order is that of rustjail (kata-containers, src/agent/rustjail/src/container.rs): the child gets
its environment, enters a mount namespace and makes its mounts; then the parent runs the prestart
hook with an empty environment and 10 seconds, ignores how that went, and lets the child go on to
change its root and run. Prints what happened as JSON. ``HOOK`` is the program for both kinds.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

CLONE_NEWNS, MS_BIND, MS_REC, MS_SLAVE = 0x20000, 4096, 16384, 1 << 19
HOOK_SECONDS = 10
libc = ctypes.CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, flags: int) -> None:
    check(libc.mount(source.encode(), target.encode(), None, flags, None))


def place_of(root: str, destination: str) -> str:
    """Resolve as a runtime does: links of the image stay inside it."""
    path = root
    for part in destination.strip("/").split("/"):
        path = f"{path}/{part}"
        if os.path.islink(path):
            path = place_of(root, os.path.join("/", os.path.dirname(path)[len(root):],
                                               os.readlink(path)))  # fmt: skip
    return path


def child(spec: dict[str, Any], root: str, say: int, hear: int) -> None:
    environment = dict(text.split("=", 1) for text in spec["process"]["env"])
    check(libc.unshare(CLONE_NEWNS))
    mount("none", "/", MS_REC | MS_SLAVE)
    mount(root, root, MS_BIND | MS_REC)
    for entry in spec["mounts"]:
        if entry.get("type") == "bind":
            target = place_of(root, entry["destination"])
            if not os.path.exists(target):
                os.makedirs(target)
            mount(entry["source"], target, MS_BIND | MS_REC)
    os.write(say, b"p")
    if not os.read(hear, 1):
        os._exit(3)
    os.chroot(root)
    os.chdir("/")
    os.execve(spec["process"]["args"][0], spec["process"]["args"], environment)


def run_hook(hook: str, kind: str, state: dict[str, Any], cwd: str) -> dict[str, Any]:
    process = subprocess.Popen(
        [hook, kind], env={}, cwd=cwd,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        out, err = process.communicate(json.dumps(state).encode(), timeout=HOOK_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"code": None, "output": ""}
    return {"code": process.returncode, "output": (out + err).decode(errors="replace")}


def main(bundle: str, container: str, hook: str) -> None:
    spec = json.loads((Path(bundle) / "config.json").read_text())
    root = f"{bundle}/rootfs"
    (from_child, say), (hear, to_child) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(to_child)
        try:
            child(spec, root, say, hear)
        finally:
            os._exit(4)
    os.close(say)
    os.close(hear)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    assert os.read(from_child, 1) == b"p", "the child failed"
    state = {
        "ociVersion": "1.0.2", "id": container, "status": "created", "pid": pid, "bundle": bundle,
        "annotations": spec.get("annotations", {}),
    }  # fmt: skip
    prestart = run_hook(hook, "prestart", state, bundle)
    with contextlib.suppress(BrokenPipeError):
        os.write(to_child, b"g")
    _, status = os.waitpid(pid, 0)
    poststop = run_hook(hook, "poststop", {**state, "status": "stopped", "pid": 0}, "/")
    code = os.waitstatus_to_exitcode(status)
    print(json.dumps({"prestart": prestart, "code": code, "poststop": poststop}))


if __name__ == "__main__":
    main(*sys.argv[1:])
