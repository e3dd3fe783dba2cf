"""Addresses in the words of the reference: ``kbc::uri``, and URLs that leave the guest in clear."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from lifecycle.errors import SettingsError

KBC_PARAMS_VARIABLE: Final = "AA_KBC_PARAMS"
KBC_PARAMS_PARAMETER: Final = "agent.aa_kbc_params"
CC_KBC: Final = "cc_kbc"
MAX_URL: Final = 2048
OPEN_HTTP: Final = "http:// to another machine: whoever is between can be the key broker"


def parse_kbc_params(params: str, source: str) -> tuple[str, str]:
    """Return client kind and URL of ``kbc::url``, split at the first ``::``.

    The reference splits at each, so that an IPv6 address in the URL makes the text malformed.
    Raises :class:`SettingsError`, also for ``cc_kbc`` without a URL.
    """
    kind, separator, url = params.partition("::")
    if not separator or not kind or len(url) > MAX_URL or (kind == CC_KBC and not url):
        raise SettingsError(
            source,
            "aa_kbc_params is not of the form kind::url",
            hint="for example cc_kbc::https://kbs.example.org:8080",
        )
    return kind, url


def is_open_http(url: str) -> bool:
    """Whether ``url`` is ``http`` and its host another machine than this one.

    False for what is no URL: those who connect say so.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme.lower() != "http":
        return False
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() != "localhost"
