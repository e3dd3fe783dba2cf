"""Collects a bundle from the running daemons: what the last handshake sent, and what came of it.

Takes public parts only. Of the session the token's claims are kept; the token itself is wiped, and
the private key beside it in the agent's reply is never written anywhere.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import Final

import msgspec

from cguest.sockets import Targets
from explain import Bundle, Manifest, Part, claims_of_token
from kbs import session_from_aa_json
from protos import cguest_pb2
from protos.stubs import AttestationAgentStub, AttestationStatusStub
from ttrpc import Client, StatusError

TOKEN_KIND: Final = "kbs"  # noqa: S105 - a kind
# How errors of the ``kbs`` package quote the KBS's answer.
_KBS_WORDS: Final = re.compile(r"""\(KBS: ([A-Za-z]+)(?: (['"])(.*?)\2)?\)""")


@dataclass(slots=True)
class Collected:
    """Parts as they come in, and whether the agent has a session.

    With a session, ``renewal_failed`` says that the last handshake did not succeed.
    """

    parts: dict[str, bytes] = field(default_factory=dict)
    attested: bool = False
    renewal_failed: bool = False

    def bundle(self) -> Bundle:
        return Bundle.of(self.parts)


async def collect(
    client: Client, targets: Targets, *, force: bool, evidence: bool, timeout_s: float
) -> Collected:
    """Attest, and collect what explains the result.

    ``evidence`` takes a quote of its own where no handshake left one. Raises ``StatusError`` if the
    agent does not even answer about itself.
    """
    found = Collected()
    stub = AttestationStatusStub(client)
    refusal: StatusError | None = None
    try:
        await stub.attest(force=force, timeout_s=timeout_s)
        found.attested = True
    except StatusError as error:
        refusal = error
    status = await stub.get_status(with_failure=True, timeout_s=timeout_s)
    manifest = Manifest(time.time(), status.kbs_url or targets.kbs_url or "", status.tee)
    found.parts[Part.MANIFEST] = manifest.encode()
    if status.HasField("failure"):  # also of a renewal, while the session is still good
        found.parts.update(_failure(status.failure))
        found.renewal_failed = found.attested
    elif refusal is not None:
        found.parts[Part.ANSWER] = answer_of(refusal)
    if found.attested:
        found.parts[Part.TOKEN_CLAIMS] = await _token_claims(client, timeout_s)
    if evidence and Part.ATTEST_REQUEST not in found.parts:
        reply = await AttestationAgentStub(client).get_evidence(b"", timeout_s=timeout_s)
        found.parts[Part.EVIDENCE] = reply.Evidence
    return found


def _failure(failure: cguest_pb2.HandshakeFailure) -> dict[str, bytes]:
    answer = {
        "outcome": failure.kind,
        "message": failure.message,
        "status": failure.http_status,
        "type": failure.problem_type,
        "detail": failure.detail,
    }
    parts: dict[str, bytes] = {Part.ANSWER: msgspec.json.encode(answer)}
    if failure.attestation:
        parts[Part.ATTEST_REQUEST] = failure.attestation
        parts[Part.CHALLENGE] = failure.challenge
    return parts


def answer_of(error: StatusError, resource: str = "") -> bytes:
    """Return the part for an error that a daemon answered, from its text."""
    words = _KBS_WORDS.search(error.message)
    answer: dict[str, object] = {"message": error.message, "resource": resource}
    if words is not None:
        answer |= {"outcome": "refused", "type": words[1], "detail": words[3] or ""}
    else:
        answer["outcome"] = "refused" if error.refused else "evidence"
    return msgspec.json.encode(answer)


async def _token_claims(client: Client, timeout_s: float) -> bytes:
    reply = await AttestationAgentStub(client).get_token(TOKEN_KIND, timeout_s=timeout_s)
    session = session_from_aa_json(reply.Token)
    try:
        return claims_of_token(session.token.reveal())
    finally:
        session.token.wipe()
