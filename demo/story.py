"""How the story is told: numbered steps, who checked what, how long it took, a table at the end."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

WIDTH = 100  # columns


class StepFailedError(Exception):
    """A step of the story does not hold. The message says what was expected and what came."""


@dataclass(slots=True)
class Step:
    """One step. ``facts`` are pairs of (what holds, who checked it)."""

    title: str
    facts: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    holds: bool = False
    _note: str = ""

    def fact(self, what: str, by: str) -> None:
        """Record something that was checked, and by whom."""
        self.facts.append((what, by))

    def progress(self, note: str) -> None:
        """Say what a long step is doing; shown while it runs on a terminal."""
        self._note = note

    @property
    def note(self) -> str:
        return self._note


def require(condition: bool, expected: str, got: object) -> None:
    """Raise :class:`StepFailedError` unless ``condition``."""
    if not condition:
        raise StepFailedError(f"expected {expected}, got {got!s:.400}")


class Story:
    """Prints steps as they happen. Progress lines appear for steps that take over a second."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self._live = sys.stdout.isatty()
        self._start = time.perf_counter()

    def chapter(self, text: str) -> None:
        print(f"\n{text}\n{'─' * len(text)}", flush=True)

    @asynccontextmanager
    async def step(self, title: str) -> AsyncIterator[Step]:
        """Run one step; its failure ends the story after the step has been shown."""
        step = Step(title)
        self.steps.append(step)
        start = time.perf_counter()
        ticker = asyncio.create_task(self._tick(step, start))  # awaited below
        try:
            yield step
            step.holds = True
        finally:
            step.seconds = time.perf_counter() - start
            ticker.cancel()
            with suppress(asyncio.CancelledError):
                await ticker
            self._show(step)

    async def _tick(self, step: Step, start: float) -> None:
        while True:
            await asyncio.sleep(1.0)
            line = f"   … {step.title}: {time.perf_counter() - start:.0f} s {step.note}"
            print(f"\r\033[K{line}" if self._live else line, end="" if self._live else "\n")
            sys.stdout.flush()

    def _show(self, step: Step) -> None:
        clear = "\r\033[K" if self._live else ""
        mark = "✔" if step.holds else "✘"
        number = len(self.steps)
        print(f"{clear}{mark} {number:>2}. {step.title}  ({step.seconds:.2f} s)")
        for what, by in step.facts:
            print(textwrap.fill(what, WIDTH, initial_indent=" " * 7, subsequent_indent=" " * 7))
            print(f"         checked by {by}")
        sys.stdout.flush()

    def summary(self) -> bool:
        """Print the table; return whether every step holds."""
        self.chapter("Summary")
        width = max(len(step.title) for step in self.steps)
        for number, step in enumerate(self.steps, 1):
            verdict = "holds" if step.holds else "DOES NOT HOLD"
            print(f"{number:>3}  {step.title:<{width}}  {step.seconds:>6.2f} s  {verdict}")
        total = time.perf_counter() - self._start
        good = all(step.holds for step in self.steps)
        print(f"     {'total':<{width}}  {total:>6.2f} s")
        print("\neverything holds" if good else "\nNOT everything holds", flush=True)
        return good
