"""Report data that a caller of this guest chose, told apart from the agent's own handshakes.

A process that may ask for evidence over any 64 bytes can have its own key bound by it, and so
attest to a KBS as this guest. The reference's interface promises those very bytes in the
evidence, so this is a setting; see docs/adr/0010-report-data.md.
"""

from __future__ import annotations

import hashlib
from typing import Final

# Neither canonical JSON nor a nonce begins like this, so it is no input of a handshake's digest.
CALLER_LABEL: Final = b"confidential-guest caller evidence v1\0"


def labelled(runtime_data: bytes) -> bytes:
    """Return the 64 bytes that evidence for a caller carries instead of ``runtime_data``."""
    return hashlib.sha512(CALLER_LABEL + runtime_data).digest()
