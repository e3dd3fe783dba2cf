"""Files of further trust anchors that the hub's configuration names."""

from __future__ import annotations

import os
import ssl

from lifecycle import SettingsError


def read_roots(path: str, key: str, max_bytes: int) -> str:
    """Return the PEM certificates in ``path``, which the setting ``key`` names. Blocks.

    Raises :class:`~lifecycle.SettingsError` for a file that cannot be read, is longer, or holds
    none.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise SettingsError(path, f"{key} cannot be read: {reason}") from error
    if len(content) > max_bytes or not content.isascii():
        raise SettingsError(path, f"{key}: not PEM of at most {max_bytes} bytes")
    text = content.decode("ascii")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise SettingsError(path, f"{key}: no usable certificate in PEM") from error
    return text
