"""``[kms]`` of the hub: what is accepted, from where, and what it becomes."""

from __future__ import annotations

from pathlib import Path

import pytest

import cdh.settings
from cdh.config import CdhConfig
from cdh.errors import ConfigurationRefusedError
from kms import AliyunPlaces, KmsPlaces
from lifecycle import SettingsError
from lifecycle.errors import UnmeasuredSettingError
from lifecycle.kernel_command_line import KernelCommandLine
from mocktee.certs import provide_tls
from tests.settings_text import decode_toml

NO_KERNEL = KernelCommandLine()
VARIABLE = "ALIYUN_IN_GUEST_KEY_PATH"


def config_of(aliyun: str) -> CdhConfig:
    return decode_toml(f"[kms.aliyun]\n{aliyun}".encode(), CdhConfig, "cdh.toml")


def test_the_default_is_the_reference() -> None:
    assert CdhConfig().kms.places() == KmsPlaces()


def test_everything_given(tmp_path: Path) -> None:
    ca = provide_tls(tmp_path / "tls").ca
    config = config_of(
        f"""
        credentials = "/run/kms"
        ca_file = "{ca}"
        instance_url = "https://[fd00::1]:8443/{{instance}}"
        region_url = "https://kms-vpc.{{region}}.aliyuncs.com/"
        metadata_url = "http://127.0.0.1:8080/"
        """
    )
    config.check()
    assert config.kms.places() == KmsPlaces(
        AliyunPlaces(
            credentials=Path("/run/kms"),
            instance_url="https://[fd00::1]:8443/{instance}/",
            region_url="https://kms-vpc.{region}.aliyuncs.com",
            metadata_url="http://127.0.0.1:8080",
        ),
        ca.read_text(),
    )


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('credentials = "kms"', "absolute"),
        ('credentials = "/run/../etc"', "absolute"),
        ('ca_file = "ca.pem"', "absolute"),
        ('instance_url = "http://{instance}.example/"', "https"),
        ('region_url = "http://127.0.0.1"', "https"),
        ('region_url = "https://{instance}.example"', "only {region}"),
        ('instance_url = "https://{instance.x}.example"', "only {instance}"),
        ('instance_url = "https://{}.example"', "only {instance}"),
        ('instance_url = "https://{instance"', "only {instance}"),
        ('metadata_url = "http://{region}.example"', "nothing is filled in"),
        ('metadata_url = "ftp://example"', "not an address"),
        ('region_url = "https://user@example"', "not an address"),
        ('region_url = "https://example/?a=b"', "not an address"),
        ('region_url = "https://example#x"', "not an address"),
        ('region_url = ""', "not an address"),
    ],
)
def test_what_cannot_work_is_refused_under_its_name(line: str, problem: str) -> None:
    with pytest.raises(ConfigurationRefusedError, match=problem) as caught:
        config_of(line).check()
    assert caught.value.key == f"kms.aliyun.{line.partition(' ')[0]}"


def test_a_file_of_roots_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"kms\.aliyun\.ca_file"):
        config_of(f'ca_file = "{tmp_path}/absent"').kms.places()
    (tmp_path / "ca.pem").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not PEM"):
        config_of(f'ca_file = "{tmp_path}/ca.pem"').kms.places()
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    with pytest.raises(SettingsError, match="no usable certificate"):
        config_of(f'ca_file = "{tmp_path}/ca.pem"').kms.places()


def test_the_variable_of_the_reference_is_no_measured_source(tmp_path: Path) -> None:
    with pytest.raises(UnmeasuredSettingError, match=r"kms\.aliyun\.credentials"):
        cdh.settings.load(None, {VARIABLE: "/mnt/of-the-host"}, NO_KERNEL)
    default = str(AliyunPlaces().credentials)
    same = cdh.settings.load(None, {VARIABLE: default}, NO_KERNEL)
    assert same.value.kms.aliyun.credentials == default
    file = tmp_path / "cdh.toml"
    file.write_text('[kms.aliyun]\ncredentials = "/run/kms"\n')
    both = cdh.settings.load(file, {VARIABLE: "/mnt/of-the-host"}, NO_KERNEL)
    assert both.value.kms.aliyun.credentials == "/run/kms"
