"""Where the agent's settings come from, and which of them weaken security.

The file switches ``AA_KBC_PARAMS`` and the kernel command line off, as in the reference: a
measured file must not get its key broker from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from agent.config import AgentConfig, KbsConfig
from kbs import KbsClient, TeeKeyAlgorithm
from lifecycle.addresses import (
    CC_KBC,
    KBC_PARAMS_PARAMETER,
    KBC_PARAMS_VARIABLE,
    OPEN_HTTP,
    is_open_http,
    parse_kbc_params,
)
from lifecycle.file_source import INITDATA_DIRECTORY, INITDATA_NAME, is_initdata, load_file
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program_log import rust_log
from lifecycle.sources import Given, Layers, Settings, Source, SourceKind, Weakening
from serving.doors import GrpcDoor, LoopbackAddress, parse_door
from tdx.ccel import CCEL_PATH
from tdx.measurements import MEASUREMENTS_PATH
from tdx.tsm import REPORT_PATH

SAMPLE_DEVICE_VARIABLE: Final = "ENABLE_SAMPLE_DEVICE"
EVENT_LOG_VARIABLE: Final = "AAEL_PATH"
# Keys of the reference from v0.8 on that have no meaning any more; none so far but one value.
HISTORIC: Final[dict[str, str]] = {}


def load(
    path: Path | None,
    environ: Mapping[str, str],
    kernel: KernelCommandLine,
    flags: Iterable[Given] = (),
) -> Settings[AgentConfig]:
    """Put all sources together, and judge them.

    Raises :class:`~lifecycle.LifecycleError`: for a source that cannot be read or understood, for
    values that cannot work, and for one that weakens security from a source that is not measured.
    """
    layers = Layers()
    layers.add(rust_log(environ))
    layers.add(given(environ, kernel, with_file=path is not None))
    if path is not None:
        layers.add_tree(*load_file(path), HISTORIC)
    layers.add(flags)
    settings = layers.decode(AgentConfig)
    settings.value.check()
    return settings.judged(
        weakenings(settings.value), notes(settings.value, environ, kernel, path is not None)
    )


def given(
    environ: Mapping[str, str], kernel: KernelCommandLine, *, with_file: bool
) -> Iterator[Given]:
    """Yield what environment and kernel command line set. Raises :class:`SettingsError`."""
    if SAMPLE_DEVICE_VARIABLE in environ:
        source = Source(SourceKind.ENVIRONMENT, SAMPLE_DEVICE_VARIABLE)
        yield Given("tee.devices", ["sampledevice"], source)
    if with_file:
        return
    for source, params in kbc_params(environ, kernel):
        kind, url = parse_kbc_params(params, str(source))
        if kind == CC_KBC:
            yield Given("token_configs.kbs.url", url, source)


def kbc_params(
    environ: Mapping[str, str], kernel: KernelCommandLine
) -> Iterator[tuple[Source, str]]:
    """Yield ``kbc::url`` from the first place that has it: the environment, the kernel."""
    params = environ.get(KBC_PARAMS_VARIABLE)
    if params:
        yield Source(SourceKind.ENVIRONMENT, KBC_PARAMS_VARIABLE), params
        return
    params = kernel.get(KBC_PARAMS_PARAMETER)
    if params:
        yield Source(SourceKind.KERNEL, KBC_PARAMS_PARAMETER), params


def notes(
    config: AgentConfig, environ: Mapping[str, str], kernel: KernelCommandLine, with_file: bool
) -> Iterator[str]:
    """Yield what was given and has no effect, with the reason."""
    if with_file and config.token_configs.kbs is None:
        for source, _ in kbc_params(environ, kernel):
            yield f"{source} has no effect: there is a configuration file, and it names no KBS"
    if EVENT_LOG_VARIABLE in environ:
        yield (
            f"environment {EVENT_LOG_VARIABLE} has no effect: evidence holds the log that this"
            " agent wrote (eventlog_config.directory)"
        )
    algorithm = config.eventlog_config.eventlog_algorithm
    if algorithm != "sha384":
        yield f"eventlog_config.eventlog_algorithm {algorithm} has no effect: RTMRs are SHA-384"


def weakenings(config: AgentConfig) -> Iterator[Weakening]:
    """Yield the values that make this guest less secure than the defaults do."""
    tee = config.tee
    if tee.allow_sample:
        yield Weakening("tee.allow_sample", "evidence of the TEE sample proves nothing")
    if tee.devices:
        yield Weakening("tee.devices", "evidence of a sample device proves nothing")
    for key, value, usual in (
        ("tee.report_path", tee.report_path, str(REPORT_PATH)),
        ("tee.measurements_path", tee.measurements_path, str(MEASUREMENTS_PATH)),
        ("tee.ccel_path", tee.ccel_path, str(CCEL_PATH)),
        ("tee.guest_device", tee.guest_device, ""),
    ):
        if value != usual:
            yield Weakening(key, "registers are not read where the kernel has them", said=False)
    for key in ("socket", "keyprovider_socket", "getresource_socket"):
        text = getattr(config, key)
        if text is not None and is_tcp(text):
            reason = "every process in this network namespace can ask there, tokens included"
            yield Weakening(key, reason, by_flag=True)
    tokens = config.token_configs
    if tokens.kbs is not None:
        yield from _of_kbs("token_configs.kbs", tokens.kbs)
    for number, other in enumerate(tokens.others):
        yield from _of_kbs(f"token_configs.others[{number}]", other)
    if tokens.coco_as is not None and is_open_http(tokens.coco_as.url):
        yield Weakening("token_configs.coco_as.url", OPEN_HTTP)


def is_tcp(address: str) -> bool:
    """Whether a door is a TCP port. Raises :class:`~lifecycle.SocketError`."""
    door = parse_door(address)
    return isinstance(door, GrpcDoor) and isinstance(door.target, LoopbackAddress)


def _of_kbs(key: str, kbs: KbsConfig) -> Iterator[Weakening]:
    if is_open_http(kbs.url):
        yield Weakening(f"{key}.url", OPEN_HTTP)
    if any(is_open_http(url) for url in kbs.urls):
        yield Weakening(f"{key}.urls", OPEN_HTTP)
    if kbs.cert is not None:
        yield Weakening(f"{key}.cert", "adds an authority that may name the KBS", said=False)
    if kbs.key_algorithm is TeeKeyAlgorithm.RSA1_5:
        yield Weakening(f"{key}.tee_key_algorithm", "RSA1_5 is open to padding oracles")


def examine(config: AgentConfig) -> None:
    """Build the clients of all key brokers, which connect nowhere.

    Raises ``kbs.KbsError`` for an address or trust anchor that cannot be used.
    """
    for broker in config.token_configs.brokers:
        for url in broker.addresses:
            KbsClient(url, broker.tls, proxy=broker.proxy)


def initdata_beside(path: Path | None, directory: Path = INITDATA_DIRECTORY) -> Path | None:
    """Return the initdata document that kata-agent took ``path`` out of.

    It has to be compared with the TEE even where no flag says so: otherwise nobody compares it.
    """
    if path is None or not is_initdata(path, directory):
        return None
    return directory / INITDATA_NAME
