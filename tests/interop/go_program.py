"""The Go program that reads quotes: building and running it."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.interop.toolchains import GO_SETTINGS, run_tool

SOURCE: Final = Path(__file__).resolve().parent / "go"
RUN_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class Job:
    """A quote and what to verify it with; without collateral, revocation is not checked."""

    quote: bytes
    root_der: bytes
    now: int  # Unix seconds
    collateral: Mapping[str, str] | None = None

    def encoded(self) -> dict[str, object]:
        return {
            "quote": base64.b64encode(self.quote).decode(),
            "root": base64.b64encode(self.root_der).decode(),
            "now": self.now,
            "collateral": self.collateral,
        }


@dataclass(frozen=True, slots=True)
class Answer:
    parse_error: str
    verify_error: str
    text: Mapping[str, str]
    numbers: Mapping[str, int]


def build(go: str, folder: Path) -> Path:
    """Compile into ``folder``; module downloads are checked against ``go.sum``."""
    program = folder / "interop"
    run_tool([go, "build", "-o", str(program), "."], SOURCE, GO_SETTINGS)
    return program


def ask(program: Path, jobs: Sequence[Job]) -> list[Answer]:
    """Run the program once over all jobs."""
    done = subprocess.run(
        [str(program)], input=json.dumps([job.encoded() for job in jobs]), timeout=RUN_SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    answers: list[Any] = json.loads(done.stdout)
    return [
        Answer(a["parse_error"], a["verify_error"], a["text"] or {}, a["numbers"] or {})
        for a in answers
    ]
