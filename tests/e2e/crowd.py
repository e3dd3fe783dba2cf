"""``python -m tests.e2e.crowd ADDRESS COUNT``: so many idle connections, from a process of its own.

``ADDRESS`` is a path or a port of loopback. Prints ``open`` when all were made and stays until its
standard input ends; what the server closes meanwhile is not made again.
"""

from __future__ import annotations

import resource
import socket
import sys
import time

PACE_S = 0.001


def connected(address: str) -> socket.socket:
    family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
    peer = socket.socket(family, socket.SOCK_STREAM)
    peer.connect(address if family == socket.AF_UNIX else ("127.0.0.1", int(address)))
    # A full backlog of TCP makes the kernel try again after a second, and after two, and so on.
    time.sleep(PACE_S)
    return peer


def main() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    peers = [connected(sys.argv[1]) for _ in range(int(sys.argv[2]))]
    print("open", flush=True)
    sys.stdin.read()
    for peer in peers:
        peer.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
