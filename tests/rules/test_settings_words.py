"""The kernel command line as parameters, and log filters of the reference as levels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import SettingsError
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.log_filter import NAMES, level_of


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("", {}),
        ("quiet ro\n", {}),
        ("a=1  b=\tc=x=y", {"a": "1", "b": "", "c": "x=y"}),
        ("a=1 a=2", {"a": "2"}),
        ('a="two words" b=1', {"a": "two words", "b": "1"}),
        ('"a=two words" b=1', {"a": "two words", "b": "1"}),
        ('a="open until the end b=1', {"a": "open until the end b=1"}),
        ("=x", {}),
        ("root=/dev/vda1 -- init=arg", {"root": "/dev/vda1", "init": "arg"}),
        (
            "agent.aa_kbc_params=cc_kbc::http://[fd00::1]:8080",
            {"agent.aa_kbc_params": "cc_kbc::http://[fd00::1]:8080"},
        ),
    ],
)
def test_parameters(text: str, parameters: dict[str, str]) -> None:
    assert KernelCommandLine.parse(text).parameters == parameters


@given(st.text())
def test_any_text_gives_parameters_that_it_contains(text: str) -> None:
    for name, value in KernelCommandLine.parse(text).parameters.items():
        assert name
        assert name in text
        assert value in text


@given(st.dictionaries(st.from_regex(r"[a-z._]{1,9}", fullmatch=True), st.text("ab :/=,.")))
def test_quoted_values_come_back(parameters: dict[str, str]) -> None:
    text = " ".join(f'{name}="{value}"' for name, value in parameters.items())
    assert KernelCommandLine.parse(text).parameters == parameters


def test_reading_is_bounded_and_a_failure_is_no_empty_line(tmp_path: Path) -> None:
    path = tmp_path / "cmdline"
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        KernelCommandLine.read(path)
    path.write_bytes(b"a=1 b=\xff\n")
    assert KernelCommandLine.read(path).get("a") == "1"
    path.write_bytes(b"x" * 70_000)
    with pytest.raises(SettingsError, match="larger than"):
        KernelCommandLine.read(path)


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("info", "info"),
        ("WARN", "warning"),
        ("trace", "debug"),
        ("off", "error"),
        ("3", "info"),
        ("info,hyper=warn", "info"),
        ("hyper=warn, debug", "debug"),
        ("info,error", "error"),
        ("attestation_agent=debug", "warning"),
        ("attestation_agent::eventlog[span{x=1}]=trace,ttrpc", "warning"),
    ],
)
def test_levels_of_the_reference(text: str, level: str) -> None:
    assert level_of(text) == level


@pytest.mark.parametrize("text", ["", "loud", "a=loud", "info,a=loud", "info,b c", "x" * 2000])
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown|not of the form|longer"):
        level_of(text)


@given(st.text())
def test_every_filter_gives_one_of_our_levels(text: str) -> None:
    try:
        level = level_of(text)
    except ValueError:
        return
    assert level in NAMES
