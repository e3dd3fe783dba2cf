"""The stricter rules by which the Attestation Agent of v0.8 read a request.

Source: guest-components ``attestation-agent/app/src/rpc/keyprovider`` at v0.8.0. There the request
also says which key broker client and key broker to use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from keywrap.encoding import from_base64
from keywrap.envelope import decode_annotation, decode_envelope
from keywrap.errors import RequestFormatError

AGENT_NAME: Final = "attestation-agent"  # the key provider's name in dc.Parameters
UNWRAP: Final = "keyunwrap"
SEPARATOR: Final = "::"
PARAMETER: Final = f"dc.Parameters.{AGENT_NAME}"


class _Parameters(msgspec.Struct):
    parameters: dict[str, list[str]] = msgspec.field(name="Parameters")


class _EncryptConfig(msgspec.Struct):
    parameters: dict[str, list[str]] = msgspec.field(name="Parameters")
    decrypt_config: _Parameters = msgspec.field(name="DecryptConfig")


class _WrapParams(msgspec.Struct):
    ec: _EncryptConfig | None = None
    optsdata: str | None = None


class _UnwrapParams(msgspec.Struct):
    dc: _Parameters | None = None
    annotation: str | None = None


class _Envelope(msgspec.Struct):
    op: str
    keywrapparams: _WrapParams
    keyunwrapparams: _UnwrapParams


@dataclass(frozen=True, slots=True)
class OlderUnwrapRequest:
    """A packet, and the key broker that the request names."""

    kbc_name: str
    kbs_uri: str
    packet: bytes


def parse_older_unwrap_request(data: bytes) -> OlderUnwrapRequest:
    """Read a request by the rules of v0.8. Raises :class:`RequestFormatError` and nothing else."""
    envelope = decode_envelope(data, _Envelope)
    if envelope.op != UNWRAP:
        raise RequestFormatError("op", "expected keyunwrap", hint="encrypt images elsewhere")
    wrap, params = envelope.keywrapparams, envelope.keyunwrapparams
    if wrap.ec is not None and (wrap.ec.parameters or wrap.ec.decrypt_config.parameters):
        raise RequestFormatError("keywrapparams.ec", "expected none")
    if wrap.optsdata:
        raise RequestFormatError("keywrapparams.optsdata", "expected none")
    if params.dc is None or not params.dc.parameters:
        raise RequestFormatError("keyunwrapparams.dc", "missing")
    if not params.annotation:
        raise RequestFormatError("keyunwrapparams.annotation", "missing")
    values = params.dc.parameters.get(AGENT_NAME)
    if not values:
        raise RequestFormatError(PARAMETER, "missing")
    kbc_name, kbs_uri = _broker(values[0])
    return OlderUnwrapRequest(kbc_name, kbs_uri, decode_annotation(params.annotation))


def _broker(text: str) -> tuple[str, str]:
    decoded = from_base64(text)
    try:
        params = (decoded or b"").decode()
    except UnicodeDecodeError:
        params = ""
    return split_kbc_params(params)


def split_kbc_params(params: str) -> tuple[str, str]:
    """Split ``kbc::uri`` at the first separator. Raises :class:`RequestFormatError`."""
    name, separator, uri = params.partition(SEPARATOR)
    if not separator or not name or not uri:
        raise RequestFormatError(PARAMETER, "expected base64 of NAME::URI")
    return name, uri
