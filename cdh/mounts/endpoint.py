"""The address of the object store in a mount request: parsed, then judged against the policy.

The request comes through the host, which could point a mount at a server of its own or ask for
plain HTTP. Whoever knows the endpoints of a deployment lists them in ``mounts.endpoints``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from cdh.errors import MountRefusedError

MAX_URL: Final = 512  # characters
_HOST: Final = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9.-]*[a-z0-9])?", re.ASCII)
_REGION: Final = re.compile(
    r"oss-([a-z0-9-]+?)(-internal)?\.aliyuncs\.com"  # public and VPC names
    r"|([a-z0-9-]+?)(-internal)?\.oss-data-acc\.aliyuncs\.com",  # accelerated read
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Scheme, host (lower case, without brackets) and port, None for the scheme's own."""

    scheme: str
    host: str
    port: int | None

    @property
    def location(self) -> str:
        """``host[:port]`` as in a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.location}"

    @property
    def region(self) -> str | None:
        """The region an Alibaba Cloud endpoint name contains, None for other names."""
        match = _REGION.fullmatch(self.host)
        return (match[1] or match[3]) if match else None

    @property
    def needs_path_style(self) -> bool:
        """An IP address or ``localhost`` cannot carry the bucket in front."""
        if self.host == "localhost":
            return True
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


def _split(url: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(url)
        return parts, parts.port
    except ValueError as error:
        raise MountRefusedError("url", "not a URL") from error


def parse_endpoint(url: str) -> Endpoint:
    """Parse ``url``; without a scheme it means https. Raises :class:`MountRefusedError`.

    Only scheme, host and port may be given: user, path, query and fragment are refused.
    """
    if len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise MountRefusedError("url", f"not a URL of at most {MAX_URL} characters")
    parts, port = _split(url if "://" in url else f"https://{url}")
    if parts.scheme not in ("https", "http"):
        raise MountRefusedError("url", "the scheme is not https")
    if "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise MountRefusedError("url", "more than scheme, host and port", hint="write https://HOST")
    host = (parts.hostname or "").lower()
    if not _is_host(host) or port == 0:
        raise MountRefusedError(
            "url", "the host is missing or malformed", hint="write https://HOST"
        )
    return Endpoint(parts.scheme, host, port)


def _is_host(host: str) -> bool:
    if ":" in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            return False
        return True
    return bool(_HOST.fullmatch(host)) and ".." not in host


def admit_endpoint(endpoint: Endpoint, allowed: Collection[str], *, allow_http: bool) -> None:
    """Raise :class:`MountRefusedError` unless the policy admits ``endpoint``.

    ``allowed`` holds ``host`` or ``host:port``; empty admits every https endpoint.
    """
    if endpoint.scheme == "http" and not allow_http:
        raise MountRefusedError(
            "url",
            "plain http is refused: the host could read and change everything",
            hint="use https, or set mounts.allow_http in a measured configuration",
        )
    if allowed and endpoint.location not in allowed and endpoint.host not in allowed:
        raise MountRefusedError(
            "url",
            f"{endpoint.location} is not an allowed endpoint",
            hint="extend mounts.endpoints",
        )
