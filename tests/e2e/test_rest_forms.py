"""REST in the daemon's process and REST of its own answer alike: one conformance, two forms."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from demo.stage import Daemon, Finished, Stage, free_port, run

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def separate(stage: Stage) -> AsyncIterator[str]:
    """A REST server in a process of its own, on the sockets of the stage's daemon."""
    port = free_port()
    config = stage.folder / "rest-only.toml"
    config.write_text(
        f'[rest]\nbind = "127.0.0.1:{port}"\nfeatures = "all"\n'
        f'cdh_addr = "unix://{stage.hub_socket}"\naa_addr = "unix://{stage.agent_socket}"\n'
    )
    folder = stage.folder / "rest-only"
    folder.mkdir()
    daemon = await Daemon.start(config, folder, "--services", "rest")
    yield f"http://127.0.0.1:{port}"
    assert await daemon.stop() == 0


async def _ask(base: str, path: str, *more: str) -> Finished:
    return await run("curl", "-sS", "-w", "\n%{http_code} %{content_type}", *more, base + path)


@pytest.mark.parametrize(
    ("path", "more"),
    [
        pytest.param("/info", (), id="info"),
        pytest.param("/cdh/resource/default/key/1", (), id="resource"),
        pytest.param("/cdh/resource/no/such/resource", (), id="missing"),
        pytest.param("/cdh/resource/short", (), id="malformed"),
        pytest.param("/aa/additional-evidence?runtime_data=x", (), id="no-devices"),
        pytest.param("/aa/token?token_type=unheard-of", (), id="token-kind"),
        pytest.param("/aa/evidence", (), id="no-parameter"),
        pytest.param("/elsewhere", (), id="unknown-route"),
        pytest.param(
            "/aa/aael",
            ("-d", '{"domain":"e2e","operation":"Rest","content":"x"}'),
            id="measurement",
        ),
    ],
)
async def test_both_forms_answer_alike(
    stage: Stage, separate: str, path: str, more: tuple[str, ...]
) -> None:
    inside, apart = await _ask(stage.rest_url, path, *more), await _ask(separate, path, *more)
    status = [answer.text.splitlines()[-1] for answer in (inside, apart)]
    assert status[0] == status[1]
    if status[0].startswith("200"):
        assert inside.out == apart.out
    else:
        # The same text of the reference; the cause behind it may name the socket in between.
        assert inside.text.partition(":")[0] == apart.text.partition(":")[0]


async def test_both_forms_give_evidence_and_token(stage: Stage, separate: str) -> None:
    for base in (stage.rest_url, separate):
        evidence = await run("curl", "-sS", f"{base}/aa/evidence?runtime_data=same")
        assert set(json.loads(evidence.out)) == {"quote", "cc_eventlog"}
        token = await run("curl", "-sS", f"{base}/aa/token?token_type=kbs")
        assert set(json.loads(token.out)) == {"token"}


async def test_what_was_sent_in_place_of_a_path_is_told_to_its_sender_and_not_to_the_log(
    stage: Stage, separate: str
) -> None:
    for base, folder in ((stage.rest_url, stage.folder), (separate, stage.folder / "rest-only")):
        answer = await _ask(base, "/cdh/resource/misplaced-password")
        assert answer.text.splitlines()[-1].startswith("500")
        assert "misplaced-password" in answer.text
        logs = [path.read_text() for path in folder.glob("*.log")]
        assert any("request failed" in text for text in logs)
        assert not any("misplaced-password" in text for text in logs)
