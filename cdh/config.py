"""The hub's configuration: the reference's ``cdh.toml`` keys, and ours under ``[mounts]``.

Unknown keys are errors. Keys of the reference for pulling images are known and checked, so that a
stock file starts this hub; that they have no effect is said at each start. Where values come
from, and which of them weaken security, is in :mod:`cdh.settings`.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final, Literal

from cdh.errors import ConfigurationRefusedError, SecretPolicyError
from cdh.image_config import ImageSection
from cdh.kms_config import KmsSection
from cdh.mounts.endpoint import parse_endpoint
from cdh.mounts.spec import MountPolicy
from cdh.roots import read_roots
from cdh.secret_policy import SecretPolicy, SecretsSection
from cdh.section import Section
from kbs import ResourceUri, ResourceUriError
from lifecycle import UnixAddress
from lifecycle.addresses import CC_KBC
from lifecycle.log_filter import LogConfig
from serving.doors import parse_door

DEFAULT_SOCKET: Final = "unix:///run/confidential-containers/cdh.sock"
AGENT_SOCKET: Final = "unix:///run/confidential-containers/attestation-agent/attestation-agent.sock"
OFFLINE_KBC: Final = "offline_fs_kbc"
# The places of guest-components, kms/plugins/kbs/offline_fs.rs.
OFFLINE_FILES: Final = (
    "/etc/aa-offline_fs_kbc-keys.json",
    "/etc/aa-offline_fs_kbc-resources.json",
)
MAX_CA_BYTES: Final = 32 * 1024  # has to fit into a launch document with everything else
MIN_MEMORY: Final = 32 << 20  # bytes; a mount process refuses less
MAX_STALE_SECONDS: Final = 7 * 24 * 3600
MAX_REPLICAS: Final = 8
BROKER_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.\-]{0,252}", re.ASCII)


class AgentSection(Section, frozen=True):
    aa_socket: str = AGENT_SOCKET


class NamedKbc(Section, frozen=True):
    """A further key broker, chosen by the host part of a resource URI: its name or address."""

    name: str
    url: str
    urls: tuple[str, ...] = ()
    kbs_cert: str | None = None
    pins: tuple[str, ...] = ()
    proxy: str | None = None


class KbcSection(Section, frozen=True):
    """``url`` empty: no key broker. All but the first, second and ``kbs_cert`` are ours.

    ``urls`` are further addresses of the same broker, ``named`` further brokers, ``pins`` are as
    in :class:`kbs.KbsTls`, ``proxy`` is ``http://host:port``. Contents are kept for
    ``cache_seconds``, or ``serve_stale_seconds`` while the broker is away. ``offline_files`` are
    read if ``name`` is ``offline_fs_kbc``.
    """

    name: str = CC_KBC
    url: str = ""
    urls: tuple[str, ...] = ()
    named: tuple[NamedKbc, ...] = ()
    kbs_cert: str | None = None
    pins: tuple[str, ...] = ()
    proxy: str | None = None
    cache_seconds: float = 0.0
    serve_stale_seconds: float = 0.0
    offline_files: tuple[str, ...] = OFFLINE_FILES


class Credential(Section, frozen=True):
    """A resource that is wanted as a file: :mod:`cdh.credentials`."""

    resource_uri: str
    path: str


class MountsSection(Section, frozen=True):
    """Ours. ``endpoints`` empty admits every https endpoint; ``ca_file`` adds roots for OSS.

    ``memory_mib`` bounds each mount's cache and buffers; ``log_level`` is the mount processes'.
    """

    allowed_roots: tuple[str, ...] = ("/run", "/mnt", "/var/lib/cguest/mounts")
    allow_http: bool = False
    ca_file: str | None = None
    endpoints: tuple[str, ...] = ()
    memory_mib: int = 256
    log_level: Literal["debug", "info", "warning", "error"] = "warning"

    def policy(self) -> MountPolicy:
        """Return the policy. Raises ``MountRefusedError`` for an endpoint that is none."""
        return MountPolicy(
            allowed_roots=self.allowed_roots,
            endpoints=frozenset(parse_endpoint(text).location for text in self.endpoints),
            allow_http=self.allow_http,
        )

    def ca_pem(self) -> str | None:
        """Read ``ca_file``. Raises :class:`~lifecycle.SettingsError`."""
        if self.ca_file is None:
            return None
        return read_roots(self.ca_file, "mounts.ca_file", MAX_CA_BYTES)


class CdhConfig(Section, frozen=True):
    """The whole file. Sections left out have their defaults."""

    socket: str = DEFAULT_SOCKET
    aa: AgentSection = AgentSection()
    kbc: KbcSection = KbcSection()
    credentials: tuple[Credential, ...] = ()
    skip_sealed_secret_verification: bool = False
    log: LogConfig = LogConfig()
    image: ImageSection = ImageSection()
    mounts: MountsSection = MountsSection()
    kms: KmsSection = KmsSection()
    secrets: SecretsSection = SecretsSection()

    def policy(self) -> SecretPolicy:
        """Return ``[secrets]``, parsed. Raises ``ConfigurationRefusedError`` for a rule."""
        return self.secrets.policy(with_host=bool(self.kbc.named))

    def check(self) -> None:
        """Raise for what is absent here, or for values that cannot work. Reads no files.

        Raises :class:`~cdh.errors.CdhError` or :class:`~lifecycle.LifecycleError`.
        """
        _check_name(self.kbc.name)
        parse_door(self.socket)
        UnixAddress.parse(self.aa.aa_socket)
        if self.kbc.cache_seconds < 0:
            raise ConfigurationRefusedError("kbc.cache_seconds", "negative")
        if not 0 <= self.kbc.serve_stale_seconds <= MAX_STALE_SECONDS:
            raise ConfigurationRefusedError("kbc.serve_stale_seconds", "not from 0 to a week")
        _check_brokers(self.kbc)
        for root in self.mounts.allowed_roots:
            if not root.startswith("/") or ".." in Path(root).parts:
                raise ConfigurationRefusedError("mounts.allowed_roots", "not an absolute path")
        if self.mounts.memory_mib << 20 < MIN_MEMORY:
            raise ConfigurationRefusedError("mounts.memory_mib", "less than 32")
        self.mounts.policy()
        self.kms.check()
        _check_secrets(self)


def _check_secrets(config: CdhConfig) -> None:
    if config.secrets.kids and config.skip_sealed_secret_verification:
        raise ConfigurationRefusedError(
            "secrets.kids", "without effect, because skip_sealed_secret_verification is true"
        )
    policy = config.policy()
    for number, credential in enumerate(config.credentials):
        # A malformed URI is told by whoever fetches it.
        with contextlib.suppress(ResourceUriError):
            uri = ResourceUri.parse(credential.resource_uri)
            try:
                policy.require_resource(uri)
            except SecretPolicyError as error:
                raise ConfigurationRefusedError(f"credentials[{number}]", str(error)) from error


def _check_brokers(kbc: KbcSection) -> None:
    if kbc.name == OFFLINE_KBC and (kbc.url or kbc.urls or kbc.named):
        raise ConfigurationRefusedError(
            "kbc.url", f"{OFFLINE_KBC} asks no key broker", hint=f"use {CC_KBC}, or leave it out"
        )
    if not all(path.startswith("/") for path in kbc.offline_files):
        raise ConfigurationRefusedError("kbc.offline_files", "not an absolute path")
    if (kbc.urls or kbc.named) and not kbc.url:
        raise ConfigurationRefusedError("kbc.url", "empty, but there are further key brokers")
    if max(len(urls) for urls in (kbc.urls, *(named.urls for named in kbc.named))) > MAX_REPLICAS:
        raise ConfigurationRefusedError("kbc.urls", f"more than {MAX_REPLICAS}")
    names = [named.name.lower() for named in kbc.named]
    if len(set(names)) < len(names):
        raise ConfigurationRefusedError("kbc.named", "a name is given twice")
    if not all(BROKER_NAME.fullmatch(name) for name in names):
        raise ConfigurationRefusedError(
            "kbc.named", "a name is not of the form of a host", hint="letters, digits, '-' and '.'"
        )


def _check_name(name: str) -> None:
    if name not in {CC_KBC, OFFLINE_KBC}:
        raise ConfigurationRefusedError("kbc.name", "unknown", hint=f"use {CC_KBC}")
