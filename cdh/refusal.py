"""Which errors are a no: for callers, who need not ask again, and for the hub's counts."""

from __future__ import annotations

from typing import Final

from cdh.errors import (
    AgentRefusedError,
    MountFailedError,
    MountRefusedError,
    SealedAlgorithmError,
    SealedContentError,
    SealedKmsError,
    SealedSignatureError,
    SecretPolicyError,
)
from kbs import KbsError
from keywrap import PacketRefusedError, WrappedKeyError

REFUSALS: Final = (
    MountRefusedError,
    PacketRefusedError,
    SealedAlgorithmError,
    SealedContentError,
    SealedSignatureError,
    SecretPolicyError,
    WrappedKeyError,
)


def is_refusal(error: Exception) -> bool:
    """Whether somebody who may decide said no, as opposed to a failure on the way."""
    if isinstance(error, AgentRefusedError | SealedKmsError):
        return error.refused
    if isinstance(error, KbsError):
        return error.decided
    if isinstance(error, MountFailedError):
        return error.kind == "credentials"
    return isinstance(error, REFUSALS)
