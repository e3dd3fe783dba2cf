"""Reference values as Trustee's RVPS takes and gives them: names to sets of good values.

Source: trustee ``rvps/src`` (message, stored values) and ``kbs/docs`` (POST and GET
``/reference-value``). Names are those of the TDX claims (``rtmr_1``, ``mr_td``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from explain.errors import BundleError, ReferenceValuesError
from explain.part_json import decode_json
from tdx.quote import Quote

MAX_NAMES: Final = 256
MAX_VALUES: Final = 256  # per name
MESSAGE_VERSION: Final = "0.1.0"
MESSAGE_TYPE: Final = "sample"

# Claim names of Trustee to fields of the quote: what can be compared from the quote alone.
QUOTE_FIELDS: Final = {
    "mr_td": "mr_td",
    "rtmr_0": "rtmr0",
    "rtmr_1": "rtmr1",
    "rtmr_2": "rtmr2",
    "rtmr_3": "rtmr3",
    "mr_seam": "mr_seam",
    "mrsigner_seam": "mrsigner_seam",
    "mr_config_id": "mr_config_id",
    "mr_owner": "mr_owner",
    "mr_owner_config": "mr_owner_config",
    "xfam": "xfam",
    "td_attributes": "td_attributes",
    "tcb_svn": "tee_tcb_svn",
}
# The names of Intel's specification mean the same.
SYNONYMS: Final = {
    "rt_mr0": "rtmr_0", "rt_mr1": "rtmr_1", "rt_mr2": "rtmr_2", "rt_mr3": "rtmr_3",
    "rtmr0": "rtmr_0", "rtmr1": "rtmr_1", "rtmr2": "rtmr_2", "rtmr3": "rtmr_3",
    "mrtd": "mr_td", "tee_tcb_svn": "tcb_svn",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReferenceValues:
    """Good values by claim name, in lower case. A name without values is not compared."""

    values: Mapping[str, tuple[str, ...]]

    def good(self, name: str) -> tuple[str, ...]:
        """Return the good values of a name; empty if there are none."""
        return self.values.get(name, ())

    def message(self) -> bytes:
        """Return the body of ``POST /kbs/v0/reference-value``."""
        payload = msgspec.json.encode({name: list(good) for name, good in self.values.items()})
        return msgspec.json.encode(
            {
                "version": MESSAGE_VERSION,
                "type": MESSAGE_TYPE,
                "payload": base64.b64encode(payload).decode(),
            }
        )


def claims_of(quote: Quote) -> dict[str, str]:
    """Return what the quote says under the names of the claims, in lower-case hex."""
    return {name: getattr(quote.body, field).hex() for name, field in QUOTE_FIELDS.items()}


def parse_reference_values(data: bytes) -> ReferenceValues:
    """Read a map, an RVPS message, or a list of stored values.

    Raises :class:`~explain.errors.ReferenceValuesError`.
    """
    value = _json(data)
    if isinstance(value, dict) and isinstance(value.get("payload"), str):
        value = _json(_payload(value["payload"]))
    if isinstance(value, list):
        value = dict(_stored(item) for item in value)
    if not isinstance(value, dict):
        raise ReferenceValuesError("expected a map, a message or a list of values")
    if len(value) > MAX_NAMES:
        raise ReferenceValuesError(f"{len(value)} names, at most {MAX_NAMES} are read")
    return ReferenceValues(
        {SYNONYMS.get(str(name), str(name)): _good(str(name), good) for name, good in value.items()}
    )


def _json(data: bytes) -> object:
    try:
        return decode_json(data, "reference-values.json")
    except BundleError as error:
        raise ReferenceValuesError("not JSON") from error


def _payload(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ReferenceValuesError("the payload is not standard base64") from error


def _stored(item: object) -> tuple[str, object]:
    """One value as the RVPS stores it: ``value`` today, ``hash-value`` in older releases."""
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        raise ReferenceValuesError("a stored value has no name")
    if "hash-value" in item:
        hashes = item["hash-value"]
        if not isinstance(hashes, list) or not all(isinstance(one, dict) for one in hashes):
            raise ReferenceValuesError("hash-value is not a list of objects")
        return item["name"], [one.get("value") for one in hashes]
    return item["name"], item.get("value")


def _good(name: str, value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    if len(items) > MAX_VALUES:
        raise ReferenceValuesError(f"{name[:64]} has more than {MAX_VALUES} values")
    # Numbers and booleans are values too; they name no register.
    return tuple(_text(item) for item in items if item is not None)


def _text(item: object) -> str:
    if isinstance(item, str):
        # tcb_status and the like are words; registers are hex, whose case means nothing.
        return item.lower() if _is_hex(item) else item
    return str(item)


def _is_hex(text: str) -> bool:
    return all(c in "0123456789abcdefABCDEF" for c in text)
