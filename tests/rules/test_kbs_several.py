"""Which broker is asked, which one stands in, and that a refusal is final."""

from __future__ import annotations

import pytest

from agent.errors import KbsUnknownError
from agent.tokens import TokenIssuer
from kbs import (
    AttestationRefusedError,
    AttestedSession,
    EvidenceTimeoutError,
    FailoverSource,
    HandshakeHeldError,
    HoldOff,
    KbsDirectory,
    KbsError,
    KbsProtocolError,
    KbsRefusedError,
    KbsTimeoutError,
    KbsTlsError,
    KbsUnreachableError,
    NoKbsAnsweredError,
    PolicyDeniedError,
    Replica,
    ResourceMissingError,
    ResourceUri,
    TeeKey,
    UnknownKbsError,
    address_of,
    session_from_aa_json,
)
from secrecy import Secret
from tests.rules.virtual_time import VirtualTime
from tests.wire.kbs_sealing import make_token

URI = ResourceUri.parse("kbs:///a/b/c")


class Broker:
    """Gives its name as every resource, or fails."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: Exception | None = None
        self.asked = 0

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return Secret(self.name)


def _failover(*brokers: Broker) -> tuple[FailoverSource, VirtualTime]:
    time = VirtualTime()
    return FailoverSource(
        [Replica(broker.name, broker, HoldOff(clock=time.clock)) for broker in brokers]
    ), time


def _held(*, transient: bool) -> HandshakeHeldError:
    return HandshakeHeldError(1.0, 1, "x", "x", decided=not transient, transient=transient)


@pytest.mark.parametrize(
    "failure",
    [
        KbsUnreachableError("no connection"),
        KbsTimeoutError(1.0),
        KbsTlsError("not authenticated"),
        KbsRefusedError(503, "", ""),
        KbsRefusedError(429, "", ""),
        _held(transient=True),
    ],
    ids=lambda failure: f"{type(failure).__name__} {getattr(failure, 'status', '')}",
)
async def test_an_absent_broker_is_replaced(failure: Exception) -> None:
    first, second = Broker("first"), Broker("second")
    source, time = _failover(first, second)
    first.failure = failure
    assert (await source.get(URI)).reveal() == b"second"
    assert (await source.get(URI)).reveal() == b"second"
    assert (first.asked, second.asked) == (1, 2)  # while the hold lasts, nobody waits for it
    await time.advance(3)
    first.failure = None
    assert (await source.get(URI)).reveal() == b"first"


@pytest.mark.parametrize(
    "failure",
    [
        PolicyDeniedError(401, "PolicyDeny", ""),
        ResourceMissingError(401, "PluginInternalError", ""),
        AttestationRefusedError(401, "AttestationError", ""),
        KbsRefusedError(403, "", ""),
        KbsProtocolError("HTML"),
        EvidenceTimeoutError(1.0),
        _held(transient=False),
        RuntimeError("a defect"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_a_refusal_is_final(failure: Exception) -> None:
    first, second = Broker("first"), Broker("second")
    source, _ = _failover(first, second)
    first.failure = failure
    with pytest.raises(type(failure)) as caught:
        await source.get(URI)
    assert caught.value is failure
    assert second.asked == 0


async def test_when_nobody_answers_every_cause_is_told() -> None:
    first, second = Broker("https://a"), Broker("https://b")
    source, _ = _failover(first, second)
    first.failure = KbsUnreachableError("no connection (refused)")
    second.failure = KbsTimeoutError(3.0)
    with pytest.raises(NoKbsAnsweredError) as caught:
        await source.get(URI)
    assert "https://a: no connection (refused); https://b: no complete answer" in str(caught.value)
    assert caught.value.__cause__ is first.failure
    assert not caught.value.decided
    # All are held now, and still all are asked: better late than never.
    second.failure = None
    assert (await source.get(URI)).reveal() == b"https://b"


@pytest.mark.parametrize(
    ("uri", "answer"),
    [
        ("kbs:///a/b/c", b"default"),
        ("kbs://models/a/b/c", b"models"),
        ("kbs://MODELS/a/b/c", b"models"),
        ("kbs://models.example.com:8443/a/b/c", b"models"),
        ("kbs://kbs.example.com/a/b/c", b"default"),
    ],
)
async def test_the_host_chooses(uri: str, answer: bytes) -> None:
    default, models = Broker("default"), Broker("models")
    directory = KbsDirectory(
        default,
        {
            "models": models,
            address_of("https://Models.example.com:8443/path"): models,
            address_of("https://kbs.example.com"): default,
        },
    )
    assert (await directory.get(ResourceUri.parse(uri))).reveal() == answer


@pytest.mark.parametrize("host", ["stranger", "models.example.com", "models:1", "[::1]:8080"])
async def test_an_unknown_host_is_refused_if_there_are_several(host: str) -> None:
    default = Broker("default")
    uri = ResourceUri.parse(f"kbs://{host}/a/b/c")
    with pytest.raises(UnknownKbsError, match="is configured") as caught:
        await KbsDirectory(default, {"models": Broker("models")}).get(uri)
    assert "models" in caught.value.hint
    assert default.asked == 0
    assert (await KbsDirectory(default, {}).get(uri)).reveal() == b"default"


class Sessions:
    """A session source that names itself in its token."""

    def __init__(self, name: str) -> None:
        self.made = AttestedSession(Secret(make_token({"of": name})), TeeKey.generate(), None)

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        return self.made


async def test_the_agent_has_sessions_for_configured_brokers_only() -> None:
    first, second = Sessions("first"), Sessions("second")
    issuer = TokenIssuer(first, by_url={"https://a": first, "https://b": second})
    for url, expected in ((None, first), ("https://a", first), ("https://b", second)):
        given = session_from_aa_json((await issuer.token("kbs", None, url)).reveal())
        assert given.token_id == expected.made.token_id
    with pytest.raises(KbsUnknownError, match="https://a, https://b"):
        await issuer.token("kbs", None, "https://evil")


def test_errors_are_of_one_tree() -> None:
    assert issubclass(NoKbsAnsweredError, KbsError)
    assert issubclass(UnknownKbsError, KbsError)
