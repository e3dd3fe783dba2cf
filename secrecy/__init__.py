"""What keeps secrets secret inside this process: the ``Secret`` type, redacting logs, hardening.

Imports nothing of ours; everything else may import it.
"""

from __future__ import annotations

from secrecy.secret import Secret, SecretEncodingError

__all__ = ["Secret", "SecretEncodingError"]
