"""REST routing without a server: arbitrary targets give a call or one of the known replies."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rest.config import BindAddress
from rest.errors import BackendError, RestConfigError
from rest.routes import (
    BAD_REQUEST,
    Event,
    EvidenceCall,
    Feature,
    Reply,
    ResourceCall,
    TokenCall,
    extend_reply,
    info_reply,
    parse_event,
    route,
)

features = st.sampled_from(list(Feature))
starts = st.sampled_from(
    ["", "/", "/aa/", "/aa/evidence?", "/cdh/resource/", "/info", "/cdh/", "http://x/cdh/resource/"]
)


@given(st.sampled_from(["GET", "POST", "HEAD", "X"]), starts, st.text(max_size=300), features)
def test_arbitrary_targets(method: str, start: str, rest: str, feature: Feature) -> None:
    answer = route(method, start + rest, feature)
    if isinstance(answer, Reply):
        assert answer.status in {400, 404, 405}
    elif isinstance(answer, ResourceCall):
        assert feature.has_resource
        assert answer.uri.startswith("kbs:///")
        assert "?" not in answer.uri


@pytest.mark.parametrize("path", ["/cdh/resource/a/b/\udcff", "/aa/evidence?runtime_data=\udcff"])
def test_raw_bytes_that_are_no_text_are_refused(path: str) -> None:
    assert route("GET", path, Feature.ALL) == BAD_REQUEST


def test_other_members_of_an_event_are_ignored() -> None:
    body = b'{"domain":"d","operation":"o","content":"c","version":1}'
    assert parse_event(body) == Event("d", "o", "c")


@given(st.binary(max_size=64))
def test_runtime_data_round_trips(data: bytes) -> None:
    text = base64.urlsafe_b64encode(data).rstrip(b"=").decode()
    target = f"/aa/evidence?encoding=base64&runtime_data={text}"
    assert route("GET", target, Feature.ALL) == EvidenceCall(data, additional=False)


@given(st.text(st.characters(whitelist_categories=["Lu", "Nd"]), min_size=1, max_size=20))
def test_token_types_are_passed_as_they_are(name: str) -> None:
    assert route("GET", f"/aa/token?token_type={name}", Feature.ALL) == TokenCall(name)


@given(st.text(), st.text(), st.text())
def test_events_round_trip(domain: str, operation: str, content: str) -> None:
    body = json.dumps({"domain": domain, "operation": operation, "content": content}).encode()
    event = parse_event(body)
    assert isinstance(event, Event)
    assert (event.domain, event.operation, event.content) == (domain, operation, content)


@given(st.binary(max_size=200))
def test_arbitrary_bodies_give_an_event_or_500(body: bytes) -> None:
    event = parse_event(body)
    assert isinstance(event, Event) or event.status == 500


@given(st.text(max_size=40))
def test_arbitrary_bind_addresses_are_loopback_or_refused(text: str) -> None:
    try:
        address = BindAddress.parse(text)
    except RestConfigError:
        return
    assert address.host.startswith(("127.", "::1"))


@given(st.integers())
def test_every_result_has_a_reply(result: int) -> None:
    reply = extend_reply(result)
    assert reply.status == 200
    assert json.loads(reply.body)["success"] in {"true", "false"}


@given(st.text(), st.none() | st.text(), st.lists(st.text()))
def test_info_is_json_whatever_the_backend_says(
    version: str, tee: str | None, additional: list[str]
) -> None:
    info = json.loads(info_reply(version, tee, additional, "all").body)
    assert info.get("tee") == tee
    assert info.get("additional_tees", []) == additional
    assert info["version"] == f"Guest Components Version: {version}"


@pytest.mark.parametrize("cause", ["", "a\nb\0c", "x" * 5000], ids=["empty", "lines", "long"])
def test_causes_are_one_bounded_line(cause: str) -> None:
    text = str(BackendError("ttrpc request error", cause))
    assert text.startswith("ttrpc request error: ")
    assert text.isprintable()
    assert len(text) < 800


def test_replies_do_not_show_their_bodies() -> None:
    assert "sesame" not in repr(Reply(200, b"sesame"))
