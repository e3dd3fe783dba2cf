"""The contract between the guest services: messages, typed stubs for callers, tables for servers.

The ``.proto`` files are the source; ``*_pb2`` modules are generated from them by
``protos/generate.py`` and committed. Nothing here does I/O of its own.
"""
