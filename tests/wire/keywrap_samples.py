"""Packets and requests made here, with a cipher of our own choosing, for tests of keywrap."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from keywrap import parse_packet, unwrap
from secrecy import Secret

KEK = bytes(range(32))
KID = "kbs:///default/image-kek/test-1"
OPTIONS = (
    b'{"symkey":"QEFCQ0RFRkdISUpLTE1OT1BRUlNUVVZXWFlaW1xdXl8=",'
    b'"digest":"sha256:' + b"1" * 64 + b'","cipheroptions":{"nonce":"AAECAwQFBgcICQoLDA0ODw=="}}'
)


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def gcm_packet(
    options: bytes = OPTIONS, *, kek: bytes = KEK, iv: bytes = b"i" * 12, **changed: Any
) -> dict[str, Any]:
    wrapped = AESGCM(kek).encrypt(iv, options, None)
    packet = {"kid": KID, "wrapped_data": b64(wrapped), "iv": b64(iv), "wrap_type": "A256GCM"}
    return packet | changed


def ctr_packet(
    options: bytes = OPTIONS, *, kek: bytes = KEK, iv: bytes = b"\xff" * 16, **changed: Any
) -> dict[str, Any]:
    cipher = Cipher(algorithms.AES256(kek), modes.CTR(iv)).encryptor()
    wrapped = cipher.update(options) + cipher.finalize()
    packet = {"kid": KID, "wrapped_data": b64(wrapped), "iv": b64(iv), "wrap_type": "A256CTR"}
    return packet | changed


def request_for(packet: dict[str, Any], **changed: Any) -> bytes:
    """Return the request that ocicrypt-rs writes inside a guest."""
    request = {
        "op": "keyunwrap",
        "keywrapparams": {"ec": None, "optsdata": None},
        "keyunwrapparams": {
            "dc": {"Parameters": {}},
            "annotation": b64(json.dumps(packet).encode()),
        },
    }
    return json.dumps(request | changed).encode()


def older_request_for(
    packet: dict[str, Any], params: str = "cc_kbc::http://kbs.example.org", **changed: Any
) -> bytes:
    """Return the request of image-rs of the 0.8 era."""
    return request_for(
        packet,
        keyunwrapparams={
            "dc": {"Parameters": {"attestation-agent": [b64(params.encode())]}},
            "annotation": b64(json.dumps(packet).encode()),
        },
        **changed,
    )


def reply_options(reply: bytes) -> bytes:
    """Return what a reply holds; its integers are read as ocicrypt-rs reads them."""
    members = json.loads(reply)
    assert set(members) == {"keyunwrapresults"} and set(members["keyunwrapresults"]) == {"optsdata"}
    return bytes(members["keyunwrapresults"]["optsdata"])


def unwrapped(packet: dict[str, Any], kek: bytes = KEK) -> bytes:
    """What the product makes of a packet."""
    return unwrap(parse_packet(json.dumps(packet).encode()), Secret(kek)).reveal()
