"""Resources: equal requests merged, one renewal on a refused token, contents wiped in time."""

from __future__ import annotations

import asyncio

import pytest

from kbs import (
    AttestedSession,
    KbsRefusedError,
    PolicyDeniedError,
    ResourceFetcher,
    ResourceMissingError,
    ResourceUri,
    TeeKey,
    TokenRefusedError,
)
from kbs.secret_cache import SecretCache
from secrecy import Secret
from tests.rules.virtual_time import settle

URI = ResourceUri.parse("kbs:///default/key/1")
KEY = TeeKey.generate()


class Sessions:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.refusals: list[AttestedSession] = []
        self.current = AttestedSession(Secret("first"), KEY, None)

    async def session(self, refused: AttestedSession | None = None) -> AttestedSession:
        if refused is not None:
            self.refusals.append(refused)
            if refused is self.current:
                self.current = AttestedSession(Secret("second"), KEY, None)
        return self.current


class Kbs:
    """Answers resources to tokens it trusts, when the gate is open."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.trusted = {"first", "second"}
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def resource(
        self, uri: ResourceUri, session: AttestedSession, *, deadline: float | None = None
    ) -> Secret:
        token = session.token.reveal_text()
        self.requests.append(f"{uri} {token}")
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        if token not in self.trusted:
            raise TokenRefusedError(401, "TokenVerifierError", "")
        return Secret(f"content of {uri} {len(self.requests)}")


async def test_equal_requests_in_flight_are_one() -> None:
    kbs = Kbs()
    kbs.gate.clear()
    fetcher = ResourceFetcher(kbs, Sessions())
    same = [asyncio.create_task(fetcher.get(URI)) for _ in range(20)]
    other = asyncio.create_task(fetcher.get(ResourceUri.parse("kbs:///default/key/2")))
    await settle()
    kbs.gate.set()
    contents = await asyncio.gather(*same)
    assert len(kbs.requests) == 2
    assert (await other).reveal() != contents[0].reveal()
    contents[0].wipe()  # each caller owns what it got
    assert all(content.reveal().startswith(b"content of") for content in contents[1:])
    await fetcher.get(URI)
    assert len(kbs.requests) == 3


async def test_one_cancelled_caller_leaves_the_others() -> None:
    kbs = Kbs()
    kbs.gate.clear()
    fetcher = ResourceFetcher(kbs, Sessions())
    first, second = (asyncio.create_task(fetcher.get(URI)) for _ in range(2))
    await settle()
    first.cancel()
    await asyncio.wait([first])
    kbs.gate.set()
    assert (await second).reveal()
    assert len(kbs.requests) == 1


async def test_after_all_callers_gave_up_the_next_one_asks_anew() -> None:
    kbs = Kbs()
    kbs.gate.clear()
    fetcher = ResourceFetcher(kbs, Sessions())
    given_up = asyncio.create_task(fetcher.get(URI))
    await settle()
    given_up.cancel()
    await asyncio.wait([given_up])
    kbs.gate.set()
    assert (await fetcher.get(URI)).reveal()
    assert len(kbs.requests) == 2


async def test_a_refused_token_is_renewed_once_and_the_request_repeated() -> None:
    kbs, sessions = Kbs(), Sessions()
    kbs.trusted = {"second"}
    first = sessions.current
    assert (await ResourceFetcher(kbs, sessions).get(URI)).reveal()
    assert sessions.refusals == [first]
    assert [request.split()[1] for request in kbs.requests] == ["first", "second"]


async def test_a_second_refusal_is_final() -> None:
    kbs, sessions = Kbs(), Sessions()
    kbs.trusted = set()
    with pytest.raises(TokenRefusedError):
        await ResourceFetcher(kbs, sessions).get(URI)
    assert len(sessions.refusals) == 1
    assert len(kbs.requests) == 2


@pytest.mark.parametrize("kind", [PolicyDeniedError, ResourceMissingError, KbsRefusedError])
async def test_no_other_refusal_costs_a_handshake(kind: type[KbsRefusedError]) -> None:
    kbs, sessions = Kbs(), Sessions()
    kbs.failure = kind(401, "X", "")
    with pytest.raises(kind):
        await ResourceFetcher(kbs, sessions).get(URI)
    assert sessions.refusals == []
    assert len(kbs.requests) == 1


async def test_the_cache_answers_and_can_be_emptied() -> None:
    kbs = Kbs()
    fetcher = ResourceFetcher(kbs, Sessions(), cache_seconds=3600)
    first = await fetcher.get(URI)
    second = await fetcher.get(URI)
    assert second.reveal() == first.reveal()
    first.wipe()
    assert (await fetcher.get(URI)).reveal() == second.reveal()
    assert len(kbs.requests) == 1
    fetcher.close()
    await fetcher.get(URI)
    assert len(kbs.requests) == 2
    fetcher.close()


async def test_failures_are_not_cached() -> None:
    kbs = Kbs()
    fetcher = ResourceFetcher(kbs, Sessions(), cache_seconds=3600)
    kbs.failure = PolicyDeniedError(401, "PolicyDeny", "")
    with pytest.raises(PolicyDeniedError):
        await fetcher.get(URI)
    kbs.failure = None
    assert (await fetcher.get(URI)).reveal()
    fetcher.close()


def numbered(number: int) -> ResourceUri:
    return ResourceUri.parse(f"kbs:///default/key/{number}")


async def test_the_oldest_content_goes_first() -> None:
    cache = SecretCache(3600, max_entries=3, max_bytes=10)
    for number in range(4):
        cache.put(numbered(number), Secret("x"))
    assert len(cache) == 3
    assert cache.get(numbered(0)) is None
    cache.put(numbered(5), Secret("x" * 9))
    assert len(cache) == 2
    cache.put(numbered(6), Secret("x" * 11))  # larger than all of it: not held
    assert cache.get(numbered(6)) is None
    assert len(cache) == 2
    cache.clear()
    assert len(cache) == 0


async def test_a_content_put_again_counts_once() -> None:
    cache = SecretCache(3600, max_bytes=10)
    for _ in range(5):
        cache.put(URI, Secret("x" * 6))
    held = cache.get(URI)
    assert held is not None
    assert len(held) == 6
    cache.clear()


async def test_time_ends_a_content_without_anybody_asking() -> None:
    cache = SecretCache(0.001)
    cache.put(URI, Secret("x"))
    assert len(cache) == 1
    expired = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.002, expired.set_result, None)
    await expired  # timers run in the order of their times
    assert len(cache) == 0


async def test_a_cache_of_no_time_holds_nothing() -> None:
    cache = SecretCache(0)
    cache.put(URI, Secret("x"))
    assert cache.get(URI) is None
    with pytest.raises(ValueError, match="negative"):
        SecretCache(-1)
