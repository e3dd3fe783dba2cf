"""Sealed secrets: signed texts that only an attested guest can turn into a value.

Parsing (``textual``, ``payload``), authentication (``signature``) and obtaining the value
(``vault``) are separate; ``unseal`` puts them in order.
"""

from __future__ import annotations
