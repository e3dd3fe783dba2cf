"""Where the hub's settings come from, and which of them weaken security.

The file switches ``AA_KBC_PARAMS`` off: with the reference, an inherited one silently wins over
the file, so that who sets the environment chooses the key broker. What the kernel command line
wants as files, ``cdh.kbs_resources``, is added to those of the file, as in the reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from cdh.config import OFFLINE_FILES, OFFLINE_KBC, CdhConfig, KbcSection, NamedKbc
from cdh.credentials import check_credentials
from cdh.errors import ConfigurationRefusedError
from cdh.image_config import (
    KERNEL_PARAMETERS,
    POLICY_KEY,
    POLICY_PARAMETER,
    VERIFICATION_PARAMETER,
)
from cdh.kms_config import AliyunSection
from kbs import KbsClient, KbsTls
from lifecycle import SettingsError
from lifecycle.addresses import (
    KBC_PARAMS_PARAMETER,
    KBC_PARAMS_VARIABLE,
    OPEN_HTTP,
    is_open_http,
    parse_kbc_params,
)
from lifecycle.file_source import load_file
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.program_log import rust_log
from lifecycle.sources import Given, Layers, Settings, Source, SourceKind, Weakening
from serving.doors import GrpcDoor, LoopbackAddress, parse_door

CONFIG_VARIABLE: Final = "CDH_CONFIG_PATH"
RESOURCES_PARAMETER: Final = "cdh.kbs_resources"
SKIP_VARIABLE: Final = "SKIP_SEALED_SECRET_VERIFICATION"
OFFLINE_VARIABLE: Final = "OFFLINE_FS_KBC_EXTRA_FILE_PATH"
# Variables that set a key where no file does.
VARIABLES: Final = {
    "AA_SOCKET": "aa.aa_socket",
    "KBS_CERT": "kbc.kbs_cert",
    "CDH_DEFAULT_IMAGE_AUTHENTICATED_REGISTRY_CREDENTIALS": (
        "image.authenticated_registry_credentials_uri"
    ),
    "ALIYUN_IN_GUEST_KEY_PATH": "kms.aliyun.credentials",
}
KMS_VARIABLES: Final = (
    "AWS_IN_GUEST_KEY_PATH",
    "EHSM_IN_GUEST_KEY_PATH",
)
NO_IMAGES: Final = "this hub pulls no images"
# Keys of the reference's v0.9 and v0.10 that it no longer has.
HISTORIC: Final = {
    f"image.{name}": NO_IMAGES for name in ("default_snapshot", "kbc", "kbs_uri", "nydus",
                                            "skip_proxy_ips")
}  # fmt: skip


def load(
    path: Path | None,
    environ: Mapping[str, str],
    kernel: KernelCommandLine,
    flags: Iterable[Given] = (),
) -> Settings[CdhConfig]:
    """Put all sources together, and judge them. ``path`` wins over ``CDH_CONFIG_PATH``.

    Raises :class:`~lifecycle.LifecycleError` or :class:`~cdh.errors.CdhError`: for a source that
    cannot be read or understood, for values that cannot work, and for one that weakens security
    from a source that is not measured.
    """
    named_by = ""
    if path is None and environ.get(CONFIG_VARIABLE):
        # v0.10 to v0.17 of the reference.
        path, named_by = Path(environ[CONFIG_VARIABLE]), CONFIG_VARIABLE
    layers = Layers()
    layers.add(rust_log(environ))
    tree, source = (None, None) if path is None else load_file(path, named_by=named_by)
    with_image = tree is not None and "image" in tree
    layers.add(given(environ, kernel, with_file=tree is not None, with_image=with_image))
    if tree is not None and source is not None:
        layers.add_tree(tree, source, HISTORIC)
    layers.add(added(kernel))
    layers.add(flags)
    settings = layers.decode(CdhConfig)
    settings.value.check()
    check_credentials(settings.value.credentials)
    return settings.judged(
        weakenings(settings.value), notes(settings, environ, with_file=path is not None)
    )


def given(
    environ: Mapping[str, str], kernel: KernelCommandLine, *, with_file: bool, with_image: bool
) -> Iterator[Given]:
    """Yield what environment and kernel command line set where the file does not.

    One key of ``[image]`` in the file switches all parameters for images off, as in the reference.
    Raises :class:`SettingsError` or :class:`~cdh.errors.ConfigurationRefusedError`.
    """
    if not with_file:
        yield from _kbc(environ, kernel)
    if not with_image:
        yield from _image(kernel)
    for name, key in VARIABLES.items():
        if environ.get(name):
            yield Given(key, environ[name], _variable(name))
    if environ.get(SKIP_VARIABLE) == "true":
        yield Given("skip_sealed_secret_verification", True, _variable(SKIP_VARIABLE))
    if environ.get(OFFLINE_VARIABLE):
        files = [*OFFLINE_FILES, *environ[OFFLINE_VARIABLE].split(",")]
        yield Given("kbc.offline_files", files, _variable(OFFLINE_VARIABLE))


def _variable(name: str) -> Source:
    return Source(SourceKind.ENVIRONMENT, name)


def _kbc(environ: Mapping[str, str], kernel: KernelCommandLine) -> Iterator[Given]:
    params, source = environ.get(KBC_PARAMS_VARIABLE), _variable(KBC_PARAMS_VARIABLE)
    if not params:
        params = kernel.get(KBC_PARAMS_PARAMETER)
        source = Source(SourceKind.KERNEL, KBC_PARAMS_PARAMETER)
    if not params:
        return
    kind, url = parse_kbc_params(params, str(source))
    if kind == OFFLINE_KBC:
        raise ConfigurationRefusedError(
            source.name,
            f"{OFFLINE_KBC} is accepted in a configuration file only",
            hint="use cc_kbc::URL, or kbc.name in the file",
        )
    yield Given("kbc.name", kind, source)
    yield Given("kbc.url", url, source)


def _image(kernel: KernelCommandLine) -> Iterator[Given]:
    parameters = dict(KERNEL_PARAMETERS)
    if kernel.get(VERIFICATION_PARAMETER) == "true":
        parameters[POLICY_PARAMETER] = POLICY_KEY
    for name, key in parameters.items():
        value = kernel.get(name)
        if value:
            yield Given(f"image.{key}", value, Source(SourceKind.KERNEL, name))


def added(kernel: KernelCommandLine) -> Iterator[Given]:
    """Yield the files that the kernel command line wants: ``cdh.kbs_resources=URI::PATH,...``.

    Raises :class:`SettingsError` for an item of another form, which the reference drops.
    """
    text = kernel.get(RESOURCES_PARAMETER)
    if not text:
        return
    source = Source(SourceKind.KERNEL, RESOURCES_PARAMETER)
    items = []
    for item in text.split(","):
        # The last one: an address of the key broker may have an IPv6 literal.
        uri, separator, path = item.rpartition("::/")
        if not separator or not uri:
            raise SettingsError(
                str(source), "an item is not of the form URI::PATH", hint="separate items by ','"
            )
        items.append({"resource_uri": uri, "path": f"/{path}"})
    yield Given("credentials", items, source, adds=True)


def notes(
    settings: Settings[CdhConfig], environ: Mapping[str, str], *, with_file: bool
) -> Iterator[str]:
    """Yield what was given and has no effect, with the reason."""
    if with_file and environ.get(KBC_PARAMS_VARIABLE):
        yield f"environment {KBC_PARAMS_VARIABLE} has no effect: there is a configuration file"
    for name in KMS_VARIABLES:
        if name in environ:
            yield f"environment {name} has no effect: that key management service is absent here"
    images = sorted(key for key in settings.origins if key.startswith("image."))
    if images:
        yield f"{', '.join(images)[:400]}: no effect, because {NO_IMAGES}"
    if OFFLINE_VARIABLE in environ and settings.value.kbc.name != OFFLINE_KBC:
        yield f"environment {OFFLINE_VARIABLE} has no effect: kbc.name is not {OFFLINE_KBC}"


def weakenings(config: CdhConfig) -> Iterator[Weakening]:
    """Yield the values that make this guest less secure than the defaults do."""
    if config.skip_sealed_secret_verification:
        yield Weakening(
            "skip_sealed_secret_verification", "anybody can make sealed secrets for this guest"
        )
    door = parse_door(config.socket)
    if isinstance(door, GrpcDoor) and isinstance(door.target, LoopbackAddress):
        reason = "every process in this network namespace can ask there"
        yield Weakening("socket", reason, by_flag=True)
    yield from _of_brokers(config)
    if config.mounts.allow_http:
        yield Weakening("mounts.allow_http", "the network can read and change what is mounted")
    if config.mounts.ca_file is not None:
        yield Weakening(
            "mounts.ca_file", "adds an authority that may name the object store", said=False
        )
    yield from _of_kms(config.kms.aliyun)


def examine(config: CdhConfig) -> None:
    """Build the clients of all key brokers, which connect nowhere; read the files of roots.

    Raises ``kbs.KbsError`` for an address or trust anchor that cannot be used,
    :class:`SettingsError` for a file. Blocks.
    """
    brokers: list[KbcSection | NamedKbc] = [config.kbc, *config.kbc.named]
    for broker in brokers:
        tls = KbsTls(ca_pem=broker.kbs_cert, pins=frozenset(broker.pins))
        for url in filter(None, (broker.url, *broker.urls)):
            KbsClient(url, tls, proxy=broker.proxy)
    config.mounts.ca_pem()
    config.kms.places()


def _of_kms(aliyun: AliyunSection) -> Iterator[Weakening]:
    default = AliyunSection()
    reasons = {
        "credentials": "names who may hold and open secrets",
        "ca_file": "adds an authority that may name the key management service",
        "instance_url": "names another key management service",
        "region_url": "names another key management service",
        "metadata_url": "names who gives the credentials of a RAM role",
    }
    for name, reason in reasons.items():
        if getattr(aliyun, name) != getattr(default, name):
            yield Weakening(f"kms.aliyun.{name}", reason, said=False)


def _of_brokers(config: CdhConfig) -> Iterator[Weakening]:
    kbc = config.kbc
    if kbc.name == OFFLINE_KBC:
        yield Weakening("kbc.name", "secrets from files are not guarded by attestation", said=False)
        if kbc.offline_files != OFFLINE_FILES:
            yield Weakening("kbc.offline_files", "names who may give secrets", said=False)
    brokers: list[tuple[str, KbcSection | NamedKbc]] = [("kbc", kbc)]
    brokers += [(f"kbc.named[{number}]", named) for number, named in enumerate(kbc.named)]
    for key, broker in brokers:
        if is_open_http(broker.url):
            yield Weakening(f"{key}.url", OPEN_HTTP)
        if any(is_open_http(url) for url in broker.urls):
            yield Weakening(f"{key}.urls", OPEN_HTTP)
        if broker.kbs_cert is not None:
            yield Weakening(
                f"{key}.kbs_cert", "adds an authority that may name the key broker", said=False
            )
