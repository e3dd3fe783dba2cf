"""``kbs:///repository/type/tag``: the name of a resource in a Key Broker Service.

Reads the grammar of guest-components' ``resource_uri`` crate (v0.21): ``kbs[+PLUGIN]://[host
[:port]]/segment[/segment...][?query]``. The host is read and then ignored by the fetch: the
configured KBS is asked. Where the crate is lax (opaque paths, white space, empty segments) this
parser refuses. What the KBS allows for the plugin ``resource`` is narrower still and checked by
:meth:`ResourceUri.require_resource_path`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from kbs.errors import ResourceUriError

MAX_URI_CHARACTERS: Final = 2048  # keeps the request line far below every server's limit
RESOURCE_PLUGIN: Final = "resource"

_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):", re.ASCII)
_PLUGIN: Final = re.compile(r"[a-z0-9][a-z0-9.\-]*", re.ASCII)
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9.\-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?", re.ASCII)
# RFC 3986 3.3 pchar; a percent sign only as part of an escape.
_SEGMENT: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})+", re.ASCII)
_QUERY: Final = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*", re.ASCII)
# An escaped dot or slash could mean another path to the server than to us.
_ESCAPED_STRUCTURE: Final = re.compile(r"%(?:2[EeFf]|5[Cc]|00)", re.ASCII)
# trustee kbs/src/plugins/implementations/resource/backend.rs: the KBS's own rule for a segment.
_RESOURCE_SEGMENT: Final = re.compile(r"[a-zA-Z0-9_\-]+[a-zA-Z0-9_\-.]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ResourceUri:
    """A parsed resource URI. Two URIs that differ only in ``address`` are the same resource."""

    plugin: str
    segments: tuple[str, ...]
    query: str | None = None
    address: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> ResourceUri:
        """Read ``text``. Raises :class:`~kbs.errors.ResourceUriError`."""
        if len(text) > MAX_URI_CHARACTERS:
            raise ResourceUriError(text, f"longer than {MAX_URI_CHARACTERS} characters")
        scheme = _SCHEME.match(text)
        if scheme is None:
            raise ResourceUriError(text, "invalid kbs resource uri, it has no scheme")
        plugin = _plugin_of(text, scheme[1].lower())
        rest = text[scheme.end() :].partition("#")[0]
        location, question_mark, query = rest.partition("?")
        if not _QUERY.fullmatch(query):
            raise ResourceUriError(text, "invalid kbs resource uri, a character in the query")
        address, path = _split_address(text, location)
        return cls(
            plugin=plugin,
            segments=_segments_of(text, path),
            query=query if question_mark else None,
            address=address,
        )

    def require_resource_path(self) -> None:
        """Check what the KBS demands of plugin ``resource``: exactly repository, type and tag.

        Asking here saves a round trip whose answer ("plugin internal error") explains nothing.
        Raises :class:`~kbs.errors.ResourceUriError`. Other plugins have rules of their own and
        pass.
        """
        if self.plugin != RESOURCE_PLUGIN:
            return
        if len(self.segments) != 3:
            hint = ""
            if self.address and len(self.segments) == 2:
                hint = (
                    f"{self.address!r} was read as a host; with three slashes it is the "
                    f"repository: kbs:///{self.address}/{'/'.join(self.segments)}"
                )
            problem = f"expected repository/type/tag, got {len(self.segments)} segment(s)"
            raise ResourceUriError(str(self), problem, hint=hint)
        for segment in self.segments:
            if not _RESOURCE_SEGMENT.fullmatch(segment):
                raise ResourceUriError(
                    str(self),
                    f"segment {segment[:64]!r} is not allowed by the KBS",
                    hint="letters, digits, '_', '-' and, not in front, '.'",
                )

    def http_target(self) -> str:
        """Return path and query below the API prefix, ``plugin/a/b/c[?query]``, already escaped."""
        target = "/".join((self.plugin, *self.segments))
        return target if self.query is None else f"{target}?{self.query}"

    def __str__(self) -> str:
        scheme = "kbs" if self.plugin == RESOURCE_PLUGIN else f"kbs+{self.plugin}"
        text = f"{scheme}://{self.address}/{'/'.join(self.segments)}"
        return text if self.query is None else f"{text}?{self.query}"


def _plugin_of(text: str, scheme: str) -> str:
    name, plus, plugin = scheme.partition("+")
    if name != "kbs":
        raise ResourceUriError(text, "scheme must be kbs or kbs+<plugin>")
    if not plus:
        return RESOURCE_PLUGIN
    if not plugin:
        raise ResourceUriError(
            text, "scheme kbs+ requires a plugin name", hint="for example kbs+pkcs11:///..."
        )
    if not _PLUGIN.fullmatch(plugin):
        raise ResourceUriError(text, "the plugin name has a character that is not allowed")
    return plugin


def _split_address(text: str, location: str) -> tuple[str, str]:
    """Split what follows the scheme into address and path."""
    if location.startswith("//"):
        address, slash, path = location[2:].partition("/")
        if address and not _ADDRESS.fullmatch(address):
            raise ResourceUriError(text, "invalid kbs resource uri, the host is malformed")
        return address, slash + path
    if location.startswith("/"):
        return "", location
    # The reference reads "kbs:a/b/c" by cutting the first character off; nobody can mean that.
    raise ResourceUriError(text, "invalid kbs resource uri, the path does not begin with '/'")


def _segments_of(text: str, path: str) -> tuple[str, ...]:
    """Split the path, resolving ``.`` and ``..`` as the WHATWG URL standard does."""
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            del segments[-1:]
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")  # as the URL standard: such a path names a directory
    if not segments or segments == [""]:
        raise ResourceUriError(text, "invalid kbs resource uri, the path is empty")
    for segment in segments:
        if not segment:
            raise ResourceUriError(text, "invalid kbs resource uri, a path segment is empty")
        if not _SEGMENT.fullmatch(segment) or _ESCAPED_STRUCTURE.search(segment):
            raise ResourceUriError(text, "invalid kbs resource uri, a character in the path")
    return tuple(segments)
