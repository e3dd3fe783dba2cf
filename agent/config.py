"""Configuration of the attestation agent: the reference's ``aa.toml``, and sections of our own.

Accepts the keys of guest-components ``attestation-agent/config`` and refuses unknown ones, so
that a misspelled key is not a silent default. Without a file, the KBS comes from
``AA_KBC_PARAMS`` or from ``agent.aa_kbc_params`` on the kernel command line, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from agent.devices import DeviceName
from kbs import ProtocolVersion, TeeKeyAlgorithm, TeeKeyError
from lifecycle import SettingsError, load_toml
from tdx.ccel import CCEL_PATH
from tdx.errors import QgsAddressError
from tdx.guest_device import DeviceAbi
from tdx.measurements import MEASUREMENTS_PATH
from tdx.qgs import QgsAddress
from tdx.tsm import REPORT_PATH

DEFAULT_SOCKET: Final = (
    "unix:///run/confidential-containers/attestation-agent/attestation-agent.sock"
)
CMDLINE_PATH: Final = Path("/proc/cmdline")
KBC_PARAMS_VARIABLE: Final = "AA_KBC_PARAMS"
KBC_PARAMS_PARAMETER: Final = "agent.aa_kbc_params="
KBC_WITH_KBS: Final = "cc_kbc"
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


class CocoAsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[token_configs.coco_as]``: an attestation service, for tokens without a KBS."""

    url: Url


class TokenConfigs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``others``, ours, are further KBSes that the data hub may ask for sessions with."""

    kbs: KbsConfig | None = None
    coco_as: CocoAsConfig | None = None
    others: Annotated[tuple[KbsConfig, ...], msgspec.Meta(max_length=16)] = ()


class EventlogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[eventlog_config]``. ``directory`` is ours; log and intent lie in it."""

    init_pcr: Annotated[int, msgspec.Meta(ge=0)] = 17
    enable_eventlog: bool = False
    eventlog_algorithm: Literal["sha384"] = "sha384"
    directory: AbsolutePath = "/run/attestation-agent"


class LogConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[log]``. The reference's spellings are accepted; quiet by default."""

    level: Literal["trace", "debug", "info", "warn", "warning", "error"] = "warning"

    @property
    def journal_level(self) -> str:
        return {"trace": "debug", "warn": "warning"}.get(self.level, self.level)


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


def load_config(
    path: Path | None, environ: Mapping[str, str], cmdline_path: Path = CMDLINE_PATH
) -> AgentConfig:
    """Read ``path``; without one, take the defaults and the KBS of the kernel command line.

    A file switches environment and command line off entirely, as in the reference. Raises
    :class:`~lifecycle.SettingsError`, also when the command line cannot be read: a failing read
    is not "no KBS".
    """
    if path is not None:
        return load_toml(path, AgentConfig)
    params = environ.get(KBC_PARAMS_VARIABLE)
    source = KBC_PARAMS_VARIABLE
    if params is None:
        source = str(cmdline_path)
        params = _from_cmdline(cmdline_path)
    if params is None:
        return AgentConfig()
    url = kbs_url_of(params, source)
    kbs = KbsConfig(url) if url is not None else None
    return AgentConfig(token_configs=TokenConfigs(kbs=kbs))


def kbs_url_of(params: str, source: str) -> str | None:
    """Return the URL in ``kbc::url`` if the client kind is ``cc_kbc``, else None.

    Raises :class:`~lifecycle.SettingsError` if the text is not of that form.
    """
    kind, separator, url = params.partition("::")
    if not separator or not kind or "::" in url or len(url) > MAX_URL:
        raise SettingsError(
            source,
            "aa_kbc_params is not of the form kind::url",
            hint="for example cc_kbc::https://kbs.example.org:8080",
        )
    return url or None if kind == KBC_WITH_KBS else None


def _from_cmdline(path: Path) -> str | None:
    try:
        words = path.read_text(errors="replace").split()
    except OSError as error:
        raise SettingsError(str(path), f"cannot be read: {error.strerror}") from error
    found = [w for w in words if w.startswith(KBC_PARAMS_PARAMETER)]
    # As the kernel does with its own parameters, the last one counts.
    return found[-1].removeprefix(KBC_PARAMS_PARAMETER) if found else None
