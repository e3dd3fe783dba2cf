"""``[secrets]``: which secrets this guest may open at all, whatever the key broker would release.

Rules are allow-lists of the measured configuration; a list that is empty or left out allows
everything, as the reference does. Pure decisions: who fetches and who unseals asks here first. A
rule is read by the parser that reads the URIs it is compared with, so both are in one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cdh.errors import ConfigurationRefusedError, SecretPolicyError
from cdh.resources import ResourceSource
from cdh.section import Section
from kbs import ResourceUri, ResourceUriError
from secrecy import Secret

ANY: Final = "*"
ANY_BELOW: Final = "**"
MAX_RULES: Final = 1024
_PROVIDER: Final = re.compile(r"[A-Za-z0-9_\-]{1,32}", re.ASCII)


def glob_matches(pattern: str, text: str) -> bool:
    """Whether ``text`` is ``pattern``, in which each ``*`` stands for any characters or none.

    Takes time in proportion to the text for any pattern.
    """
    first, *rest = pattern.split(ANY)
    if not rest:
        return text == pattern
    *middle, last = rest
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@dataclass(frozen=True, slots=True)
class ResourceRule:
    """A resource URI with ``*`` in it: within one segment, the query, or for any host.

    ``**`` as the last segment stands for one or more. A rule without a query names no URI that
    has one.
    """

    plugin: str
    address: str
    segments: tuple[str, ...]
    query: str | None

    @classmethod
    def parse(cls, text: str) -> ResourceRule:
        """Raises ``kbs.ResourceUriError``."""
        any_host = "://*/" in text
        uri = ResourceUri.parse(text.replace("://*/", ":///", 1))
        if "%" in text or "#" in text or not {".", ".."}.isdisjoint(text.split("/")):
            raise ResourceUriError(text, "a rule has no '%', no '#' and no segment '.' or '..'")
        if ANY_BELOW in "/".join(uri.segments[:-1]) or (
            ANY_BELOW in uri.segments[-1] and uri.segments[-1] != ANY_BELOW
        ):
            raise ResourceUriError(text, "'**' can only be the whole last segment")
        return cls(uri.plugin, ANY if any_host else uri.address.lower(), uri.segments, uri.query)

    def names(self, uri: ResourceUri, *, with_host: bool) -> bool:
        """Whether the rule is about ``uri``. Without ``with_host`` hosts mean nothing.

        A server undoes escapes before it looks, so a URI with one is named by no rule.
        """
        if self.plugin != uri.plugin or _is_escaped(uri):
            return False
        if with_host and self.address not in {ANY, uri.address.lower()}:
            return False
        if self.query is None or uri.query is None:
            if self.query != uri.query:
                return False
        elif not glob_matches(self.query, uri.query):
            return False
        return self._names_path(uri.segments)

    def _names_path(self, segments: tuple[str, ...]) -> bool:
        own = self.segments
        if own[-1] == ANY_BELOW:
            own = own[:-1]
            if len(segments) <= len(own):
                return False
            segments = segments[: len(own)]
        return len(own) == len(segments) and all(map(glob_matches, own, segments))


def _is_escaped(uri: ResourceUri) -> bool:
    return any("%" in part for part in (*uri.segments, uri.query or ""))


@dataclass(frozen=True, slots=True)
class SecretPolicy:
    """The rules, parsed. Each method returns, or raises :class:`SecretPolicyError`.

    ``with_host``: there are several key brokers and the host part of a URI chooses one.
    """

    resources: tuple[ResourceRule, ...] = ()
    kids: tuple[ResourceRule | str, ...] = ()
    providers: frozenset[str] = frozenset()
    kms_secrets: tuple[str, ...] = ()
    kms_keys: tuple[str, ...] = ()
    with_host: bool = False

    def require_resource(self, uri: ResourceUri) -> None:
        if self.resources and not self._any_names(self.resources, uri):
            raise SecretPolicyError("resources", str(uri))

    def require_kid(self, kid: ResourceUri | str) -> None:
        """Judge where a signing key is. Without rules for it, it is a resource like others."""
        if not self.kids:
            if isinstance(kid, ResourceUri):
                self.require_resource(kid)
        elif isinstance(kid, ResourceUri):
            if not self._any_names(self.kids, kid):
                raise SecretPolicyError("kids", str(kid))
        elif not _any_matches((rule for rule in self.kids if isinstance(rule, str)), kid):
            raise SecretPolicyError("kids", kid)

    def require_provider(self, provider: str) -> None:
        if self.providers and provider.lower() not in self.providers:
            raise SecretPolicyError("providers", provider)

    def require_kms_secret(self, name: str) -> None:
        if self.kms_secrets and not _any_matches(self.kms_secrets, name):
            raise SecretPolicyError("kms_secrets", name)

    def require_kms_key(self, key_id: str) -> None:
        if self.kms_keys and not _any_matches(self.kms_keys, key_id):
            raise SecretPolicyError("kms_keys", key_id)

    def _any_names(self, rules: Iterable[ResourceRule | str], uri: ResourceUri) -> bool:
        return any(
            isinstance(rule, ResourceRule) and rule.names(uri, with_host=self.with_host)
            for rule in rules
        )


def _any_matches(patterns: Iterable[str], text: str) -> bool:
    return any(glob_matches(pattern, text) for pattern in patterns)


ALLOW_ALL: Final = SecretPolicy()


@dataclass(frozen=True, slots=True)
class AllowedResources:
    """A source that asks nobody for what the policy does not name."""

    inner: ResourceSource
    policy: SecretPolicy

    async def get(self, uri: ResourceUri) -> Secret:
        """Raises :class:`SecretPolicyError`, else as the source behind."""
        self.policy.require_resource(uri)
        return await self.inner.get(uri)


class SecretsSection(Section, frozen=True):
    """The rules as they are written. ``kids`` are resource URIs or file names."""

    resources: tuple[str, ...] = ()
    kids: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    kms_secrets: tuple[str, ...] = ()
    kms_keys: tuple[str, ...] = ()

    def policy(self, *, with_host: bool) -> SecretPolicy:
        """Raises :class:`ConfigurationRefusedError` for a rule that cannot be one."""
        for name in self.__struct_fields__:
            rules = getattr(self, name)
            if len(rules) > MAX_RULES or not all(rules):
                raise ConfigurationRefusedError(
                    f"secrets.{name}", f"an empty rule, or more than {MAX_RULES}"
                )
        for provider in self.providers:
            if not _PROVIDER.fullmatch(provider):
                raise ConfigurationRefusedError(
                    "secrets.providers", "not a name", hint="kbs or aliyun"
                )
        return SecretPolicy(
            resources=tuple(_rule("resources", text) for text in self.resources),
            kids=tuple(_rule("kids", text) if ":" in text else text for text in self.kids),
            providers=frozenset(provider.lower() for provider in self.providers),
            kms_secrets=self.kms_secrets,
            kms_keys=self.kms_keys,
            with_host=with_host,
        )


def _rule(name: str, text: str) -> ResourceRule:
    try:
        return ResourceRule.parse(text)
    except ResourceUriError as error:
        raise ConfigurationRefusedError(
            f"secrets.{name}", str(error), hint="for example kbs:///default/db/*"
        ) from error
