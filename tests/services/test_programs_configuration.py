"""The four programs as processes: every spelling of every flag, checking, printing, exit codes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PROGRAMS = {
    "attestation-agent": "agent",
    "confidential-data-hub": "cdh",
    "api-server-rest": "rest",
    "cguestd": "cguestd",
}
LIMIT_SECONDS = 60
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}


def run(
    module: str, *arguments: str, environ: dict[str, str] | None = None, before: str = ""
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    if before:
        command = ["unshare", "--mount", "sh", "-c", f'{before}; exec "$@"', "sh", *command]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=ENVIRONMENT | (environ or {}),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def printed(module: str, *arguments: str, **more: dict[str, str]) -> dict[str, str]:
    """Return each line of --print-config: what is set, and the source."""
    done = run(module, "--print-config", *arguments, **more)  # type: ignore[arg-type]
    assert done.returncode == 0, done.stderr
    lines = (line.rpartition("  # ") for line in done.stdout.splitlines()[1:])
    return {left.rstrip(): source for left, _, source in lines}


SPELLINGS = [
    ("agent", ["-a", "V"], 'socket = "V"', "--attestation_sock"),
    ("agent", ["--attestation_sock", "V"], 'socket = "V"', "--attestation_sock"),
    ("agent", ["--attestation-sock=V"], 'socket = "V"', "--attestation_sock"),
    ("agent", ["-k", "V"], 'keyprovider_socket = "V"', "--keyprovider_sock"),
    ("agent", ["--keyprovider_sock=V"], 'keyprovider_socket = "V"', "--keyprovider_sock"),
    ("agent", ["-g", "V"], 'getresource_socket = "V"', "--getresource_sock"),
    ("agent", ["--getresource-sock", "V"], 'getresource_socket = "V"', "--getresource_sock"),
    ("cdh", ["-s", "V"], 'socket = "V"', "--socket"),
    ("cdh", ["--socket=V"], 'socket = "V"', "--socket"),
    ("rest", ["-c", "V"], 'cdh_addr = "V"', "--cdh_addr"),
    ("rest", ["--cdh-addr=V"], 'cdh_addr = "V"', "--cdh_addr"),
    ("rest", ["-a", "V"], 'aa_addr = "V"', "--aa_addr"),
    ("rest", ["--aa_addr", "V"], 'aa_addr = "V"', "--aa_addr"),
    ("rest", ["-b", "[::1]:8006"], 'bind = "[::1]:8006"', "--bind"),
    ("rest", ["--bind=127.0.0.1:1"], 'bind = "127.0.0.1:1"', "--bind"),
    ("rest", ["-f", "all"], 'features = "all"', "--features"),
    ("rest", ["--features", "attestation"], 'features = "attestation"', "--features"),
]


@pytest.mark.parametrize(
    ("module", "arguments", "line", "flag"), SPELLINGS, ids=[" ".join(s[1]) for s in SPELLINGS]
)
def test_every_spelling_of_a_flag(module: str, arguments: list[str], line: str, flag: str) -> None:
    address = "unix:///run/somewhere.sock"
    arguments = [argument.replace("V", address) for argument in arguments]
    assert printed(module, *arguments)[line.replace("V", address)] == f"flag {flag}"


FILES = [
    ("agent", "-c", '{"token_configs": {"kbs": {"url": "https://k"}}}', "token_configs.kbs.url"),
    ("agent", "--config-file", "[token_configs.kbs]\nurl='https://k'", "token_configs.kbs.url"),
    ("agent", "--config_file", "[token_configs.kbs]\nurl='https://k'", "token_configs.kbs.url"),
    ("cdh", "-c", "[kbc]\nname='cc_kbc'\nurl='https://k'", "kbc.url"),
    ("cdh", "--config", '{"kbc": {"url": "https://k"}}', "kbc.url"),
    ("cguestd", "-c", "[cdh.kbc]\nurl='https://k'", "cdh.kbc.url"),
    ("cguestd", "--config", "[cdh.kbc]\nurl='https://k'", "cdh.kbc.url"),
]


@pytest.mark.parametrize(("module", "flag", "text", "key"), FILES)
def test_a_file_under_every_name_of_its_flag(
    tmp_path: Path, module: str, flag: str, text: str, key: str
) -> None:
    path = tmp_path / ("x.json" if text.startswith("{") else "x.toml")
    path.write_text(text)
    assert printed(module, flag, str(path))[f'{key} = "https://k"'] == f"file {path}"


def test_rules_of_rest_come_from_a_file_and_flags_win(tmp_path: Path) -> None:
    path = tmp_path / "rest.toml"
    path.write_text("bind = '127.0.0.1:1'\nfeatures = 'all'\nlimits.burst = 7\nlog.level = 'info'")
    lines = printed("rest", "--config", str(path), "-f", "resource")
    assert lines['features = "resource"'] == "flag --features"
    assert lines['bind = "127.0.0.1:1"'] == f"file {path}"
    assert lines["limits.burst = 7"] == f"file {path}"


@pytest.mark.parametrize(
    ("module", "prefix"), [("agent", ""), ("cdh", ""), ("rest", ""), ("cguestd", "cdh.")]
)
def test_a_level_that_is_none(tmp_path: Path, module: str, prefix: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(f"{prefix}log.level = 'loud'\n")
    done = run(module, "--config", str(path))
    assert done.returncode == 1
    assert "level: unknown; choose one of" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_all_have_in_common(name: str) -> None:
    module = PROGRAMS[name]
    assert run(module, "--check-config").stdout == (
        f"{name}: built-in defaults: configuration is valid\n"
    )
    assert run(module, "--version").stdout.startswith(f"{name} ")
    usage = run(module, "--help")
    assert usage.returncode == 0
    assert "docs/configuration.md" in " ".join(usage.stdout.split())
    wrong = run(module, "--no-such-flag")
    assert wrong.returncode == 2
    assert "--no-such-flag" in wrong.stderr


@pytest.mark.parametrize(
    ("module", "arguments", "problem"),
    [
        ("agent", ["-c", "/nonexistent"], "No such file"),
        ("agent", ["-a", "/no/scheme"], "write unix:///path"),
        ("agent", ["-i", "?"], "not standard base64"),
        ("agent", ["-c", "/run/confidential-containers/initdata/aa.toml"], "No such file"),
        ("cdh", ["-c", "/nonexistent"], "No such file"),
        ("cdh", ["-s", "0.0.0.0:1"], "loopback"),
        ("rest", ["-f", "everything"], "is unknown"),
        ("rest", ["-b", "0.0.0.0:8006"], "not a loopback address"),
        ("rest", ["--config", "/nonexistent"], "No such file"),
        ("cguestd", ["-c", "/nonexistent"], "No such file"),
    ],
)
def test_what_prevents_the_start_is_one_line(
    module: str, arguments: list[str], problem: str
) -> None:
    done = run(module, *arguments, "--check-config")
    assert done.returncode == 1
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_checking_says_what_was_checked(tmp_path: Path) -> None:
    path = tmp_path / "empty.toml"
    path.write_text("")
    for name, module in PROGRAMS.items():
        done = run(module, "--config", str(path), "--check-config")
        assert done.stdout == f"{name}: {path}: configuration is valid\n"


def test_checking_says_what_weakens(tmp_path: Path) -> None:
    path = tmp_path / "cdh.toml"
    path.write_text("skip_sealed_secret_verification = true\n[image]\nwork_dir = '/x'\n")
    done = run("cdh", "-c", str(path), "--check-config")
    assert done.returncode == 0
    assert "weakens: skip_sealed_secret_verification (file " in done.stdout
    assert "note: image.work_dir: no effect" in done.stdout
    path.chmod(0o666)
    done = run("cdh", "-c", str(path), "--check-config")
    assert done.returncode == 1
    assert "every user of the guest can write" in done.stderr


@pytest.mark.parametrize(
    ("module", "text", "problem"),
    [
        ("agent", "[token_configs.kbs]\nurl = 'https://u:hunter2@k'", "user name"),
        ("agent", "[token_configs.kbs]\nurl = 'https://k'\ncert = '/a/path'", "usable PEM"),
        ("cdh", "[kbc]\nurl = 'ftp://k'", "not http or https"),
        ("cdh", "[kbc]\nurl = 'https://k'\nproxy = 'https://p'", "its proxy"),
        ("cdh", "mounts.ca_file = '/nonexistent'", "mounts.ca_file cannot be read"),
        ("cguestd", "[cdh.kbc]\nurl = 'https://k'\nkbs_cert = 'x'", "usable PEM"),
    ],
)
def test_checking_tries_what_a_start_would_stumble_over(
    tmp_path: Path, module: str, text: str, problem: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    done = run(module, "-c", str(path), "--check-config")
    assert done.returncode == 1
    assert problem in done.stderr
    assert done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        ("cdh", "SKIP_SEALED_SECRET_VERIFICATION", "true"),
        ("cdh", "KBS_CERT", "-----BEGIN CERTIFICATE-----"),
        ("agent", "ENABLE_SAMPLE_DEVICE", "1"),
        ("cguestd", "ENABLE_SAMPLE_DEVICE", "1"),
        ("agent", "RUST_LOG", "a=loud"),
        ("rest", "RUST_LOG", "a=loud"),
    ],
)
def test_variables_that_are_refused(module: str, name: str, value: str) -> None:
    done = run(module, "--check-config", environ={name: value})
    assert done.returncode == 1
    assert f"environment {name}" in done.stderr
    assert "CERTIFICATE" not in done.stderr


@pytest.mark.real
def test_the_kernel_command_line_of_the_machine(tmp_path: Path) -> None:
    line = tmp_path / "cmdline"
    path = "/run/confidential-containers/cdh/kbs/x"
    line.write_text(
        'quiet agent.aa_kbc_params="cc_kbc::https://[fd00::1]:8080" '
        f"cdh.kbs_resources=kbs:///a/b/c::{path} agent.https_proxy=http://proxy\n"
    )
    covered = f"mount --bind {line} /proc/cmdline"
    for module, prefix in (("cdh", ""), ("cguestd", "cdh.")):
        done = run(module, "--print-config", before=covered)
        source = "# kernel command line agent.aa_kbc_params"
        assert f'{prefix}kbc.url = "https://[fd00::1]:8080"' in done.stdout, done.stderr
        assert source in done.stdout
        assert f'{prefix}credentials[0].path = "{path}"' in done.stdout
        assert "pulls no images" in done.stdout
    assert "https://[fd00::1]:8080" in run("agent", "--print-config", before=covered).stdout
    line.write_text("agent.aa_kbc_params=nonsense\n")
    for module in ("agent", "cdh", "cguestd"):
        done = run(module, "--check-config", before=covered)
        assert done.returncode == 1
        assert "kernel command line agent.aa_kbc_params" in done.stderr


def test_nothing_secret_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    pem = "-----BEGIN CERTIFICATE-----\nMIIBSECRET\n-----END CERTIFICATE-----"
    path.write_text(
        json.dumps(
            {
                "cdh": {"kbc": {"url": "https://u:hunter2@k", "kbs_cert": pem}},
                "rest": {"required_header": "X-Guest: hunter2hunter2hunter2hunter2"},
            }
        )
    )
    done = run("cguestd", "-c", str(path), "--print-config")
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout
    assert "MIIBSECRET" not in done.stdout
    assert "<PEM, " in done.stdout
