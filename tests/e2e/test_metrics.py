"""Metrics of the real daemon, scraped with curl, on a stage of its own."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
import pytest_asyncio

from demo.stage import Finished, Stage, run
from protos.stubs import AttestationStatusStub
from tests.rules.exposition import parse

pytestmark = pytest.mark.asyncio(loop_scope="module")
HELD_SECONDS = 600


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def socket(stage: Stage) -> Path:
    """Turn metrics on, which are off unless configured."""
    path = stage.folder / "run" / "metrics.sock"
    assert not path.exists()
    text = stage.config.read_text()
    kept = text.replace("[cdh.kbc]\n", f"[cdh.kbc]\nserve_stale_seconds = {HELD_SECONDS}\n")
    stage.config.write_text(f'{kept}\n[metrics]\nsocket = "unix://{path}"\n')
    await stage.restart()
    return path


async def _request(socket: Path, *more: str, path: str = "/metrics") -> Finished:
    return await run(
        "curl", "-sS", "--max-time", "10", "--unix-socket", str(socket), *more,
        f"http://localhost{path}",
    )  # fmt: skip


async def _scrape(socket: Path) -> dict[str, float]:
    done = await _request(socket)
    assert done.code == 0, done.err
    return parse(done.out.decode())


def _resources(values: dict[str, float]) -> tuple[float, ...]:
    outcomes = ("served", "refused", "failed")
    return tuple(values[f'cguest_resources_total{{outcome="{name}"}}'] for name in outcomes)


async def test_without_metrics_nothing_is_imported_for_them() -> None:
    program = (
        "import sys, cguestd.__main__;"
        "sys.exit(bool({'aiohttp.web', 'cguestd.metrics_socket'} & set(sys.modules)))"
    )
    assert (await run(sys.executable, "-c", program)).code == 0


async def test_metrics_follow_what_happens(stage: Stage, socket: Path) -> None:
    await stage.restart()  # counts begin anew
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    await stage.harness.put_resource("e2e/metrics/private-name", b"the value")

    before = await _scrape(socket)
    assert _resources(before) == (0, 0, 0)
    assert before['cguest_sessions{state="none"}'] == 1
    assert before["cguest_quotes_taken_total"] == 0
    assert "cguest_session_expiry_timestamp_seconds" not in before

    got = await stage.cguest("resource", "get", "kbs:///e2e/metrics/private-name")
    assert got.out == b"the value", got.err
    fetched = await _scrape(socket)
    assert _resources(fetched) == (1, 0, 0)
    assert fetched['cguest_handshakes_total{outcome="ok"}'] == 1
    assert fetched["cguest_quotes_taken_total"] == 1
    assert fetched['cguest_sessions{state="attested"}'] == 1
    async with await stage.agent() as client:
        status = await AttestationStatusStub(client).get_status(timeout_s=10)
    assert fetched["cguest_session_expiry_timestamp_seconds"] == status.session_expires_unix > 0

    assert (await stage.cguest("resource", "get", "kbs:///e2e/metrics/absent")).code == 1
    assert (await stage.curl("/cdh/resource/e2e/metrics/absent")).code == 0  # by REST as well
    assert _resources(await _scrape(socket)) == (1, 2, 0)
    sealed = await stage.cguest("secret", "unseal", "-", stdin=b"sealed.no.such.secret")
    assert sealed.code != 0
    assert (await _scrape(socket))["cguest_unseal_failures_total"] == 1

    await stage.harness.kbs.aclose()  # no other test here needs it
    stale = await stage.cguest("resource", "get", "kbs:///e2e/metrics/private-name")
    assert stale.out == b"the value", stale.err
    away = await _scrape(socket)
    assert _resources(away) == (2, 2, 0)
    assert away["cguest_resources_stale_total"] == 1
    assert 0 < away["cguest_resource_stale_oldest_age_seconds"] < HELD_SECONDS

    text = (await _request(socket)).out.decode()
    assert "private-name" not in text
    assert str(stage.folder) not in text
    assert stage.harness.kbs_url not in text


@pytest.mark.parametrize(
    ("path", "more", "status"),
    [("/metrics", (), b"200 text/plain; version=0.0.4; charset=utf-8"),
     ("/metrics", ("--head",), b"200 text/plain; version=0.0.4; charset=utf-8"),
     ("/metrics", ("--data", "x"), b"405 text/plain; charset=utf-8"),
     ("/", (), b"404 text/plain; charset=utf-8"),
     ("/metrics/../aa/token", ("--path-as-is",), b"404 text/plain; charset=utf-8")],
    ids=["get", "head", "post", "root", "elsewhere"],
)  # fmt: skip
async def test_nothing_else_is_there(
    socket: Path, path: str, more: tuple[str, ...], status: bytes
) -> None:
    form = ("-o", "/dev/null", "-w", "%{http_code} %{content_type}")
    assert (await _request(socket, *form, *more, path=path)).out == status


async def test_the_socket_goes_with_the_daemon(stage: Stage, socket: Path) -> None:
    assert socket.exists()
    assert await stage.stop() == 0
    assert not socket.exists()
    await stage.restart()
