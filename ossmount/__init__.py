"""One OSS bucket as a FUSE mount, in a process of its own.

pyfuse3 keeps its session in a module-level variable, so every mount is a separate child process.
The parent hands over one JSON document through an inherited pipe, watches a status pipe, and ends
the mount by closing a third one (see :mod:`ossmount.launch` and :mod:`ossmount.service`).

This package knows nothing of sealed secrets, key brokers or who asked for the mount.
"""
