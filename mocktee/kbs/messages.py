"""Parsing of the two request bodies of the RCAR handshake (KBS protocol 0.4.0).

Bytes become typed values here and nothing is judged. Unknown members are ignored, as the protocol
says. All failures are ``ValueError``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mocktee.kbs.encoding import Json, parse_object
from mocktee.kbs.errors import MalformedError
from mocktee.kbs.teekey import TeePublicKey

MAX_VERSION: Final = 64  # characters of a version text
_TEES: Final = {"tdx", "sgx", "snp", "cca", "csv", "se", "tpm", "az-snp-vtpm", "az-tdx-vtpm"}
_DEVICES: Final = {"nvidia", "hygondcu", "dpu"}
TEES: Final = frozenset(_TEES | _DEVICES | {"sample", "sampledevice"})


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """POST /auth. ``extra_params`` must be there; with this verifier it changes nothing."""

    version: str
    tee: str
    extra_params: Json


@dataclass(frozen=True, slots=True)
class InitData:
    """The initdata document that the client says its TD was started with."""

    format: str
    body: str


@dataclass(frozen=True, slots=True)
class Attestation:
    """POST /attest."""

    nonce: str
    tee_pubkey: TeePublicKey
    primary_evidence: Json
    additional_evidence: str
    init_data: InitData | None

    def runtime_data(self) -> dict[str, Json]:
        """Return the object whose canonical form the report data is the digest of."""
        return {
            "additional-evidence": self.additional_evidence,
            "nonce": self.nonce,
            "tee-pubkey": self.tee_pubkey.jwk(),
        }


def parse_auth(body: bytes) -> AuthRequest:
    """Parse the body of POST /auth."""
    message = parse_object(body)
    if "extra-params" not in message:
        raise MalformedError("missing field `extra-params`")
    tee = _text(message, "tee")
    if tee not in TEES:
        raise MalformedError("unknown variant in field `tee`")
    return AuthRequest(
        version=_text(message, "version"),
        tee=tee,
        extra_params=message["extra-params"],
    )


def parse_attestation(body: bytes) -> Attestation:
    """Parse the body of POST /attest."""
    message = parse_object(body)
    runtime_data = _object(message, "runtime-data")
    evidence = _object(message, "tee-evidence")
    if "primary_evidence" not in evidence:
        raise MalformedError("missing field `primary_evidence`")
    if "tee-pubkey" not in runtime_data:
        raise MalformedError("missing field `tee-pubkey`")
    return Attestation(
        nonce=_text(runtime_data, "nonce"),
        tee_pubkey=TeePublicKey.parse(runtime_data["tee-pubkey"]),
        primary_evidence=evidence["primary_evidence"],
        additional_evidence=_text(evidence, "additional_evidence"),
        init_data=_parse_init_data(message.get("init-data")),
    )


def _parse_init_data(value: Json) -> InitData | None:
    if value is None:
        return None
    if not isinstance(value, dict):
        raise MalformedError("init-data is neither null nor an object")
    return InitData(format=_text(value, "format"), body=_text(value, "body"))


def _text(message: dict[str, Json], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise MalformedError(f"field `{name}` is missing or not a string")
    return value


def _object(message: dict[str, Json], name: str) -> dict[str, Json]:
    value = message.get(name)
    if not isinstance(value, dict):
        raise MalformedError(f"field `{name}` is missing or not an object")
    return value
