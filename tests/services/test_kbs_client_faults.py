"""What the KBS client makes of every misbehaviour of a server."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from kbs import (
    AnswerTooLongError,
    EvidenceTimeoutError,
    JweError,
    JweFormatError,
    KbsClient,
    KbsClosedError,
    KbsLimits,
    KbsProtocolError,
    KbsRefusedError,
    KbsTimeoutError,
    TeeKey,
)
from kbs.http_link import MAX_CONNECTIONS
from tests.services.fake_kbs import (
    COOKIE,
    FakeKbs,
    Fault,
    answer,
    compressed,
    running,
)
from tests.services.kbs_client_parts import IMPATIENT, ONCE, PATIENT, URI, Attester, Pauses
from tests.wire.kbs_sealing import seal


@pytest.fixture
async def kbs() -> AsyncIterator[FakeKbs]:
    async with running() as fake:
        yield fake


@pytest.fixture
def pauses() -> Pauses:
    return Pauses()


@pytest.fixture
async def client(kbs: FakeKbs, pauses: Pauses) -> AsyncIterator[KbsClient]:
    async with KbsClient(
        kbs.url, limits=PATIENT, rng=random.Random(1), sleep=pauses.sleep
    ) as client:
        yield client


@pytest.fixture
async def impatient(kbs: FakeKbs) -> AsyncIterator[KbsClient]:
    """A client that tries once, and not for long."""
    async with KbsClient(kbs.url, limits=IMPATIENT, retries=ONCE) as client:
        yield client


JWE_FAULTS = {
    "html": (answer(200, b"<html>welcome</html>"), JweFormatError),
    "empty": (answer(200, b""), JweFormatError),
    "array": (answer(200, b"[]"), JweFormatError),
    "raw bytes": (answer(200, b"\x00\xff" * 50), JweFormatError),
    "legacy form": (
        answer(
            200,
            b'{"protected":"{}","encrypted_key":"","iv":"","ciphertext":"","tag":""}',
        ),
        JweFormatError,
    ),
    "for another key": (
        answer(
            200,
            json.dumps(seal(TeeKey.generate().public_jwk(), b"x")).encode(),
        ),
        JweError,
    ),
}


@pytest.mark.parametrize(("fault", "kind"), JWE_FAULTS.values(), ids=JWE_FAULTS)
async def test_answers_that_do_not_open(
    kbs: FakeKbs, client: KbsClient, fault: Fault, kind: type[JweError]
) -> None:
    session = await client.handshake(Attester())
    kbs.play("resource", fault)
    with pytest.raises(kind, match="fetching kbs:///default/key/1") as caught:
        await client.resource(URI, session)
    assert type(caught.value) is kind
    assert len(kbs.seen) == 3


PROTOCOL_FAULTS = {
    "html": answer(200, b"<html>"),
    "no nonce": answer(200, b'{"extra-params":""}'),
    "two nonces": answer(200, b'{"nonce":"a","nonce":"b","extra-params":""}'),
    "unknown hash": answer(200, b'{"nonce":"a","extra-params":{"selected-hash-algorithm":"md5"}}'),
    "redirect": answer(302, Location="http://127.0.0.1:1/"),
    "redirect to attest": answer(307, Location="/kbs/v0/attest"),
    "not modified": answer(304),
    "gzip": compressed({"nonce": "a", "extra-params": ""}),
    "gzip announced only": answer(200, b"{}", Content_Encoding="br"),
    "flood": FakeKbs.flood,
    "announced too long": answer(200, b" " * 70_000),
    "no cookie": answer(200, b'{"nonce":"a","extra-params":""}'),
}


@pytest.mark.parametrize("fault", PROTOCOL_FAULTS.values(), ids=PROTOCOL_FAULTS)
async def test_challenges_that_break_the_protocol(
    kbs: FakeKbs, client: KbsClient, fault: Fault
) -> None:
    attester = Attester()
    kbs.play("auth", fault)
    with pytest.raises(KbsProtocolError, match="attesting to") as caught:
        await client.handshake(attester)
    assert "; hint: " in str(caught.value)
    assert attester.digests == []  # no quote was spent
    assert len(kbs.seen) == 1  # neither followed nor repeated


TOKEN_FAULTS = {
    "no token": answer(200, b"{}"),
    "no JWT": answer(200, b'{"token":"x"}'),
    "token with newline": answer(200, b'{"token":"e30.e30.QQ\\r\\nX: y"}'),
    "flood": FakeKbs.flood,
}


@pytest.mark.parametrize("fault", TOKEN_FAULTS.values(), ids=TOKEN_FAULTS)
async def test_tokens_that_break_the_protocol(
    kbs: FakeKbs, client: KbsClient, fault: Fault
) -> None:
    kbs.play("attest", fault)
    with pytest.raises(KbsProtocolError, match="attesting to"):
        await client.handshake(Attester())


@pytest.mark.parametrize(
    "cookies",
    [
        pytest.param(("kbs-session-id=short",), id="short"),
        pytest.param((f"kbs-session-id={COOKIE.upper()}",), id="upper case"),
        pytest.param((f"kbs-session-id={COOKIE}0",), id="long"),
        pytest.param((f"other={COOKIE}",), id="other name"),
        pytest.param((f"kbs-session-id={COOKIE}", f"kbs-session-id={COOKIE}"), id="twice"),
        pytest.param((), id="none"),
    ],
)
async def test_session_cookies_that_are_refused(
    kbs: FakeKbs, client: KbsClient, cookies: tuple[str, ...]
) -> None:
    kbs.set_cookie = cookies
    with pytest.raises(KbsProtocolError, match="kbs-session-id cookie, got"):
        await client.handshake(Attester())


@pytest.mark.parametrize(
    "cookie", [f"kbs-session-id={COOKIE}", f"kbs-session-id={COOKIE} ; Path=/"]
)
async def test_session_cookies_that_pass_beside_others(
    kbs: FakeKbs, client: KbsClient, cookie: str
) -> None:
    kbs.set_cookie = ("route=1; Path=/", cookie)
    await client.handshake(Attester())


TRANSIENT = {
    "500": answer(500),
    "503 html": answer(503, b"<html>" + b"x" * 100_000),
    "429": answer(429),
    "cut body": FakeKbs.cut,
    "hang up": FakeKbs.hang_up,
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
@pytest.mark.parametrize("step", ["auth", "attest", "resource"])
async def test_what_passes_is_tried_again_with_the_same_quote(
    kbs: FakeKbs, client: KbsClient, pauses: Pauses, step: str, fault: Fault
) -> None:
    kbs.play(step, fault, fault)
    attester = Attester()
    session = await client.handshake(attester)
    assert (await client.resource(URI, session)).reveal() == b"the secret"
    assert len(attester.digests) == 1
    assert len(kbs.seen) == 5
    # aiohttp itself repeats a GET once, at once, when a kept connection turns out to be dead.
    assert 1 <= len(pauses.seconds) <= 2


@pytest.mark.parametrize("step", ["auth", "attest", "resource"])
@pytest.mark.parametrize("slowness", ["silence", "drip"])
async def test_a_server_that_does_not_finish_is_given_up(
    kbs: FakeKbs, impatient: KbsClient, step: str, slowness: str
) -> None:
    kbs.play(step, getattr(kbs, slowness))
    with pytest.raises(KbsTimeoutError, match=r"within 0\.5 s"):
        await impatient.resource(URI, await impatient.handshake(Attester()))


async def test_retry_after_is_obeyed(kbs: FakeKbs, client: KbsClient, pauses: Pauses) -> None:
    kbs.play("auth", answer(429, Retry_After="7"), answer(503, Retry_After="soon"))
    await client.handshake(Attester())
    assert pauses.seconds[0] == 7.0
    assert pauses.seconds[1] < 1.0


async def test_giving_up_names_the_first_cause(kbs: FakeKbs, pauses: Pauses) -> None:
    kbs.play("auth", kbs.silence, *[answer(502, b"bad gateway")] * 4)
    async with KbsClient(kbs.url, limits=IMPATIENT, sleep=pauses.sleep) as client:
        with pytest.raises(KbsRefusedError, match="gave up after 5 attempts") as caught:
            await client.handshake(Attester())
    assert isinstance(caught.value.first_cause, KbsTimeoutError)
    assert len(pauses.seconds) == 4


async def test_the_deadline_of_the_caller_counts(kbs: FakeKbs, client: KbsClient) -> None:
    now = asyncio.get_running_loop().time
    kbs.play("auth", answer(503, Retry_After="100"))
    with pytest.raises(KbsRefusedError):
        await client.handshake(Attester(), deadline=now() + 40)
    assert len(kbs.seen) == 1
    with pytest.raises(KbsTimeoutError):
        await client.handshake(Attester(), deadline=now() - 1)


async def test_requests_that_wait_for_their_turn_do_not_time_out(kbs: FakeKbs) -> None:
    async with KbsClient(kbs.url, limits=IMPATIENT, retries=ONCE) as client:
        session = await client.handshake(Attester())
        # Three full rounds of silence; whoever waits for a turn has not begun yet.
        kbs.play("resource", *[kbs.silence] * (MAX_CONNECTIONS * 3))
        requests = [client.resource(URI, session) for _ in range(MAX_CONNECTIONS * 4)]
        results = await asyncio.gather(*requests, return_exceptions=True)
    timeouts = [result for result in results if isinstance(result, KbsTimeoutError)]
    assert len(timeouts) == MAX_CONNECTIONS * 3
    assert len(kbs.seen) == 2 + len(requests)


async def test_a_closed_client_opens_nothing_again(kbs: FakeKbs) -> None:
    client = KbsClient(kbs.url, limits=PATIENT)
    session = await client.handshake(Attester())
    kbs.play("resource", kbs.silence)
    pending = asyncio.create_task(client.resource(URI, session))
    while len(kbs.seen) < 3:
        await asyncio.sleep(0)
    await client.aclose()
    await client.aclose()
    with pytest.raises(KbsClosedError, match="fetching kbs:///default/key/1"):
        await pending
    with pytest.raises(KbsClosedError):
        await client.handshake(Attester())


async def test_a_silent_attester_is_not_taken_for_a_silent_kbs(
    kbs: FakeKbs, client: KbsClient
) -> None:
    attester = Attester()
    attester.silent = True
    deadline = asyncio.get_running_loop().time() + 1.0
    with pytest.raises(EvidenceTimeoutError, match="attester gave no evidence"):
        await client.handshake(attester, deadline=deadline)


async def test_cancelling_leaves_the_client_usable(kbs: FakeKbs, client: KbsClient) -> None:
    kbs.play("auth", kbs.silence)
    handshake = asyncio.create_task(client.handshake(Attester()))
    while not kbs.seen:
        await asyncio.sleep(0)
    handshake.cancel()
    await asyncio.wait([handshake])
    assert handshake.cancelled()
    await client.handshake(Attester())


async def test_limits_are_those_of_the_configuration(kbs: FakeKbs) -> None:
    tight = KbsLimits(challenge_bytes=40)
    async with KbsClient(kbs.url, limits=tight) as client:
        with pytest.raises(AnswerTooLongError, match="longer than 40 bytes"):
            await client.handshake(Attester())
