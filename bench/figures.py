"""A figure, its target, and the table that is printed and kept."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Better = Literal["lower", "higher"]


def number(value: float) -> str:
    """Three significant digits for small numbers, none lost in an exponent for large ones."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


@dataclass(frozen=True, slots=True)
class Figure:
    """``value`` is the median of ``samples``; ``target`` and ``peer`` are in the same unit."""

    name: str
    unit: str
    samples: tuple[float, ...]
    better: Better
    target: float | None = None
    peer: float | None = None
    peer_name: str = ""

    @property
    def value(self) -> float:
        return statistics.median(self.samples)

    @property
    def reached(self) -> bool | None:
        if self.target is None:
            return None
        if self.better == "lower":
            return self.value <= self.target
        return self.value >= self.target

    def row(self) -> list[str]:
        verdict = {None: "", True: "reached", False: "NOT reached"}[self.reached]
        spread = f"{number(min(self.samples))} … {number(max(self.samples))}"
        peer = ""
        if self.peer is not None:
            peer = f"{number(self.peer)} ({self.peer_name}), ratio {self.value / self.peer:.2f}"
        target = "" if self.target is None else f"{self.target:g}"
        return [self.name, f"{number(self.value)} {self.unit}", spread, target, verdict, peer]


@dataclass(slots=True)
class Report:
    """Figures as they come; printed at once, so that a long run shows where it is."""

    figures: list[Figure] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        self.figures.append(figure)
        print("  " + "  ".join(cell for cell in figure.row() if cell), flush=True)

    def table(self) -> str:
        titles = ["figure", "median", "min … max", "target", "", "peer in the same run"]
        lines = [titles, *[figure.row() for figure in self.figures]]
        out = ["| " + " | ".join(line) + " |" for line in lines]
        out.insert(1, "|" + "---|" * len(titles))
        return "\n".join(out)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = {"machine": machine(), "figures": [asdict(figure) for figure in self.figures]}
        path.write_text(json.dumps(data, indent=1))


def machine() -> str:
    """One line about where this ran."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    python = platform.python_version()
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, Python {python}"


def rates(count: int, seconds: Sequence[float]) -> tuple[float, ...]:
    """Turn times of ``count`` operations into operations per second."""
    return tuple(count / item for item in seconds)
