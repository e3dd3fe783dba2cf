"""The hub's configuration: what is accepted, and what is refused under its own name."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdh.config import CdhConfig
from cdh.errors import ConfigurationRefusedError, MountRefusedError
from lifecycle import LifecycleError, SettingsError
from mocktee.certs import provide_tls
from tests.settings_text import decode_toml


def config_of(text: str) -> CdhConfig:
    return decode_toml(text.encode(), CdhConfig, "cdh.toml")


def test_the_reference_file() -> None:
    config = config_of(
        """
        socket = "unix:///run/confidential-containers/cdh.sock"
        credentials = []
        skip_sealed_secret_verification = true
        [aa]
        aa_socket = "unix:///run/aa.sock"
        [kbc]
        name = "cc_kbc"
        url = "https://kbs.example:8080"
        kbs_cert = "-----BEGIN CERTIFICATE-----"
        cache_seconds = 30
        [log]
        level = "info"
        [image]
        image_pull_proxy = {https_proxy = "http://proxy:3128", no_proxy = "localhost"}
        extra_root_certificates = ["-----BEGIN CERTIFICATE-----"]
        [image.registry_config]
        unqualified-search-registries = ["registry.example"]
        [[image.registry_config.registry]]
        prefix = "registry.example"
        mirror = [{location = "mirror.example", insecure = true, digest-only = true}]
        [mounts]
        allowed_roots = ["/mnt"]
        endpoints = ["https://OSS.example", "127.0.0.1:9000"]
        """
    )
    config.check()
    assert config.kbc.url == "https://kbs.example:8080"
    assert config.mounts.policy().endpoints == {"oss.example", "127.0.0.1:9000"}
    assert config.skip_sealed_secret_verification


def test_nothing_configured_is_a_configuration() -> None:
    config = CdhConfig()
    config.check()
    assert config.kbc.url == ""
    assert not config.mounts.allow_http
    assert not config.skip_sealed_secret_verification


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('kbc.name = "offline_fs_kbc"\nkbc.url = "https://k"', "kbc.url"),
        ('kbc.name = "offline_fs_kbc"\nkbc.offline_files = ["x"]', "kbc.offline_files"),
        ('kbc.name = "sample_kbc"', "kbc.name"),
        ("kbc.cache_seconds = -1", "kbc.cache_seconds"),
        ('mounts.allowed_roots = ["mnt"]', "mounts.allowed_roots"),
        ('mounts.allowed_roots = ["/mnt/../etc"]', "mounts.allowed_roots"),
        ("mounts.memory_mib = 8", "mounts.memory_mib"),
    ],
)
def test_refused_by_name(text: str, key: str) -> None:
    with pytest.raises(ConfigurationRefusedError) as caught:
        config_of(text).check()
    assert caught.value.key == key


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("unknown = 1", SettingsError),
        ("kbc.token = 1", SettingsError),
        ("kbc.url = 7", SettingsError),
        ('log.level = "loud"', SettingsError),
        ('image.sigstore_uri = "x"', SettingsError),
        ("image.max_concurrent_layer_downloads_per_image = 0", SettingsError),
        ('socket = "/no/scheme"', LifecycleError),
        ('aa.aa_socket = "tcp://x"', LifecycleError),
        ('mounts.endpoints = ["https://x/y"]', MountRefusedError),
    ],
)
def test_malformed(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        config_of(text).check()


def test_ca_file_is_read_and_bounded(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    mounts = config_of(f'mounts.ca_file = "{path}"').mounts
    with pytest.raises(SettingsError, match="No such file"):
        mounts.ca_pem()
    path.write_text("PEM")
    with pytest.raises(SettingsError, match=r"mounts\.ca_file: no usable certificate"):
        mounts.ca_pem()
    pem = provide_tls(tmp_path / "tls").ca.read_text()
    path.write_text(pem)
    assert mounts.ca_pem() == pem
    path.write_bytes(b"x" * 40_000)
    with pytest.raises(SettingsError, match="at most"):
        mounts.ca_pem()
    assert CdhConfig().mounts.ca_pem() is None
