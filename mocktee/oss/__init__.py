"""A local OSS server that checks what the real one checks, for tests and demonstrations.

Owns the OSS wire protocol from the server's side, written from the public documents and without any
of this project's client code, so that the two check each other. Faults are injected on demand.
"""

from __future__ import annotations

from mocktee.oss.authentication import AccessKey
from mocktee.oss.errors import MockOssError, MockOssSettingsError, OssAnswerError
from mocktee.oss.faults import Fault, FaultKind, FaultSwitch
from mocktee.oss.server import MockOss

__all__ = [
    "AccessKey",
    "Fault",
    "FaultKind",
    "FaultSwitch",
    "MockOss",
    "MockOssError",
    "MockOssSettingsError",
    "OssAnswerError",
]
