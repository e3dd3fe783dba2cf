"""Configuration, TEE detection and kinds of token."""

from __future__ import annotations

import base64
import errno
from pathlib import Path

import pytest

from agent.__main__ import main
from agent.config import DEFAULT_SOCKET, AgentConfig
from agent.detection import require_tdx
from agent.errors import TeeAbsentError, TokenKindError
from agent.settings import load
from agent.tokens import TokenIssuer
from kbs import (
    AttestedSession,
    ProtocolVersion,
    TeeKey,
    TeeKeyAlgorithm,
    session_from_aa_json,
)
from lifecycle import LifecycleError, SettingsError
from lifecycle.kernel_command_line import KernelCommandLine
from secrecy import Secret
from tests.ports.fake_tsm import FakeTsm

REFERENCE = """
[token_configs.kbs]
url = "https://kbs.example:8080/"
cert = "pem"
tee_key_algorithm = "ECDH-ES+A256KW-P521"
protocol_version = "0.1.0-early"
[token_configs.coco_as]
url = "http://as.example"
[eventlog_config]
init_pcr = 8
enable_eventlog = true
eventlog_algorithm = "sha384"
[log]
level = "trace"
[tee]
report_path = "/mnt/tsm/report"
"""


NOTHING = KernelCommandLine()


def loaded(path: Path) -> AgentConfig:
    return load(path, {}, NOTHING).value


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "aa.toml"
    path.write_text(text)
    return path


def test_keys_of_the_reference_and_our_own(tmp_path: Path) -> None:
    config = loaded(written(tmp_path, REFERENCE))
    kbs = config.token_configs.kbs
    assert kbs is not None
    assert (kbs.url, kbs.cert) == ("https://kbs.example:8080/", "pem")
    assert kbs.key_algorithm is TeeKeyAlgorithm.EC_P521
    assert kbs.protocol_version is ProtocolVersion.V0_1_0_EARLY
    assert config.eventlog_config.enable_eventlog
    assert config.eventlog_config.init_pcr == 8
    assert config.log.journal_level == "debug"
    assert config.tee.report_path == "/mnt/tsm/report"
    assert config.tee.ccel_path == "/sys/firmware/acpi/tables/data/CCEL"
    assert config.socket == DEFAULT_SOCKET


def test_defaults_are_the_kernels_paths_and_quiet(tmp_path: Path) -> None:
    config = loaded(written(tmp_path, ""))
    assert config == AgentConfig()
    assert config.tee.report_path == "/sys/kernel/config/tsm/report"
    assert config.tee.measurements_path == "/sys/devices/virtual/misc/tdx_guest/measurements"
    assert config.eventlog_config.directory == "/run/attestation-agent"
    assert (config.eventlog_config.init_pcr, config.eventlog_config.enable_eventlog) == (17, False)
    assert config.log.journal_level == "warning"


@pytest.mark.parametrize(
    "text",
    [
        "sokcet = 'unix:///x'",
        "[token_configs.kbs]\ncert = 'x'",
        "[token_configs.kbs]\nurl = 'http://x'\ntee_key_algorithm = 'ML-KEM-512'",
        "[token_configs.other]\nurl = 'x'",
        "[eventlog_config]\ninit_pcr = -1",
        "[eventlog_config]\neventlog_algorithm = 'sm3'",
        "socket = '0.0.0.0:50002'",
        "socket = 'unix:///run/a'\nkeyprovider_socket = 'unix:///run/a'",
        "[tee]\nallow_sample = true\nquote_source = 'configfs'",
        "[log]\nlevel = 'loud'",
        "[tee]\nreport_path = 'relative'",
        "[tee]\nquote_seconds = 0",
        "not toml",
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LifecycleError):
        loaded(written(tmp_path, text))


def test_a_post_quantum_key_can_be_configured(tmp_path: Path) -> None:
    text = "[token_configs.kbs]\nurl = 'http://x'\ntee_key_algorithm = 'ML-KEM-768+A192KW'"
    kbs = loaded(written(tmp_path, text)).token_configs.kbs
    assert kbs is not None
    assert kbs.key_algorithm is TeeKeyAlgorithm.ML_KEM_768


def test_a_file_that_cannot_be_read_is_no_default(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        loaded(tmp_path / "absent.toml")


def test_detection_leaves_no_entry() -> None:
    tsm = FakeTsm()
    require_tdx(tsm)
    assert tsm.table == {}


@pytest.mark.parametrize("code", [errno.ENOENT, errno.ENXIO, errno.EACCES, errno.EBUSY])
def test_no_tee_is_one_clear_error(code: int) -> None:
    tsm = FakeTsm()
    tsm.fail("mkdir", code)
    with pytest.raises(TeeAbsentError, match=errno.errorcode[code]) as caught:
        require_tdx(tsm)
    assert "tee.allow_sample" in caught.value.hint


def test_another_tee_is_named() -> None:
    tsm = FakeTsm(provider=b"sev_guest\n")
    with pytest.raises(TeeAbsentError, match="expected Intel TDX, got provider 'sev_guest'"):
        require_tdx(tsm)
    assert tsm.table == {}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-c", "/nonexistent/aa.toml"], "No such file"),
        (["-c", "AA", "--attestation_sock", "/no/scheme"], "unix:///path"),
        (["-c", "AA", "--initdata-digest", "x"], "not standard base64"),
        (["-c", "AA", "--initdata-toml", "/nonexistent/i"], "No such file"),
    ],
)
def test_start_up_errors_are_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], text: str
) -> None:
    path = str(written(tmp_path, ""))
    assert main([path if a == "AA" else a for a in arguments]) == 1
    message = capsys.readouterr().err
    assert text in message
    assert message.count("\n") == 1


class FixedSessions:
    """A session source that renews when the present session is called refused."""

    def __init__(self) -> None:
        self.made = 0
        self.present = self._make()

    def _make(self) -> AttestedSession:
        self.made += 1
        claims = base64.urlsafe_b64encode(b'{"n":%d}' % self.made).rstrip(b"=").decode()
        return AttestedSession(Secret(f"e30.{claims}.c2ln"), TeeKey.generate(), None)

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        if refused is not None and refused.token_id == self.present.token_id:
            self.present = self._make()
        return self.present


async def test_a_refused_token_is_replaced_and_another_is_not() -> None:
    sessions = FixedSessions()
    issuer = TokenIssuer(sessions)
    first = session_from_aa_json((await issuer.token("kbs")).reveal())
    again = session_from_aa_json((await issuer.token("kbs", "00" * 32)).reveal())
    assert again.token_id == first.token_id
    other = session_from_aa_json((await issuer.token("kbs", first.token_id)).reveal())
    assert other.token_id != first.token_id
    # A second caller with the same refused token gets the session made for the first.
    await issuer.token("kbs", first.token_id)
    assert sessions.made == 2


@pytest.mark.parametrize("kind", ["coco_as", "", "KBS", "x" * 999])
async def test_other_kinds_of_token_are_refused_by_name(kind: str) -> None:
    with pytest.raises(TokenKindError) as caught:
        await TokenIssuer(FixedSessions()).token(kind)
    assert repr(kind[:64]) in str(caught.value)
