"""The RCAR handshake (request, challenge, attestation, response) as an I/O-free state machine.

One object is one handshake with one fresh key. It cannot be used out of order or twice, so a
session can only come from a challenge that was answered with this very key. Moving the bytes is
:mod:`kbs.client`'s, making evidence the attester's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol

from kbs.errors import HandshakeOrderError
from kbs.payloads import RCAR_0_4_0, Challenge, Evidence, InitData, TokenGrant
from kbs.session import AttestedSession
from kbs.tee_key import TeeKey, TeeKeyAlgorithm


class RcarWire(Protocol):
    """The messages of one protocol version, and what else differs with the version."""

    @property
    def version(self) -> str:
        """The version as sent in the request."""

    @property
    def carries_devices(self) -> bool:
        """Whether evidence of further devices has a place in it."""

    @property
    def uses_cookie(self) -> bool:
        """Whether resources are asked for with the session cookie beside the token."""

    @property
    def key_algorithm(self) -> Callable[[TeeKeyAlgorithm], TeeKeyAlgorithm]:
        """The kind of key to make where another is wanted: that, or one this version knows."""

    def encode_request(self, tee: str) -> bytes:
        """Return the body of ``POST /auth``."""

    def decode_challenge(self, body: bytes) -> Challenge:
        """Read the answer to ``/auth``."""

    def device_digest(self, challenge: Challenge, tee_pubkey: Mapping[str, str]) -> bytes:
        """Return the digest that the evidence of each device must carry."""

    def runtime_digest(
        self, challenge: Challenge, tee_pubkey: Mapping[str, str], device_evidence: str = ""
    ) -> bytes:
        """Return the digest that the evidence must carry."""

    def encode_attestation(
        self,
        challenge: Challenge,
        tee_pubkey: Mapping[str, str],
        evidence: Evidence,
        init_data: InitData | None = None,
        device_evidence: str = "",
    ) -> bytes:
        """Return the body of ``POST /attest``."""

    def decode_token(self, body: bytes) -> TokenGrant:
        """Read the answer to ``/attest``."""


class HandshakeState(StrEnum):
    """Which step comes next."""

    NEW = "new"
    REQUESTED = "requested"
    CHALLENGED = "challenged"
    ANSWERED = "answered"
    DONE = "done"
    FAILED = "failed"


class Handshake:
    """open, accept_challenge, answer, accept_token: in this order, each once.

    :meth:`add_devices` may come before the answer. Every method raises
    :class:`~kbs.errors.HandshakeOrderError` out of order. A message that is refused ends the
    handshake: start a new one with a new key.
    """

    def __init__(self, tee: str, key: TeeKey, wire: RcarWire = RCAR_0_4_0) -> None:
        self._tee = tee
        self._key = key
        self._wire = wire
        self._pubkey = key.public_jwk()
        self._challenge: Challenge | None = None
        self._device_evidence = ""
        self._state = HandshakeState.NEW

    @property
    def state(self) -> HandshakeState:
        """The step reached."""
        return self._state

    def open(self) -> bytes:
        """Return the body of ``POST /auth``."""
        self._require("open", HandshakeState.NEW)
        body = self._wire.encode_request(self._tee)
        self._state = HandshakeState.REQUESTED
        return body

    def accept_challenge(self, body: bytes) -> bytes:
        """Take the challenge and return the runtime digest that the evidence must carry.

        Raises :class:`~kbs.errors.KbsProtocolError` for a malformed challenge.
        """
        self._require("accept_challenge", HandshakeState.REQUESTED)
        self._state = HandshakeState.FAILED  # unless the challenge is good
        self._challenge = self._wire.decode_challenge(body)
        digest = self._wire.runtime_digest(self._challenge, self._pubkey)
        self._state = HandshakeState.CHALLENGED
        return digest

    def device_digest(self) -> bytes:
        """Return the digest that the evidence of each further device must carry."""
        return self._wire.device_digest(self._challenged("device_digest"), self._pubkey)

    def add_devices(self, evidence: str) -> bytes:
        """Take the devices' evidence, JSON text, and return the runtime digest that covers it.

        This very text is hashed and sent. The digest of :meth:`accept_challenge` is void then.
        """
        challenge = self._challenged("add_devices")
        self._device_evidence = evidence
        return self._wire.runtime_digest(challenge, self._pubkey, evidence)

    def answer(self, evidence: Evidence, init_data: InitData | None = None) -> bytes:
        """Return the body of ``POST /attest`` for evidence that carries the runtime digest.

        ``init_data`` is compared by the KBS with the evidence's MRCONFIGID.
        """
        challenge = self._challenged("answer")
        body = self._wire.encode_attestation(
            challenge, self._pubkey, evidence, init_data, self._device_evidence
        )
        self._state = HandshakeState.ANSWERED
        return body

    def accept_token(self, body: bytes) -> AttestedSession:
        """Take the token and return the session it opens, with the key of this handshake.

        Raises :class:`~kbs.errors.KbsProtocolError` for a malformed answer.
        """
        self._require("accept_token", HandshakeState.ANSWERED)
        self._state = HandshakeState.FAILED  # unless the token is good
        grant = self._wire.decode_token(body)
        self._state = HandshakeState.DONE
        return AttestedSession(grant.token, self._key, grant.expires_at)

    def _challenged(self, step: str) -> Challenge:
        challenge = self._challenge
        if self._state is not HandshakeState.CHALLENGED or challenge is None:
            raise HandshakeOrderError(step, HandshakeState.CHALLENGED, self._state)
        return challenge

    def _require(self, step: str, expected: HandshakeState) -> None:
        if self._state is not expected:
            raise HandshakeOrderError(step, expected, self._state)
