"""The guest kernel's TSM interface as a FUSE file system, one process per mount.

``python -m mocktee.tsm`` serves a configfs-tsm report tree, sysfs-like measurement registers and
the CCEL files below one mount point, with a control socket beside it. The rules live in
``subsystem``; ``files``, ``tree`` and ``operations`` turn them into system calls; ``process`` is
what tests and the harness start it with.
"""

from __future__ import annotations
