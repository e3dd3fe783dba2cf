"""The commands of docs/rest.md, run as they are written there, and their answers.

A section with a configuration gets a server of its own with it, beside the stage's daemon.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.stage import Daemon, Stage, free_port, run
from tests.conftest import ROOT

pytestmark = pytest.mark.asyncio(loop_scope="module")

TCP = "127.0.0.1:8006"
FOLDERS = ("/run/confidential-guest/", "/run/confidential-containers/")


@dataclass(frozen=True)
class Section:
    """A section of the document: at most one configuration, and commands with their answers."""

    title: str
    configuration: str
    commands: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, text: str) -> Section:
        title, _, body = text.partition("\n")
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", body, re.MULTILINE | re.DOTALL)
        configurations = [content for kind, content in blocks if kind == "toml"]
        assert len(configurations) <= 1
        commands = []
        for number, (kind, content) in enumerate(blocks):
            if kind == "sh":
                assert blocks[number + 1][0] == "text", f"no answer to {content}"
                commands.append((content, blocks[number + 1][1]))
        return cls(title, "".join(configurations), tuple(commands))


def sections() -> list[Section]:
    parts = re.split(r"^## ", (ROOT / "docs" / "rest.md").read_text(), flags=re.MULTILINE)
    return [found for part in parts[1:] if (found := Section.parse(part)).commands]


async def test_the_document_shows_every_route_with_a_command() -> None:
    text = "".join(command for section in sections() for command, _ in section.commands)
    for route in ("/cdh/resource/", "/aa/token?", "/aa/evidence?", "/aa/additional-evidence?",
                  "/aa/aael", "/info", "/livez", "/readyz", "/openapi.json"):  # fmt: skip
        assert f"{TCP}{route}" in text, route
    assert len([section for section in sections() if section.configuration]) == 5


@asynccontextmanager
async def server_of(stage: Stage, section: Section, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Yield what the document's addresses stand for."""
    if not section.configuration:
        yield {TCP: f"127.0.0.1:{stage.rest_port}"}
        return
    port = free_port()
    places = {TCP: f"127.0.0.1:{port}", **dict.fromkeys(FOLDERS, f"{folder}/")}
    common = (
        f'bind = "127.0.0.1:{port}"\nfeatures = "all"\n'
        f'cdh_addr = "unix://{stage.hub_socket}"\naa_addr = "unix://{stage.agent_socket}"\n'
    )
    text = section.configuration
    for written in FOLDERS:
        text = text.replace(written, places[written])
    if "[rest]\n" not in text:
        text = "[rest]\n" + text
    config = folder / "rest.toml"
    config.write_text(text.replace("[rest]\n", f"[rest]\n{common}", 1))
    daemon = await Daemon.start(config, folder, "--services", "rest")
    try:
        yield places
    finally:
        assert await daemon.stop() == 0


@pytest.mark.parametrize("section", sections(), ids=lambda section: section.title)
async def test_commands_answer_as_written(stage: Stage, section: Section, tmp_path: Path) -> None:
    async with server_of(stage, section, tmp_path) as places:
        for command, answer in section.commands:
            script = command
            for written, real in places.items():
                script = script.replace(written, real)
            done = await run("bash", "-ec", script)
            assert done.code == 0, f"{command}\n{done.err}"
            pattern = re.escape(answer.strip()).replace(re.escape("..."), ".*")
            assert re.fullmatch(pattern, done.text, re.DOTALL), f"{command}\n{done.text[:400]}"
