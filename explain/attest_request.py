"""The body of ``POST /attest`` of every protocol version, read for explaining.

Tolerant where :mod:`kbs.payloads` is strict: the body is one that was refused. Source: KBS protocol
0.1.0 to 0.4.0, kbs-types.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from explain.errors import BundleError
from explain.part_json import json_object

PART: Final = "attest-request.json"


class Form(StrEnum):
    """Shapes of the body, by the protocol versions that send them."""

    V0_4 = "0.4.0"
    V0_2 = "0.1.1 to 0.2.0"
    V0_1 = "0.1.0"


@dataclass(frozen=True, slots=True)
class AttestRequest:
    """``nonce`` is empty in the forms that do not send it; ``evidence`` is the primary one."""

    form: Form
    nonce: str
    tee_pubkey: Mapping[str, object]
    evidence: Mapping[str, object]
    additional_evidence: str
    initdata: bytes | None
    initdata_format: str


def parse_attest_request(body: bytes) -> AttestRequest:
    """Read a body. Raises :class:`~explain.errors.BundleError` for one that has no form."""
    members = json_object(body, PART)
    if "runtime-data" in members:
        return _current(members)
    key, evidence = members.get("tee-pubkey"), members.get("tee-evidence")
    if isinstance(evidence, str):
        inner = json_object(evidence, f"{PART}: tee-evidence")
        return AttestRequest(Form.V0_1, "", _mapping(key, "tee-pubkey"), inner, "", None, "")
    return AttestRequest(
        Form.V0_2,
        "",
        _mapping(key, "tee-pubkey"),
        _mapping(evidence, "tee-evidence"),
        "",
        None,
        "",
    )


def _current(members: Mapping[str, object]) -> AttestRequest:
    runtime = _mapping(members.get("runtime-data"), "runtime-data")
    composite = _mapping(members.get("tee-evidence"), "tee-evidence")
    initdata = members.get("init-data")
    document = {} if initdata is None else _mapping(initdata, "init-data")
    body = document.get("body")
    return AttestRequest(
        form=Form.V0_4,
        nonce=_text(runtime.get("nonce")),
        tee_pubkey=_mapping(runtime.get("tee-pubkey"), "tee-pubkey"),
        evidence=_mapping(composite.get("primary_evidence"), "primary_evidence"),
        additional_evidence=_text(composite.get("additional_evidence")),
        initdata=body.encode() if isinstance(body, str) else None,
        initdata_format=_text(document.get("format")),
    )


def _mapping(value: object, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise BundleError(PART, f"member {name} is missing or not an object")
    return value


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
