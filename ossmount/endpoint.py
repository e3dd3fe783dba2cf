"""Where the bucket is: endpoint text to URLs, virtual-host or path style.

Virtual host is ``https://BUCKET.HOST/KEY``; IP addresses and ``localhost`` have no sub-names, so
they get ``https://HOST/BUCKET/KEY``, as oss2 does it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from yarl import URL

from ossmount.errors import LaunchError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A checked endpoint together with the bucket addressed through it."""

    origin: str  # scheme://host[:port], bucket included when it is part of the host name
    path_prefix: str  # "/" or "/BUCKET/"
    host: str  # for messages
    secure: bool

    @classmethod
    def parse(cls, text: str, bucket: str, *, path_style: bool) -> Endpoint:
        """Raises :class:`LaunchError` unless ``text`` is ``http[s]://host[:port]``."""
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise LaunchError("endpoint is not a URL") from error
        extra = parts.path.rstrip("/") or parts.query or parts.fragment or parts.username
        if parts.scheme not in {"http", "https"} or not host or extra:
            raise LaunchError("endpoint must be http[s]://host[:port]", hint="no path, no user")
        authority = f"[{host}]" if ":" in host else host
        if port is not None:
            authority = f"{authority}:{port}"
        in_path = path_style or host == "localhost" or _is_address(host)
        return cls(
            origin=f"{parts.scheme}://{authority if in_path else f'{bucket}.{authority}'}",
            path_prefix=f"/{bucket}/" if in_path else "/",
            host=authority,
            secure=parts.scheme == "https",
        )

    def url(self, key: str, params: Mapping[str, str]) -> URL:
        """Return the URL of an object (or of the bucket, for an empty key), encoded once."""
        query = "&".join(
            f"{quote(name, safe='')}={quote(value, safe='')}" if value else quote(name, safe="")
            for name, value in params.items()
        )
        path = self.path_prefix + quote(key, safe="/~")
        return URL(f"{self.origin}{path}{'?' if query else ''}{query}", encoded=True)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
