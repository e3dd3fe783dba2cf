"""Environment, kernel command line and file of each program: precedence, refusals, what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agent.settings
import cdh.settings
import cguestd.settings
from agent.settings import initdata_beside
from cdh.credentials import CREDENTIALS_ROOT
from cdh.errors import CdhError
from lifecycle import LifecycleError, SettingsError
from lifecycle.addresses import is_open_http
from lifecycle.errors import UnmeasuredSettingError
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.sources import Settings

PARAMS = "AA_KBC_PARAMS"
NO_KERNEL = KernelCommandLine()


def kernel(**parameters: str) -> KernelCommandLine:
    return KernelCommandLine({name.replace("__", "."): text for name, text in parameters.items()})


def kbc(text: str) -> KernelCommandLine:
    return kernel(agent__aa_kbc_params=text)


def written(tmp_path: Path, text: str, name: str = "x.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


WITHOUT_A_FILE = [
    pytest.param({}, NO_KERNEL, None, id="nothing"),
    pytest.param({}, kbc(""), None, id="empty"),
    pytest.param({}, kbc("cc_kbc::https://k"), "https://k", id="kernel"),
    pytest.param({PARAMS: "cc_kbc::https://e"}, kbc("cc_kbc::x"), "https://e", id="environment"),
    pytest.param({PARAMS: "cc_kbc::https://[fd00::1]"}, NO_KERNEL, "https://[fd00::1]", id="ipv6"),
    pytest.param({}, kbc("cc_kbc::http://far:8080"), "http://far:8080", id="http, measured"),
    pytest.param({PARAMS: "cc_kbc::http://[::1]:80"}, NO_KERNEL, "http://[::1]:80", id="loopback"),
]


@pytest.mark.parametrize(("environ", "line", "url"), WITHOUT_A_FILE)
def test_the_key_broker_without_a_file(
    environ: dict[str, str], line: KernelCommandLine, url: str | None
) -> None:
    kbs = agent.settings.load(None, environ, line).value.token_configs.kbs
    assert (kbs.url if kbs else None) == url
    assert (cdh.settings.load(None, environ, line).value.kbc.url or None) == url
    both = cguestd.settings.load(None, environ, line)
    assert (both.value.cdh.kbc.url or None) == url
    assert both.source_of("cdh.kbc.url") == both.source_of("agent.token_configs.kbs.url")


@pytest.mark.parametrize("params", ["cc_kbc", "cc_kbc:http://x", "::x", "cc_kbc::"])
def test_malformed_parameters_prevent_the_start(params: str) -> None:
    for load in (agent.settings.load, cdh.settings.load, cguestd.settings.load):
        for environ, line in (({PARAMS: params}, NO_KERNEL), ({}, kbc(params))):
            with pytest.raises(SettingsError, match="kind::url"):
                load(None, environ, line)


def test_another_kind_gives_the_agent_no_key_broker() -> None:
    assert agent.settings.load(None, {}, kbc("offline_fs_kbc::")).value.token_configs.kbs is None
    with pytest.raises(CdhError, match=r"kbc\.name"):
        cdh.settings.load(None, {}, kbc("sample_kbc::x"))


def test_a_file_switches_them_off_and_that_is_said(tmp_path: Path) -> None:
    path = written(tmp_path, "[log]\nlevel = 'info'")
    environ = {PARAMS: "cc_kbc::https://x"}
    settings = agent.settings.load(path, environ, NO_KERNEL)
    assert settings.value.token_configs.kbs is None
    assert "AA_KBC_PARAMS has no effect" in settings.notes[0]
    assert "names no KBS" in agent.settings.load(path, {}, kbc("cc_kbc::https://x")).notes[0]
    hub = cdh.settings.load(written(tmp_path, "[kbc]\nurl = 'https://file'"), environ, NO_KERNEL)
    assert hub.value.kbc.url == "https://file"
    assert "AA_KBC_PARAMS has no effect" in hub.notes[0]


REFUSED = [
    pytest.param(cdh.settings.load, {"SKIP_SEALED_SECRET_VERIFICATION": "true"}, "", id="skip"),
    pytest.param(cdh.settings.load, {"KBS_CERT": "-----BEGIN CERTIFICATE-----"}, "", id="cert"),
    pytest.param(
        cdh.settings.load,
        {"OFFLINE_FS_KBC_EXTRA_FILE_PATH": "/run/x.json"},
        "[kbc]\nname = 'offline_fs_kbc'",
        id="offline",
    ),
    pytest.param(agent.settings.load, {"ENABLE_SAMPLE_DEVICE": ""}, "", id="sample device"),
    pytest.param(agent.settings.load, {PARAMS: "cc_kbc::http://far"}, None, id="agent, http"),
    pytest.param(cdh.settings.load, {PARAMS: "cc_kbc::http://far"}, None, id="hub, http"),
    pytest.param(cguestd.settings.load, {PARAMS: "cc_kbc::http://far"}, None, id="daemon, http"),
    pytest.param(
        cguestd.settings.load, {"SKIP_SEALED_SECRET_VERIFICATION": "true"}, "", id="daemon, skip"
    ),
]


@pytest.mark.parametrize(("load", "environ", "text"), REFUSED)
def test_the_environment_cannot_weaken(
    tmp_path: Path, load: object, environ: dict[str, str], text: str | None
) -> None:
    path = None if text is None else written(tmp_path, text)
    with pytest.raises(UnmeasuredSettingError) as caught:
        load(path, environ, NO_KERNEL)  # type: ignore[operator]
    assert f"environment {next(iter(environ))}" in str(caught.value)
    assert "configuration file" in caught.value.hint


def test_a_file_wins_over_the_variable_that_is_refused(tmp_path: Path) -> None:
    environ = {"KBS_CERT": "other", "SKIP_SEALED_SECRET_VERIFICATION": "1", "AA_SOCKET": "nonsense"}
    text = "[kbc]\nurl='https://k'\nkbs_cert = 'mine'\n[aa]\naa_socket = 'unix:///run/a'"
    settings = cdh.settings.load(written(tmp_path, text), environ, NO_KERNEL)
    assert settings.value.kbc.kbs_cert == "mine"
    assert settings.value.aa.aa_socket == "unix:///run/a"
    assert not settings.value.skip_sealed_secret_verification
    assert not settings.weakenings


def test_the_socket_of_the_agent_from_the_environment() -> None:
    settings = cdh.settings.load(None, {"AA_SOCKET": "unix:///run/a"}, NO_KERNEL)
    assert settings.value.aa.aa_socket == "unix:///run/a"
    assert str(settings.source_of("aa.aa_socket")) == "environment AA_SOCKET"


def test_a_file_that_the_environment_names_cannot_weaken(tmp_path: Path) -> None:
    path = written(tmp_path, "[kbc]\nurl = 'https://k'")
    environ = {"CDH_CONFIG_PATH": str(path)}
    assert cdh.settings.load(None, environ, NO_KERNEL).value.kbc.url == "https://k"
    path.write_text("skip_sealed_secret_verification = true")
    with pytest.raises(UnmeasuredSettingError, match="CDH_CONFIG_PATH"):
        cdh.settings.load(None, environ, NO_KERNEL)
    settings = cdh.settings.load(path, environ, NO_KERNEL)
    assert [weakening.key for weakening in settings.weakenings] == [
        "skip_sealed_secret_verification"
    ]


LEVELS = [
    ({}, "", "warning"),
    ({"RUST_LOG": "error"}, "", "error"),
    ({"RUST_LOG": "trace"}, "", "info"),
    ({"RUST_LOG": "attestation_agent=debug,info"}, "", "info"),
    ({"RUST_LOG": "info"}, "[log]\nlevel = 'error'", "error"),
    ({"RUST_LOG": ""}, "[log]\nlevel = 'info,ttrpc=error'", "info"),
    ({}, "[log]\nlevel = 'trace'", "debug"),
]


@pytest.mark.parametrize(("environ", "text", "level"), LEVELS)
def test_the_level_of_the_log(
    tmp_path: Path, environ: dict[str, str], text: str, level: str
) -> None:
    path = written(tmp_path, text)
    assert agent.settings.load(path, environ, NO_KERNEL).value.log.journal_level == level
    assert cdh.settings.load(path, environ, NO_KERNEL).value.log.journal_level == level
    assert cguestd.settings.load(path, environ, NO_KERNEL).value.log.journal_level == level


def test_a_malformed_filter_prevents_the_start_as_in_the_reference() -> None:
    with pytest.raises(SettingsError, match="RUST_LOG"):
        agent.settings.load(None, {"RUST_LOG": "a=loud"}, NO_KERNEL)


def test_files_wanted_on_the_kernel_command_line_are_added(tmp_path: Path) -> None:
    text = (
        f"""credentials = [{{resource_uri = "kbs:///a/b/c", path = "{CREDENTIALS_ROOT}/file"}}]"""
    )
    wanted = (
        f"kbs:///a/b/d::{CREDENTIALS_ROOT}/one,kbs://[fd00::1]:80/a/b/e::{CREDENTIALS_ROOT}/two"
    )
    line = kernel(cdh__kbs_resources=wanted)
    settings = cdh.settings.load(written(tmp_path, text), {}, line)
    assert [
        (one.resource_uri, one.path.rpartition("/")[2]) for one in settings.value.credentials
    ] == [
        ("kbs:///a/b/c", "file"),
        ("kbs:///a/b/d", "one"),
        ("kbs://[fd00::1]:80/a/b/e", "two"),
    ]
    assert str(settings.source_of("credentials[1].path")) == "kernel command line cdh.kbs_resources"
    daemon = cguestd.settings.load(None, {}, line)
    assert len(daemon.value.cdh.credentials) == 2
    assert daemon.source_of("cdh.credentials[0].path").name == "cdh.kbs_resources"


@pytest.mark.parametrize(
    "text",
    [
        "kbs:///a/b/c",
        "kbs:///a/b/c::relative",
        f"::{CREDENTIALS_ROOT}/a",
        "kbs:///a/b/c::/etc/a",
        ",",
    ],
)
def test_items_of_another_form_are_not_lost(text: str) -> None:
    with pytest.raises((SettingsError, CdhError)):
        cdh.settings.load(None, {}, kernel(cdh__kbs_resources=text))


IMAGES = kernel(
    agent__https_proxy="http://proxy",
    agent__image_registry_auth="kbs:///a/b/c",
    agent__image_policy_file="kbs:///p/o/l",
)


def test_parameters_for_images_are_known_and_said_to_have_no_effect(tmp_path: Path) -> None:
    settings = cdh.settings.load(None, {}, IMAGES)
    assert settings.value.image.authenticated_registry_credentials_uri == "kbs:///a/b/c"
    assert settings.value.image.image_security_policy_uri is None
    assert "image.image_pull_proxy.https_proxy" in settings.notes[0]
    assert "pulls no images" in settings.notes[0]
    verifying = KernelCommandLine(
        {**IMAGES.parameters, "agent.enable_signature_verification": "true"}
    )
    assert cdh.settings.load(None, {}, verifying).value.image.image_security_policy_uri
    own = cdh.settings.load(written(tmp_path, "[image]\nwork_dir = '/x'"), {}, verifying)
    assert own.value.image.authenticated_registry_credentials_uri is None
    assert own.value.image.work_dir == "/x"


HISTORIC = """
[kbc]
name = "cc_kbc"
url = "https://k"
[image]
default_snapshot = "overlay"
image_pull_proxy = "http://proxy"
skip_proxy_ips = "192.168.0.1"
kbc = "cc_kbc"
[image.nydus]
type = "fuse"
[image.nydus.fuse]
fuse_threads = 4
"""


def test_a_file_of_an_older_release_starts_with_a_word_for_each_key(tmp_path: Path) -> None:
    settings = cdh.settings.load(written(tmp_path, HISTORIC), {}, NO_KERNEL)
    assert settings.value.image.image_pull_proxy == "http://proxy"
    assert sum("has no effect: this hub pulls no images" in note for note in settings.notes) == 4
    daemon = "\n".join(
        f"[cdh.{line[1:]}" if line.startswith("[") else line for line in HISTORIC.splitlines()
    )
    assert len(cguestd.settings.load(written(tmp_path, daemon), {}, NO_KERNEL).notes) == 5


def test_an_algorithm_of_v0_9_is_accepted_and_has_no_effect(tmp_path: Path) -> None:
    path = written(tmp_path, "[eventlog_config]\neventlog_algorithm = 'sha256'")
    assert "RTMRs are SHA-384" in agent.settings.load(path, {}, NO_KERNEL).notes[0]


def test_json_as_the_reference_reads_it(tmp_path: Path) -> None:
    document = {"kbc": {"name": "cc_kbc", "url": "https://k"}, "socket": "unix:///run/cdh.sock"}
    path = written(tmp_path, json.dumps(document), "cdh.json")
    assert cdh.settings.load(path, {}, NO_KERNEL).value.kbc.url == "https://k"


def _keys(settings: Settings[object]) -> list[str]:
    return [weakening.key for weakening in settings.weakenings]


def test_what_weakens_from_a_file_is_admitted_and_said(tmp_path: Path) -> None:
    text = """
    [agent]
    socket = "127.0.0.1:50002"
    [agent.tee]
    allow_sample = true
    devices = ["sampledevice"]
    report_path = "/elsewhere"
    [agent.token_configs.kbs]
    url = "http://far"
    cert = "pem"
    tee_key_algorithm = "RSA1_5"
    [[agent.token_configs.others]]
    url = "http://127.0.0.1"
    urls = ["http://far"]
    [cdh]
    skip_sealed_secret_verification = true
    mounts.allow_http = true
    [cdh.kbc]
    url = "https://near"
    [[cdh.kbc.named]]
    name = "n"
    url = "http://far"
    [rest]
    evidence = "reference"
    """
    assert _keys(cguestd.settings.load(written(tmp_path, text), {}, NO_KERNEL)) == [
        "agent.tee.allow_sample",
        "agent.tee.devices",
        "agent.socket",
        "agent.token_configs.kbs.url",
        "agent.token_configs.kbs.tee_key_algorithm",
        "agent.token_configs.others[0].urls",
        "cdh.skip_sealed_secret_verification",
        "cdh.kbc.named[0].url",
        "cdh.mounts.allow_http",
        "rest.evidence",
    ]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("cdh.socket = 'unix:///run/a'\nagent.socket = 'unix:///run/a'", "cdh.socket"),
        ("metrics.socket = 'unix:///run/a'\nagent.socket = 'unix:///run/a'", "metrics.socket"),
        ("agent.getresource_socket = 'tcp://x'", "tcp://x"),
        (
            "cdh.skip_sealed_secret_verification = true\nrest.token = 'reference'",
            "skip_sealed_secret_verification",
        ),
        (
            "agent.tee.allow_sample = true\ncdh.kbc.serve_stale_seconds = 9",
            "cdh.kbc.serve_stale_seconds",
        ),
        ("agent.tee.allow_sample = true\nagent.tee.quote_source = 'qgs'", "tee.quote_source"),
    ],
)
def test_mixes_that_are_refused(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(LifecycleError) as caught:
        cguestd.settings.load(written(tmp_path, text), {}, NO_KERNEL)
    assert key in str(caught.value)


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("http://far", True),
        ("HTTP://10.0.0.1:80/x", True),
        ("https://far", False),
        ("http://127.0.0.1:8080", False),
        ("http://[::1]", False),
        ("http://localhost", False),
        ("http://localhost.example", True),
        ("http://[bad", False),
        ("", False),
    ],
)
def test_urls_in_clear(url: str, is_open: bool) -> None:
    assert is_open_http(url) is is_open


def test_initdata_is_checked_also_where_no_flag_says_so() -> None:
    directory = "/run/confidential-containers/initdata"
    assert initdata_beside(Path(directory, "aa.toml")) == Path(directory, "initdata.toml")
    assert initdata_beside(Path("/etc/aa.toml")) is None
    assert initdata_beside(None) is None


def test_initdata_is_found_behind_links_of_the_image(tmp_path: Path) -> None:
    directory = tmp_path / "initdata"
    directory.mkdir()
    (directory / "aa.toml").touch()
    (tmp_path / "aa.toml").symlink_to(directory / "aa.toml")
    (tmp_path / "link").symlink_to(directory)
    for way in ("aa.toml", "link/aa.toml", "x/../initdata/aa.toml"):
        assert initdata_beside(tmp_path / way, directory) == directory / "initdata.toml"
