"""A local Alibaba Cloud KMS that checks what the real one checks: signatures, times, nonces.

Both gateways and the machine's metadata service, written from the server's side without any of
this project's client code. In-process only; an answer can be replaced to try bad ones.
"""

from __future__ import annotations

from mocktee.kms.keys import KmsClientKey, MockKeys, make_client_key
from mocktee.kms.server import MockKms

__all__ = ["KmsClientKey", "MockKeys", "MockKms", "make_client_key"]
