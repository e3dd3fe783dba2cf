"""Client of the Key Broker Service of Confidential Containers (Trustee), protocol 0.1.0 to 0.4.0.

Attests this guest (RCAR handshake), keeps the session alive, fetches resources and opens them.
Evidence comes from outside through :class:`EvidenceSource`. Imports nothing of ours but
``secrecy``.
"""

from __future__ import annotations

from kbs.aa_json import session_from_aa_json, session_to_aa_json
from kbs.attestation_service import AttestationServiceClient
from kbs.client import EvidenceSource, KbsClient, KbsLimits
from kbs.errors import (
    AaJsonError,
    AnswerTooLongError,
    AttestationRefusedError,
    EvidenceTimeoutError,
    HandshakeHeldError,
    HandshakeOrderError,
    JweError,
    JweFormatError,
    KbsClosedError,
    KbsError,
    KbsProtocolError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    KbsUrlError,
    NoKbsAnsweredError,
    PolicyDeniedError,
    ResourceMissingError,
    ResourceTooLargeError,
    ResourceUriError,
    ServiceRefusedError,
    SessionTimeoutError,
    TeeKeyError,
    TokenRefusedError,
    UnknownKbsError,
)
from kbs.failure import FailureKind, HandshakeFailure
from kbs.fetcher import ResourceFetcher
from kbs.handshake import Handshake
from kbs.hold_off import HoldOff, HoldOffPolicy
from kbs.negotiation import ProtocolVersion
from kbs.payloads import InitData, TokenGrant
from kbs.resource_uri import ResourceUri
from kbs.retry import RetryPolicy
from kbs.ride_through import RideThrough, RideThroughStatus
from kbs.session import AttestedSession, SessionKeeper, SessionSource, SessionState
from kbs.several import (
    FailoverSource,
    KbsDirectory,
    Replica,
    ResourceGetter,
    address_of,
    is_absent,
    is_refused,
)
from kbs.tee_key import TeeKey, TeeKeyAlgorithm
from kbs.tls import KbsTls
from kbs.watch import ResourceWatch, WatchEvent, WatchState

__all__ = [
    "AaJsonError",
    "AnswerTooLongError",
    "AttestationRefusedError",
    "AttestationServiceClient",
    "AttestedSession",
    "EvidenceSource",
    "EvidenceTimeoutError",
    "FailoverSource",
    "FailureKind",
    "Handshake",
    "HandshakeFailure",
    "HandshakeHeldError",
    "HandshakeOrderError",
    "HoldOff",
    "HoldOffPolicy",
    "InitData",
    "JweError",
    "JweFormatError",
    "KbsClient",
    "KbsClosedError",
    "KbsDirectory",
    "KbsError",
    "KbsLimits",
    "KbsProtocolError",
    "KbsRefusedError",
    "KbsTimeoutError",
    "KbsTls",
    "KbsTlsError",
    "KbsUnreachableError",
    "KbsUrlError",
    "NoKbsAnsweredError",
    "PolicyDeniedError",
    "ProtocolVersion",
    "Replica",
    "ResourceFetcher",
    "ResourceGetter",
    "ResourceMissingError",
    "ResourceTooLargeError",
    "ResourceUri",
    "ResourceUriError",
    "ResourceWatch",
    "RetryPolicy",
    "RideThrough",
    "RideThroughStatus",
    "ServiceRefusedError",
    "SessionKeeper",
    "SessionSource",
    "SessionState",
    "SessionTimeoutError",
    "TeeKey",
    "TeeKeyAlgorithm",
    "TeeKeyError",
    "TokenGrant",
    "TokenRefusedError",
    "UnknownKbsError",
    "WatchEvent",
    "WatchState",
    "address_of",
    "is_absent",
    "is_refused",
    "session_from_aa_json",
    "session_to_aa_json",
]
