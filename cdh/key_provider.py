"""``UnWrapKey``: the private options of an encrypted image layer, for whoever pulls the image.

The layer's annotation says which resource is the key encryption key. Anyone can write an
annotation, so what comes out says nothing about who encrypted the layer; only a signature of the
image does.
"""

from __future__ import annotations

from typing import Final

from cdh.answers import as_status, cause_line
from cdh.hub import ConfidentialDataHub
from keywrap import RequestFormatError, parse_unwrap_request, unwrap_reply
from protos import keyprovider_pb2
from secrecy.journal import get_logger
from ttrpc import CallContext, Code, StatusError

log = get_logger("cdh")

PARSE_FAILED: Final = "[ERROR] UnwrapKey Parse request failed"
UNWRAP_FAILED: Final = "Decrypt Image (UnwrapKey) failed"


class KeyProviderServicer:
    """Implements ``keyprovider.KeyProviderService`` on the hub's socket."""

    def __init__(self, hub: ConfidentialDataHub) -> None:
        self._hub = hub

    async def unwrap_key(
        self, request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput, _context: CallContext
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        try:
            parsed = parse_unwrap_request(request.KeyProviderKeyWrapProtocolInput)
        except RequestFormatError as error:
            cause = cause_line(error)
            log.warning("request failed", operation=PARSE_FAILED, cause=cause)
            raise StatusError(Code.INTERNAL, f"{PARSE_FAILED}: {cause}") from error
        async with as_status(UNWRAP_FAILED):
            options = await self._hub.unwrap_key(parsed.packet)
            return keyprovider_pb2.KeyProviderKeyWrapProtocolOutput(
                KeyProviderKeyWrapProtocolOutput=unwrap_reply(options).reveal()
            )
