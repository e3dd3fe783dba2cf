"""docs/configuration.md has every flag, environment variable and parameter that the code knows."""

from __future__ import annotations

import argparse

import pytest

import agent.__main__
import agent.settings
import cdh.__main__
import cdh.settings
import cguestd.__main__
import rest.__main__
from cdh.image_config import KERNEL_PARAMETERS, POLICY_PARAMETER, VERIFICATION_PARAMETER
from lifecycle.addresses import KBC_PARAMS_PARAMETER
from lifecycle.environment import ACT_WHILE_LOADING, DOCUMENTED, KEPT
from tests.conftest import ROOT

TEXT = (ROOT / "docs" / "configuration.md").read_text()
# Switches of Python packages are named as such.
OF_PACKAGES = {
    "AIOHTTP_", "CRYPTOGRAPHY_", "FROZENLIST_", "MULTIDICT_", "PROPCACHE_", "PROTOCOL_BUFFERS_",
    "PYCRYPTODOME_", "TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK", "UVLOOP_", "UV_", "YARL_",
}  # fmt: skip
PARSERS = [
    agent.__main__._parser(),
    cdh.__main__._parser(),
    rest.__main__._parser(),
    cguestd.__main__.build_parser(),
]


@pytest.mark.parametrize("parser", PARSERS, ids=lambda parser: parser.prog)
def test_every_flag_is_described(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        described = [flag for flag in action.option_strings if flag in TEXT]
        assert any(flag.startswith("--") for flag in described), action.option_strings


def test_every_variable_is_described() -> None:
    missing = [name for name in DOCUMENTED | KEPT if f"`{name}`" not in TEXT]
    missing += [name for name in set(ACT_WHILE_LOADING) - OF_PACKAGES if f"`{name}" not in TEXT]
    assert not missing


def test_every_kernel_parameter_is_described() -> None:
    names = {*KERNEL_PARAMETERS, POLICY_PARAMETER, VERIFICATION_PARAMETER, KBC_PARAMS_PARAMETER}
    missing = [name for name in names | {cdh.settings.RESOURCES_PARAMETER} if name not in TEXT]
    assert not missing


def test_every_key_of_older_releases_is_described() -> None:
    historic = {*agent.settings.HISTORIC, *cdh.settings.HISTORIC}
    assert not [key for key in historic if f"`{key}`" not in TEXT]
