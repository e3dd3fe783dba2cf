"""What rules grant to whom, and how a refusal is worded. No sockets, no files."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.config import RestConfig
from rest.errors import RestConfigError
from rest.identity import Container
from rest.matching import PathPattern, Pattern
from rest.peer import OVER_TCP, Caller, Guest
from rest.routes import (
    Call,
    DocumentCall,
    EvidenceCall,
    ExtendCall,
    Feature,
    InfoCall,
    Probe,
    ProbeCall,
    ResourceCall,
    TokenCall,
    route,
)
from rest.rules import Rules, resource_segments
from rest.sections import RuleConfig

SERVER = Container(
    "a" * 64,
    {
        "io.kubernetes.cri.container-name": "server",
        "io.kubernetes.cri.sandbox-namespace": "prod",
        "io.kubernetes.cri.sandbox-name": "models-5d9f",
        "io.kubernetes.cri.sandbox-uid": "u-1",
        "io.kubernetes.cri.image-name": "registry.example/models/llm:1",
        "example.org/role": "inference",
    },
)
OTHER = Container("b" * 64, {"io.kubernetes.cri.container-name": "sidecar"})
NAMELESS = Container("d" * 64)
KEY, OTHER_KEY = ResourceCall("kbs:///default/keys/1"), ResourceCall("kbs:///default/other/1")
EVIDENCE, TOKEN = EvidenceCall(b"", additional=False), TokenCall("kbs")


def rules(*tables: dict[str, Any]) -> Rules:
    return Rules.of(
        msgspec.convert([{"name": f"rule {n}", **t} for n, t in enumerate(tables)],
                        tuple[RuleConfig, ...])
    )  # fmt: skip


def may(found: Rules, caller: Caller, call: Call) -> bool:
    return found.refusal(caller, call) is None


@pytest.mark.parametrize("caller", [SERVER, NAMELESS, Guest(), OVER_TCP], ids=str)
@pytest.mark.parametrize("call", [KEY, EVIDENCE, TOKEN, ExtendCall(), InfoCall()], ids=repr)
def test_without_rules_everybody_may_everything(caller: Caller, call: Call) -> None:
    assert may(Rules(), caller, call)


@pytest.mark.parametrize("caller", [SERVER, Guest(), OVER_TCP], ids=str)
@pytest.mark.parametrize(
    "call", [InfoCall(), ProbeCall(Probe.LIVE), ProbeCall(Probe.READY), DocumentCall()], ids=repr
)
def test_what_is_open_stays_open(caller: Caller, call: Call) -> None:
    assert may(rules({"match": {"container": "nobody"}}), caller, call)


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"container": "server"}, True),
        ({"container": "serv"}, False),
        ({"container": "*"}, True),
        ({"namespace": "prod", "image": "registry.example/models/*"}, True),
        ({"namespace": "prod", "image": "registry.example/models/"}, False),
        ({"namespace": "test", "image": "registry.example/models/*"}, False),
        ({"pod": "models-*"}, True),
        ({"pod_uid": "u-1"}, True),
        ({"annotations": {"example.org/role": "inf*"}}, True),
        ({"annotations": {"example.org/role": "inf*", "example.org/absent": "*"}}, False),
    ],
    ids=str,
)
def test_all_conditions_must_fit(match: dict[str, Any], fits: bool) -> None:
    found = rules({"match": match, "evidence": True})
    assert may(found, SERVER, EVIDENCE) is fits
    # No attribute, no match: not even for an asterisk.
    assert not may(found, NAMELESS, EVIDENCE)
    assert not may(found, Guest(), EVIDENCE)
    assert not may(found, OVER_TCP, EVIDENCE)


def test_a_grant_is_for_what_it_names() -> None:
    found = rules({"match": {"container": "server"}, "resources": ["default/keys/*"],
                   "tokens": ["kbs"]})  # fmt: skip
    assert may(found, SERVER, KEY)
    assert may(found, SERVER, TOKEN)
    for call in (OTHER_KEY, TokenCall("coco_as"), EVIDENCE, ExtendCall()):
        assert not may(found, SERVER, call)
    assert not may(found, OTHER, KEY)


def test_rules_add_up() -> None:
    found = rules(
        {"match": {"container": "server"}, "evidence": True},
        {"match": {"namespace": "prod"}, "measure": True},
        {"who": "anyone", "resources": ["default/keys/1"]},
        {"who": "guest", "resources": ["*/*/*"], "tokens": ["kbs"]},
    )
    assert may(found, SERVER, EVIDENCE)
    assert may(found, SERVER, ExtendCall())
    assert may(found, OVER_TCP, KEY)
    assert may(found, OTHER, KEY)
    assert not may(found, OVER_TCP, EVIDENCE)
    assert not may(found, SERVER, TOKEN)
    assert may(found, Guest(), TOKEN)


def test_a_refusal_says_what_was_missing() -> None:
    found = rules({"match": {"container": "server"}, "evidence": True})
    refusal = found.refusal(SERVER, KEY)
    assert refusal is not None
    assert refusal.status == 403
    assert refusal.body.decode() == (
        f"Forbidden: container {'a' * 64} (prod/models-5d9f/server): none of its rules (rule 0) "
        "grants resource default/keys/1"
    )
    refusal = found.refusal(OVER_TCP, TOKEN)
    assert refusal is not None
    assert refusal.body == (
        b"Forbidden: unidentified caller (TCP tells nothing about who connects): "
        b"no rule is about it to grant tokens of type 'kbs'"
    )


@pytest.mark.parametrize(
    "path",
    ["a/b", "a/b/c/d", "a//c", "../b/c", "a/../c", "a/b/..", "a/./c", "a/b/", "/b/c", "a/b%2fc/d",
     "a/b/%2e%2e", "a/b/c;x", "a/b/c d", "a/b/\u0441", "a/b/c\\d", ""],
)  # fmt: skip
def test_paths_that_could_mean_another_are_granted_by_nothing(path: str) -> None:
    found = rules({"who": "anyone", "resources": ["*/*/*"]})
    call = route("GET", f"/cdh/resource/{path}", Feature.ALL)
    assert isinstance(call, ResourceCall)
    assert not may(found, Guest(), call)


@given(st.text(max_size=60))
def test_a_granted_path_has_three_plain_segments(path: str) -> None:
    segments = resource_segments(f"kbs:///{path}")
    if segments is not None:
        assert "/".join(segments) == path
        assert all(re.fullmatch(r"[\w.-]+", part, re.ASCII) for part in segments)
        assert not {".", ".."} & set(segments)


@given(st.text("ab*", max_size=12), st.text("ab", max_size=12))
def test_patterns_match_as_the_regular_expression_does(pattern: str, text: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
    assert Pattern.parse(pattern).matches(text) is expected


def test_an_asterisk_of_a_path_stays_in_its_segment() -> None:
    assert PathPattern.parse("default/*/1").matches(("default", "x", "1"))
    assert not PathPattern.parse("*/*/*").matches(("a", "b"))
    with pytest.raises(ValueError, match="default"):
        PathPattern.parse("default/*")


RULE = {"name": "r", "match": {"container": "x"}}


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"socket": "unix:///run/x"}, "without rules"),
        ({"rules": [{"name": "r"}]}, "match and who"),
        ({"rules": [{"name": "r", "match": {}}]}, "match and who"),
        ({"rules": [{**RULE, "who": "guest"}]}, "match and who"),
        ({"rules": [{**RULE, "who": "anyone"}]}, "match and who"),
        ({"rules": [{**RULE, "resources": ["default/*"]}]}, "repository/type/tag"),
        ({"rules": [{**RULE, "resources": ["a//c"]}]}, "repository/type/tag"),
        ({"rules": [RULE, RULE]}, "two of this name"),
        ({"required_header": "X-Cguest-Request"}, "not Name: value"),
        ({"required_header": "X Y: z"}, "not Name: value"),
        ({"required_header": "X: a\r\nY: b"}, "not Name: value"),
        ({"hosts": ["x"]}, "without required_header"),
        ({"limits": {"connections": 100, "requests": 100}}, "closable"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_settings_that_cannot_work(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(RestConfigError, match=problem):
        msgspec.convert(settings, RestConfig).check()


@pytest.mark.parametrize(
    "settings",
    [
        {"rules": [{**RULE, "grants": ["all"]}]},
        {"rules": [{"name": "r", "match": {"containers": "x"}}]},
        {"rules": [{"name": "r", "who": "everyone"}]},
        {"rules": [{**RULE, "match": {"container": ""}}]},
        {"evidence": "loose"},
        {"limits": {"requests": 0}},
        {"bundles": "relative"},
    ],
    ids=str,
)
def test_misspelled_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(settings, RestConfig)
