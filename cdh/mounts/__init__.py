"""Secure mounts: what may be asked for, and the processes that serve what was granted.

``options`` and ``spec`` decide without I/O; ``supervisor`` and ``child`` own the mount processes;
``mountpoint``, ``mountinfo`` and ``unmount`` are the narrow ways to the kernel.
"""

from __future__ import annotations
