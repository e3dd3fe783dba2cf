"""Resource URIs: what guest-components accepts, less what nobody can mean."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbs import ResourceUri, ResourceUriError
from kbs.resource_uri import MAX_URI_CHARACTERS

SEGMENT = st.text("abcXYZ019_-.~!$&'()*+,;=:@", min_size=1, max_size=12).filter(
    lambda s: s not in {".", ".."}
)
URIS = st.builds(
    ResourceUri,
    plugin=st.sampled_from(["resource", "pkcs11", "nebula-ca", "v1.x"]),
    segments=st.lists(SEGMENT, min_size=1, max_size=5).map(tuple),
    query=st.none() | st.text("abc=&%20/?".replace("%20", ""), max_size=20),
    address=st.sampled_from(["", "kbs.example", "10.0.0.1:8080", "[::1]:80"]),
)


def test_recorded_uris(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/uris/resource-uri.json").read_text())
    assert len(cases) > 15
    for case in cases:
        if case["valid"]:
            uri = ResourceUri.parse(case["uri"])
            assert uri.plugin == case["plugin"], case
            assert uri.address == case["kbs_address"], case
            assert list(uri.segments) == case["path"], case
            assert uri.query == case["query"], case
        else:
            with pytest.raises(ResourceUriError, match=case["error_contains"]):
                ResourceUri.parse(case["uri"])


def test_recorded_resource_paths(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/uris/resource-path.json").read_text())
    assert cases
    for case in cases:
        path = case["path"] if isinstance(case["path"], str) else "/".join(case["path"])
        try:
            ResourceUri.parse(f"kbs:///{path}").require_resource_path()
            accepted = True
        except ResourceUriError:
            accepted = False
        assert accepted == case["valid"], case


@given(URIS)
def test_rendering_and_parsing_are_inverse(uri: ResourceUri) -> None:
    again = ResourceUri.parse(str(uri))
    assert again == uri
    assert again.address == uri.address
    assert str(again) == str(uri)


@given(st.text(max_size=60) | st.text("kbs:/.?#%2e@+ \n", max_size=30).map("kbs:".__add__))
def test_any_text_is_a_uri_or_our_error(text: str) -> None:
    try:
        uri = ResourceUri.parse(text)
    except ResourceUriError:
        return
    target = uri.http_target()
    assert target.isascii()
    assert target.isprintable()
    assert not {".", "..", ""} & set(uri.segments)
    assert not set(target) & set(' "<>#\\^`{|}')


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("kbs:a/b/c", "does not begin with '/'", id="opaque"),
        pytest.param("kbs:///a//c", "segment is empty", id="empty segment"),
        pytest.param("kbs:///a/b/c/", "segment is empty", id="trailing slash"),
        pytest.param("kbs:///a/b/..", "segment is empty", id="trailing dots"),
        pytest.param("kbs:///a/%2e%2e/c", "character in the path", id="escaped dots"),
        pytest.param("kbs:///a/b%2Fc/d", "character in the path", id="escaped slash"),
        pytest.param("kbs:///a/b%/c", "character in the path", id="half an escape"),
        pytest.param("kbs:///a/b c/d", "character in the path", id="blank"),
        pytest.param("kbs:///a/b\r\nX: y/d", "character in the path", id="header injection"),
        pytest.param("kbs:///a/b/c?x\r\n", "character in the query", id="query injection"),
        pytest.param("kbs:///a/b/ü", "character in the path", id="not ASCII"),
        pytest.param("kbs://user@host/a/b/c", "host is malformed", id="user name"),
        pytest.param("kbs+a_b:///a/b/c", "no scheme", id="scheme character"),
        pytest.param("kbs+a+b:///a/b/c", "plugin name has a character", id="plugin with plus"),
        pytest.param("kbs:///..", "path is empty", id="only dots"),
        pytest.param("kbs:///" + "a" * MAX_URI_CHARACTERS, "longer than", id="too long"),
    ],
)
def test_refused(text: str, problem: str) -> None:
    with pytest.raises(ResourceUriError, match=problem) as caught:
        ResourceUri.parse(text)
    assert caught.value.hint
    assert len(caught.value.uri) <= 200


def test_the_host_is_not_part_of_the_identity() -> None:
    assert ResourceUri.parse("kbs://a/r/t/g") == ResourceUri.parse("kbs:///r/t/g")
    assert ResourceUri.parse("kbs:///r/t/g?a") != ResourceUri.parse("kbs:///r/t/g")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        pytest.param("kbs://signing/key/uri", "kbs:///signing/key/uri", id="repository as host"),
        pytest.param("kbs:///key/uri", "<repository>/<type>/<tag>", id="two segments"),
        pytest.param("kbs:///a/b/c/d", "<repository>/<type>/<tag>", id="four segments"),
        pytest.param("kbs:///a/.b/c", "not in front", id="leading dot"),
        pytest.param("kbs:///a/b/c%41", "letters, digits", id="escape"),
    ],
)
def test_what_the_resource_plugin_would_refuse_is_said_at_once(text: str, hint: str) -> None:
    with pytest.raises(ResourceUriError, match=hint):
        ResourceUri.parse(text).require_resource_path()
    other = text.replace("kbs:", "kbs+other:")
    ResourceUri.parse(other).require_resource_path()
