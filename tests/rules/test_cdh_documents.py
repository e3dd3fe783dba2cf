"""docs/data-hub.md says what the code does: every option and every key, in its group."""

from __future__ import annotations

import re

import msgspec
import pytest

from cdh.config import CdhConfig, KbcSection, MountsSection
from cdh.mounts import options, spec
from tests.conftest import ROOT

TEXT = (ROOT / "docs/data-hub.md").read_text()


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("honoured", {*options._HONOURED, "max_stat_cache_size=0"}),
        ("without effect, said in the log", {*options._IGNORED, "max_stat_cache_size"}),
        ("refused: would override something safe", set(options._UNSAFE)),
        ("refused: absent", set(options._ABSENT)),
    ],
)
def test_options_are_listed_in_their_group(group: str, names: set[str]) -> None:
    (row,) = re.findall(rf"^\| {group} \|(.*)\|$", TEXT, re.MULTILINE)
    assert set(re.findall(r"`([^`]+)`", row)) == names


def test_request_keys_are_listed() -> None:
    assert all(f"`{key}`" in TEXT for key in spec._KNOWN)


def test_configuration_keys_are_listed() -> None:
    keys = [field.name for field in msgspec.structs.fields(CdhConfig)]
    keys += [f"mounts.{field.name}" for field in msgspec.structs.fields(MountsSection)]
    keys += [f"kbc.{field.name}" for field in msgspec.structs.fields(KbcSection)]
    assert [key for key in keys if f"`{key}" not in TEXT] == []
