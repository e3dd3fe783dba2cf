"""A strict parser of Prometheus' text format 0.0.4."""

from __future__ import annotations

import re

# Prometheus "Text-based format": what a comment, a sample and a label look like.
HELP = re.compile(r"# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) ((?:[^\\\n]|\\\\|\\n)*)")
TYPE = re.compile(r"# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge)")
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\\\|\\"|\\n)*"'
SAMPLE = re.compile(rf"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)")


def parse(text: str) -> dict[str, float]:
    """Read a whole exposition; every line, order and name must be as the format wants it."""
    values: dict[str, float] = {}
    seen: set[str] = set()
    lines = text.split("\n")
    assert lines.pop() == "", "the last line ends with a line feed"
    current = ""
    for line in lines:
        if found := HELP.fullmatch(line):
            current = found[1]
            assert current not in seen, "one group of lines for each name"
            seen.add(current)
        elif found := TYPE.fullmatch(line):
            assert found[1] == current, "HELP and TYPE stand before their samples"
            assert (found[2] == "counter") == current.endswith("_total")
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            assert found[1] == current
            series = line.rpartition(" ")[0]
            assert series not in values, "each series once"
            values[series] = float(found[3])
    return values
