"""Parsing of the two request bodies of the RCAR handshake (KBS protocol 0.1.0 to 0.4.0).

Bytes become typed values here and nothing is judged. Unknown members are ignored, as the protocol
says. All failures are ``ValueError``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from mocktee.kbs.encoding import Json, canonical_json, parse_json, parse_object
from mocktee.kbs.errors import MalformedError
from mocktee.kbs.teekey import TeePublicKey

MAX_VERSION: Final = 64  # characters of a version text
_TEES: Final = {"tdx", "sgx", "snp", "cca", "csv", "se", "tpm", "az-snp-vtpm", "az-tdx-vtpm"}
_DEVICES: Final = {"nvidia", "hygondcu", "dpu"}
TEES: Final = frozenset(_TEES | _DEVICES | {"sample", "sampledevice"})


class MessageForm(Enum):
    """How the body of POST /attest is laid out."""

    EVIDENCE_TEXT = "0.1.0: tee-pubkey, and evidence as a string that holds JSON"
    EVIDENCE_VALUE = "0.1.1 and 0.2.0: tee-pubkey, and evidence as JSON"
    SECTIONS = "0.4.0: init-data, runtime-data, tee-evidence"


class Binding(Enum):
    """What the digest inside the evidence is made of."""

    NONCE_AND_KEY = "0.1.0 early: texts of nonce, n and e"
    RUNTIME_DATA = "0.1.0 late to 0.2.0: nonce and tee-pubkey, canonical"
    RUNTIME_DATA_AND_DEVICES = "0.4.0: the same with additional-evidence"


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
    binding: Binding = Binding.RUNTIME_DATA_AND_DEVICES

    def runtime_data(self) -> dict[str, Json]:
        """Return the runtime data that a token repeats; canonical, it is what evidence binds."""
        data = self.device_data()
        if self.binding is Binding.RUNTIME_DATA_AND_DEVICES:
            data["additional-evidence"] = self.additional_evidence
        return data

    def bound_bytes(self) -> bytes:
        """Return what the digest in the primary evidence is the digest of."""
        if self.binding is Binding.NONCE_AND_KEY:
            key = self.tee_pubkey
            return (self.nonce + key.member("n") + key.member("e")).encode()
        return canonical_json(self.runtime_data())

    def device_data(self) -> dict[str, Json]:
        """Return the runtime data of devices; canonical, it is what their evidence binds."""
        return {"nonce": self.nonce, "tee-pubkey": self.tee_pubkey.jwk()}

    def answering(self, nonce: str) -> Attestation:
        """Return it as the answer to a challenge: earlier protocols do not repeat its nonce."""
        return replace(self, nonce=nonce)


def parse_auth(body: bytes, form: MessageForm = MessageForm.SECTIONS) -> AuthRequest:
    """Parse the body of POST /auth."""
    message = parse_object(body)
    if "extra-params" not in message:
        raise MalformedError("missing field `extra-params`")
    tee = _text(message, "tee")
    if tee not in TEES:
        raise MalformedError("unknown variant in field `tee`")
    if form is MessageForm.EVIDENCE_TEXT:
        _text(message, "extra-params")
    return AuthRequest(
        version=_text(message, "version"),
        tee=tee,
        extra_params=message["extra-params"],
    )


def parse_attestation(
    body: bytes,
    form: MessageForm = MessageForm.SECTIONS,
    binding: Binding = Binding.RUNTIME_DATA_AND_DEVICES,
) -> Attestation:
    """Parse the body of POST /attest; before 0.4.0 the nonce is the empty text."""
    message = parse_object(body)
    if form is not MessageForm.SECTIONS:
        return _parse_flat(message, form, binding)
    runtime_data = _object(message, "runtime-data")
    evidence = _object(message, "tee-evidence")
    if "primary_evidence" not in evidence:
        raise MalformedError("missing field `primary_evidence`")
    return Attestation(
        nonce=_text(runtime_data, "nonce"),
        tee_pubkey=_tee_pubkey(runtime_data),
        primary_evidence=evidence["primary_evidence"],
        additional_evidence=_text(evidence, "additional_evidence"),
        init_data=_parse_init_data(message.get("init-data")),
        binding=binding,
    )


def _parse_flat(message: dict[str, Json], form: MessageForm, binding: Binding) -> Attestation:
    key = _tee_pubkey(message)
    if form is MessageForm.EVIDENCE_TEXT:
        if not key.member("n"):
            raise MalformedError("missing field `n`")  # the only kind of key then was RSA
        evidence = parse_json(_text(message, "tee-evidence").encode())
    else:
        if "tee-evidence" not in message:
            raise MalformedError("missing field `tee-evidence`")
        evidence = message["tee-evidence"]
    return Attestation("", key, evidence, "", None, binding)


def _tee_pubkey(message: dict[str, Json]) -> TeePublicKey:
    if "tee-pubkey" not in message:
        raise MalformedError("missing field `tee-pubkey`")
    return TeePublicKey.parse(message["tee-pubkey"])


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
