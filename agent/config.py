"""Configuration of the attestation agent: the reference's ``aa.toml``, and sections of our own.

Accepts the keys of guest-components ``attestation-agent/config`` and refuses unknown ones, so
that a misspelled key is not a silent default. Where values come from, and which of them weaken
security, is in :mod:`agent.settings`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from agent.devices import DeviceName
from kbs import KbsTls, ProtocolVersion, TeeKeyAlgorithm, TeeKeyError
from lifecycle.errors import SettingsError
from lifecycle.log_filter import LogConfig
from serving.doors import parse_door
from tdx.ccel import CCEL_PATH
from tdx.errors import QgsAddressError
from tdx.guest_device import DeviceAbi
from tdx.measurements import MEASUREMENTS_PATH
from tdx.qgs import QgsAddress
from tdx.tsm import REPORT_PATH

DEFAULT_SOCKET: Final = (
    "unix:///run/confidential-containers/attestation-agent/attestation-agent.sock"
)
MAX_URL: Final = 2048

Pin = Annotated[str, msgspec.Meta(pattern="^[0-9a-fA-F]{64}$")]
Url = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_URL)]
InitdataPlace = Annotated[str, msgspec.Meta(pattern="^(/.*|device)$", max_length=1024)]
DoorText = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
AbsolutePath = Annotated[str, msgspec.Meta(pattern="^/", max_length=1024)]


class QuoteSourceName(StrEnum):
    """Ways to a quote, as ``[tee] quote_source`` names them."""

    AUTO = "auto"
    CONFIGFS = "configfs"
    QGS = "qgs"
    IOCTL = "ioctl"


class KbsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[token_configs.kbs]``: the Key Broker Service. ``cert`` is an extra root, PEM text.

    The others are ours: ``urls`` are further addresses of the same KBS, ``pins`` as in
    :class:`kbs.KbsTls`, ``proxy`` as ``http://host:port``; ``protocol_version`` pins what is
    otherwise found out. After a failed handshake none is made for ``hold_off_seconds``, twice as
    long after each further failure up to ``hold_off_max_seconds``, each +-50 %. The first
    handshake waits a random part of ``start_spread_seconds``.
    """

    url: Url
    urls: Annotated[tuple[Url, ...], msgspec.Meta(max_length=8)] = ()
    cert: str | None = None
    tee_key_algorithm: str = TeeKeyAlgorithm.EC_P256.value
    protocol_version: ProtocolVersion = ProtocolVersion.AUTO
    pins: tuple[Pin, ...] = ()
    proxy: Url | None = None
    hold_off_seconds: Annotated[float, msgspec.Meta(ge=0, le=600)] = 2.0
    hold_off_max_seconds: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 60.0
    start_spread_seconds: Annotated[float, msgspec.Meta(ge=0, le=40)] = 0.2

    def __post_init__(self) -> None:
        """Refuse a kind of key by its name. Raises ``ValueError``, which the decoder places."""
        try:
            TeeKeyAlgorithm.named(self.tee_key_algorithm)
        except TeeKeyError as error:
            raise ValueError(f"tee_key_algorithm: {error.problem}") from error

    @property
    def key_algorithm(self) -> TeeKeyAlgorithm:
        """The kind of key that is configured."""
        return TeeKeyAlgorithm(self.tee_key_algorithm)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Every address once, in order."""
        return tuple(dict.fromkeys((self.url, *self.urls)))

    @property
    def tls(self) -> KbsTls:
        """Whom to believe that they are this KBS."""
        return KbsTls(ca_pem=self.cert, pins=frozenset(self.pins))


class CocoAsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[token_configs.coco_as]``: an attestation service, for tokens without a KBS."""

    url: Url


class TokenConfigs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``others``, ours, are further KBSes that the data hub may ask for sessions with."""

    kbs: KbsConfig | None = None
    coco_as: CocoAsConfig | None = None
    others: Annotated[tuple[KbsConfig, ...], msgspec.Meta(max_length=16)] = ()

    @property
    def brokers(self) -> tuple[KbsConfig, ...]:
        """Every key broker, the first one first."""
        return self.others if self.kbs is None else (self.kbs, *self.others)


class EventlogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[eventlog_config]``. ``directory`` is ours; log and intent lie in it.

    ``eventlog_algorithm`` had a meaning in v0.9 to v0.14 of the reference; a TD has SHA-384 only.
    """

    init_pcr: Annotated[int, msgspec.Meta(ge=0)] = 17
    enable_eventlog: bool = False
    eventlog_algorithm: Literal["sha256", "sha384", "sha512"] = "sha384"
    directory: AbsolutePath = "/run/attestation-agent"


class TeeConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[tee]``, ours: where the kernel's interfaces are, and how long a quote may take.

    ``initdata`` is ``device`` or a path: the document is compared with MRCONFIGID at start and
    sent to the KBS. Without it nothing is compared, unless a command-line flag says so. The
    five from ``quote_source`` on are explained in :mod:`agent.tee`; an empty text means detection.
    ``allow_sample`` and ``devices`` are for trying things out: what is called sample there proves
    nothing. ``label_caller_data`` is explained in :mod:`agent.caller_data`.
    40 s: longer than the kernel's own wait of 30 s, shorter than the 45 s that a handshake and
    the 50 s that kata-agent and the data hub wait, so that the real cause reaches them.
    """

    report_path: AbsolutePath = str(REPORT_PATH)
    measurements_path: AbsolutePath = str(MEASUREMENTS_PATH)
    ccel_path: AbsolutePath = str(CCEL_PATH)
    quote_seconds: Annotated[float, msgspec.Meta(gt=0, le=300)] = 40.0
    initdata: InitdataPlace | None = None
    quote_source: QuoteSourceName = QuoteSourceName.AUTO
    qgs_address: Annotated[str, msgspec.Meta(max_length=128)] = ""
    attest_conf_path: AbsolutePath = "/etc/tdx-attest.conf"
    guest_device: Annotated[str, msgspec.Meta(pattern="^(/.*)?$", max_length=1024)] = ""
    guest_device_abi: DeviceAbi = DeviceAbi.MAINLINE
    allow_sample: bool = False
    devices: tuple[DeviceName, ...] = ()
    label_caller_data: bool = False

    def __post_init__(self) -> None:
        """Refuse what could only fail later. ``ValueError``, which decoding turns into its own."""
        if self.quote_source is QuoteSourceName.IOCTL and not self.guest_device_abi.gives_quotes:
            abi = self.guest_device_abi.value
            raise ValueError(f"quote_source is ioctl, but guest_device_abi {abi} has none for it")
        if self.qgs_address:
            try:
                QgsAddress.parse(self.qgs_address)
            except QgsAddressError as error:
                raise ValueError(str(error)) from error


class AgentConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole file. The sockets are ours; ``--attestation_sock`` overrides the first.

    The other two are the doors of agents of the CoCo 0.8 era, which had one socket for each
    service: key provider and resources. Absent, nobody listens there.
    """

    socket: DoorText = DEFAULT_SOCKET
    keyprovider_socket: DoorText | None = None
    getresource_socket: DoorText | None = None
    token_configs: TokenConfigs = msgspec.field(default_factory=TokenConfigs)
    eventlog_config: EventlogConfig = msgspec.field(default_factory=EventlogConfig)
    log: LogConfig = msgspec.field(default_factory=LogConfig)
    tee: TeeConfig = msgspec.field(default_factory=TeeConfig)

    def check(self) -> None:
        """Raise for what cannot work together. Reads no files.

        Raises :class:`~lifecycle.SettingsError` or :class:`~lifecycle.SocketError`.
        """
        doors = {
            "socket": self.socket,
            "keyprovider_socket": self.keyprovider_socket,
            "getresource_socket": self.getresource_socket,
        }
        given = [str(parse_door(text)) for text in doors.values() if text is not None]
        if len(set(given)) < len(given):
            raise SettingsError(
                ", ".join(doors), "two of them are the same address", hint="give each its own"
            )
        if self.tee.allow_sample and self.tee.quote_source is not QuoteSourceName.AUTO:
            raise SettingsError(
                "tee.allow_sample",
                f"together with tee.quote_source {self.tee.quote_source.value}, which needs a TEE",
                hint="remove one of the two",
            )
