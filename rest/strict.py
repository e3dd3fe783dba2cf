"""What a workload gets less of than from the reference, unless the operator chose the reference.

Evidence: a process that obtains a quote over 64 bytes of its choice can let a key of its own be
bound by it, and attest to a key broker as this guest. So a caller's data is bound under a label.
Token: the reference's token of kind ``kbs`` comes with the session's private key, which opens
every resource of this guest. So the token comes alone. See docs/adr/0013-rest-callers.md.

Pure: no I/O. Works alike in front of our agent and of the reference's, since nothing here depends
on what the agent does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from rest.errors import REQUEST_FAILED, BackendError
from secrecy import Secret

# The label of agent.caller_data, repeated because this package does not import that one; a test
# holds the two together. No text that a handshake hashes begins like this.
CALLER_LABEL: Final = b"confidential-guest caller evidence v1\0"
MAX_RUNTIME_DATA: Final = 64  # bytes; what the reference's TDX attester takes


class Compatibility(StrEnum):
    """Whether a door gives what the reference gives, or what cannot be used against the guest."""

    STRICT = "strict"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class RuntimeData:
    """What an agent is asked to bind.

    ``labelled_from`` is the caller's data if ``bound`` is its labelled form. It goes along, so
    that an agent which labels by itself can recompute ``bound`` and leave it as it is: labelling
    twice would give evidence that no verifier understands, and nobody an error.
    """

    bound: bytes
    labelled_from: bytes | None = None


def runtime_data(callers: bytes, compatibility: Compatibility) -> RuntimeData:
    """Return what is bound for the data of a caller.

    Strict: SHA-512 of the label and the data. Raises :class:`BackendError` with the reference's
    text for more than 64 bytes, so that both settings take the same data.
    """
    if len(callers) > MAX_RUNTIME_DATA:
        problem = f"runtime data of {len(callers)} bytes, at most {MAX_RUNTIME_DATA} can be bound"
        raise BackendError(REQUEST_FAILED, problem)
    if compatibility is Compatibility.REFERENCE:
        return RuntimeData(callers)
    return RuntimeData(hashlib.sha512(CALLER_LABEL + callers).digest(), callers)


class _TokenAlone(msgspec.Struct):
    """The one member that is read; the decoder skips the key without making a text of it."""

    token: str


def token_without_key(kind: str, token: Secret) -> Secret:
    """Return ``token`` without ``tee_keypair``. A token that is no JSON object has no members.

    Raises :class:`BackendError` if an object holds no token: it may hold anything.
    """
    data = token.reveal()
    if kind != "kbs" and not data.lstrip().startswith((b"{", b"[")):
        return token
    try:
        alone = msgspec.json.decode(data, type=_TokenAlone)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # Not chained: the decoder's error can show what it read.
        problem = "the agent's token has no form that is known, so it could hold a key"
        raise BackendError(REQUEST_FAILED, problem) from None
    return Secret(msgspec.json.encode(alone))
