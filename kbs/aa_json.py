"""The reply of the attestation agent's ``GetToken("kbs")``: a session as JSON.

``{"token": JWT, "tee_keypair": PEM}``, the form of guest-components; written by the agent, read
by the data hub, so token and key travel together.
"""

from __future__ import annotations

import json
from typing import Final

from kbs.errors import AaJsonError, KbsProtocolError, TeeKeyError
from kbs.payloads import MAX_TOKEN_CHARACTERS, token_grant
from kbs.peer_json import PeerTextError, decode_object
from kbs.session import AttestedSession
from kbs.tee_key import MAX_PEM_BYTES, TeeKey
from secrecy import Secret

MAX_AA_JSON_BYTES: Final = MAX_TOKEN_CHARACTERS + 2 * MAX_PEM_BYTES


def session_to_aa_json(session: AttestedSession) -> Secret:
    """Return the JSON form of ``session``. It holds the private key, hence a ``Secret``.

    Raises :class:`~kbs.errors.TeeKeyError` for an ML-KEM key, which this form cannot carry.
    """
    return Secret(
        json.dumps(
            {
                "token": session.token.reveal_text(),
                "tee_keypair": session.tee_key.to_pem().reveal_text(),
            },
            separators=(",", ":"),  # byte for byte what the reference writes
        )
    )


def session_from_aa_json(body: bytes) -> AttestedSession:
    """Read the JSON form. Raises :class:`~kbs.errors.AaJsonError`, which never quotes it."""
    if len(body) > MAX_AA_JSON_BYTES:
        raise AaJsonError(f"longer than {MAX_AA_JSON_BYTES} bytes")
    try:
        members = decode_object(body)
    except PeerTextError as error:
        raise AaJsonError(str(error)) from None
    token, pem = members.get("token"), members.get("tee_keypair")
    if not isinstance(token, str) or not isinstance(pem, str):
        raise AaJsonError("token or tee_keypair is missing or not a string")
    if not pem.isascii():
        raise AaJsonError("tee_keypair is not PEM")
    try:
        grant = token_grant(token)
        key = TeeKey.from_pem(Secret(pem))
    except (KbsProtocolError, TeeKeyError) as error:
        raise AaJsonError(error.problem) from None
    return AttestedSession(grant.token, key, grant.expires_at)
