"""Programs started with the environment of somebody hostile: the host, through the kernel."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.stage import free_port
from lifecycle.environment import DOCUMENTED, KEPT, PATH
from tests.conftest import ROOT
from tests.services.rest_process import get

LIMIT_SECONDS = 60
# As the installed programs begin; sources are found as an installed package would be.
PROBE = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lifecycle.environment import take_environment
documented = take_environment(None)
import json, os, pathlib
print(json.dumps({{
    "documented": documented,
    "left": dict(os.environ),
    "child": os.popen("/usr/bin/env").read(),
    "isolated": sys.flags.isolated,
    "modules": sorted(sys.modules),
    "maps": pathlib.Path("/proc/self/maps").read_text(),
    "arguments": sys.argv[1:],
}}))
"""
HOSTILE = {
    "PATH": "/evil",
    "HOME": "/evil",
    "http_proxy": "http://evil",
    "HTTPS_PROXY": "http://evil",
    "SSLKEYLOGFILE": "/evil/keys",
    "SSL_CERT_FILE": "/evil/ca.pem",
    "SSL_CERT_DIR": "/evil",
    "RES_OPTIONS": "debug",
    "LOCALDOMAIN": "evil",
    "TMPDIR": "/evil",
    "TZ": ":/evil",
    "LANG": "xx",
}
ACTING = {
    "LD_LIBRARY_PATH": "/evil",
    "LD_BIND_NOW": "1",
    "GLIBC_TUNABLES": "glibc.malloc.check=1",
    "MALLOC_ARENA_MAX": "1",
    "GCONV_PATH": "/evil",
    "OPENSSL_CONF": "/evil/openssl.cnf",
    "OPENSSL_MODULES": "/evil",
    "AIOHTTP_NO_EXTENSIONS": "1",
}


def probe(
    tmp_path: Path, environ: dict[str, str], *, isolated: bool = True, module: bool = False
) -> dict[str, object]:
    script = tmp_path / "probe.py"
    script.write_text(PROBE)
    command = [sys.executable, *(["-I"] if isolated else []), str(script), "--flag", "a b"]
    if module:
        command = [sys.executable, "-m", "probe", "--flag", "a b"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=LIMIT_SECONDS,
        check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    assert found["arguments"] == ["--flag", "a b"]
    return found


@pytest.mark.parametrize("acting", [{}, ACTING], ids=["dropped", "executed again"])
def test_nothing_hostile_stays_or_reaches_a_child(tmp_path: Path, acting: dict[str, str]) -> None:
    documented = {"AA_KBC_PARAMS": "cc_kbc::https://k", "RUST_LOG": "info", "KBS_CERT": "x\ny"}
    kept = {"NOTIFY_SOCKET": "/run/notify", "LISTEN_FDS": "1", "WATCHDOG_USEC": "9"}
    found = probe(tmp_path, HOSTILE | acting | documented | kept | {"RUST_BACKTRACE": "full"})
    assert found["documented"] == documented
    assert found["left"] == kept | {"PATH": PATH}
    child = str(found["child"])
    assert "evil" not in child
    assert "AA_KBC_PARAMS" not in child


def test_every_documented_variable_is_taken_and_none_is_kept(tmp_path: Path) -> None:
    found = probe(tmp_path, dict.fromkeys(DOCUMENTED, "x") | dict.fromkeys(KEPT, "y"))
    assert found["documented"] == dict.fromkeys(DOCUMENTED, "x")
    assert found["left"] == dict.fromkeys(KEPT, "y") | {"PATH": PATH}


def test_a_library_that_was_loaded_first_is_gone(tmp_path: Path) -> None:
    library = next(
        path
        for path in sorted(Path("/usr/lib").glob("*-linux-gnu/libanl.so.1"))
        + sorted(Path("/usr/lib").glob("*-linux-gnu/libBrokenLocale.so.1"))
    )
    show = [sys.executable, "-c", "print(open('/proc/self/maps').read())"]
    environ = {"LD_PRELOAD": str(library)}
    loaded = subprocess.run(show, env=environ, capture_output=True, text=True, check=True)
    assert library.name in loaded.stdout
    found = probe(tmp_path, environ)
    assert library.name not in str(found["maps"])


def _with_evil_module(tmp_path: Path) -> dict[str, str]:
    evil = tmp_path / "evil"
    evil.mkdir()
    (evil / "sitecustomize.py").write_text("import evil_was_here")
    (evil / "evil_was_here.py").write_text("")
    return {"PYTHONPATH": str(evil), "PYTHONWARNINGS": "error", "PYTHONDEVMODE": "1"}


@pytest.mark.parametrize("isolated", [True, False], ids=["-I", "a script without -I"])
def test_python_variables_do_not_act_on_programs(tmp_path: Path, isolated: bool) -> None:
    found = probe(tmp_path, _with_evil_module(tmp_path), isolated=isolated)
    assert found["isolated"] == 1
    assert "evil_was_here" not in str(found["modules"])
    assert found["left"] == {"PATH": PATH}


def test_they_do_for_work_on_the_sources(tmp_path: Path) -> None:
    environ = {"PYTHONPATH": str(tmp_path), "LD_BIND_NOW": "1", "HOME": "/x"}
    found = probe(tmp_path, environ, module=True)
    assert found["left"] == {"PATH": PATH, "PYTHONPATH": str(tmp_path)}


async def test_a_program_serves_as_if_nothing_had_been_set(tmp_path: Path) -> None:
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rest", "-b", f"127.0.0.1:{port}", "-c", "unix:///none/cdh",
        cwd=ROOT,
        env=HOSTILE | ACTING | {"PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            answer = await get(port, "/cdh/resource/a/b/c")
        assert b"ttrpc connect to CDH addr" in answer
        began_with = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"LD_" not in began_with
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


def test_the_environment_of_a_caller_is_left_alone() -> None:
    from lifecycle.environment import take_environment

    before = dict(os.environ)
    take_environment([])
    assert dict(os.environ) == before
