"""One client against KBSes of every protocol version: negotiated, configured, remembered."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import pytest

from kbs import (
    AttestationRefusedError,
    KbsClient,
    KbsRefusedError,
    KbsTimeoutError,
    ProtocolVersion,
    ResourceFetcher,
    SessionKeeper,
    TeeKeyAlgorithm,
    TeeKeyError,
    TokenRefusedError,
    session_from_aa_json,
    session_to_aa_json,
)
from tests.services.kbs_client_parts import ONCE, PATIENT, URI
from tests.services.older_kbs import ERAS, serving


class Sample:
    """Evidence of TEE ``sample``, which anybody can make."""

    def __init__(self, *, device: bool = False) -> None:
        self.digests: list[bytes] = []
        self.device_digests: list[bytes] = []
        self._device = device

    async def tee(self) -> str:
        return "sample"

    async def device_evidence(self, device_digest: bytes) -> str:
        self.device_digests.append(device_digest)
        if not self._device:
            return ""
        # Spelled as no encoder would, with characters that need escapes and more: the text counts.
        shown = base64.b64encode(device_digest).decode()
        return f'{{ "sampledevice":{{"svn":"2","report_data":"{shown}","note":"\\u00e9\\"é/"}}}}'

    async def evidence(self, runtime_digest: bytes) -> Mapping[str, object]:
        self.digests.append(runtime_digest)
        return {"svn": "1", "report_data": base64.b64encode(runtime_digest).decode()}


def client_of(
    url: str,
    version: ProtocolVersion = ProtocolVersion.AUTO,
    algorithm: TeeKeyAlgorithm = TeeKeyAlgorithm.EC_P256,
) -> KbsClient:
    return KbsClient(
        url, limits=PATIENT, retries=ONCE, protocol_version=version, key_algorithm=algorithm
    )


# What is asked of /auth before the version fits, and how many quotes the first handshake takes.
NEGOTIATED = {
    "0.1.0 early": (["0.4.0", "0.2.0", "0.1.1", "0.1.0", "0.1.0"], 2),
    "0.1.0 late": (["0.4.0", "0.2.0", "0.1.1", "0.1.0"], 1),
    "0.1.1": (["0.4.0", "0.1.1"], 1),
    "0.2.0": (["0.4.0", "0.2.0"], 1),
    "0.4.0": (["0.4.0"], 1),
}


@pytest.mark.parametrize("name", ERAS)
async def test_every_version_is_found_and_remembered(name: str) -> None:
    auths, quotes = NEGOTIATED[name]
    attester = Sample()
    async with serving(ERAS[name]) as kbs, client_of(kbs.url) as client:
        assert client.protocol_version == ""
        session = await client.handshake(attester)
        assert kbs.auths == auths
        assert len(attester.digests) == quotes
        assert client.protocol_version == name.replace(" ", "-")
        assert (await client.resource(URI, session)).reveal() == b"the secret"
        await client.handshake(attester)
        assert kbs.auths == [*auths, ERAS[name].version]
        assert len(attester.digests) == quotes + 1


CONFIGURED = {
    ProtocolVersion.V0_1_0_EARLY: "0.1.0 early",
    ProtocolVersion.V0_1_0_LATE: "0.1.0 late",
    ProtocolVersion.V0_1_1: "0.1.1",
    ProtocolVersion.V0_2_0: "0.2.0",
    ProtocolVersion.V0_4_0: "0.4.0",
}


@pytest.mark.parametrize("version", CONFIGURED)
async def test_a_configured_version_is_spoken_at_once(version: ProtocolVersion) -> None:
    attester = Sample()
    async with serving(ERAS[CONFIGURED[version]]) as kbs, client_of(kbs.url, version) as client:
        session = await client.handshake(attester)
        assert (await client.resource(URI, session)).reveal() == b"the secret"
        assert len(kbs.auths) == len(attester.digests) == 1


@pytest.mark.parametrize("version", CONFIGURED)
async def test_a_configured_version_is_not_left(version: ProtocolVersion) -> None:
    other = "0.2.0" if version is ProtocolVersion.V0_4_0 else "0.4.0"
    async with serving(ERAS[other]) as kbs, client_of(kbs.url, version) as client:
        with pytest.raises(AttestationRefusedError, match=f"speaks protocol {other}"):
            await client.handshake(Sample())
        assert kbs.auths == [version.value.partition("-")[0]]
        assert kbs.attests == 0


async def test_0_1_0_finds_its_binding_in_one_handshake() -> None:
    for name in ("0.1.0 early", "0.1.0 late"):
        async with (
            serving(ERAS[name]) as kbs,
            client_of(kbs.url, ProtocolVersion.V0_1_0) as client,
        ):
            await client.handshake(Sample())
            assert set(kbs.auths) == {"0.1.0"}


@pytest.mark.parametrize("name", ["0.2.0", "0.4.0"])
@pytest.mark.parametrize("algorithm", TeeKeyAlgorithm)
async def test_every_kind_of_key(name: str, algorithm: TeeKeyAlgorithm) -> None:
    async with serving(ERAS[name]) as kbs, client_of(kbs.url, algorithm=algorithm) as client:
        if algorithm is TeeKeyAlgorithm.ML_KEM_768 and name == "0.2.0":
            with pytest.raises(TeeKeyError, match=r"before 0\.4\.0 knows no"):
                await client.handshake(Sample())
            assert kbs.attests == 0
            return
        session = await client.handshake(Sample())
        assert (await client.resource(URI, session)).reveal() == b"the secret"


@pytest.mark.parametrize("name", ERAS)
async def test_a_session_handed_over_as_json_opens_resources(name: str) -> None:
    async with serving(ERAS[name]) as kbs, client_of(kbs.url) as client:
        session = await client.handshake(Sample())
        assert "kbs-session-id" not in session_to_aa_json(session).reveal_text()
        borrowed = session_from_aa_json(session_to_aa_json(session).reveal())
        async with client_of(kbs.url) as hub:
            assert (await hub.resource(URI, borrowed)).reveal() == b"the secret"


@pytest.mark.parametrize("name", ERAS)
async def test_the_cookie_goes_with_resources_in_0_1_0_only(name: str) -> None:
    async with serving(ERAS[name]) as kbs, client_of(kbs.url) as client:
        session = await client.handshake(Sample())
        await client.resource(URI, session)
        assert (kbs.cookies_seen[0] is not None) == name.startswith("0.1.0")


async def test_a_kbs_that_takes_cookies_only() -> None:
    era = replace(ERAS["0.1.0 early"], trusts_bearer=False)
    async with serving(era) as kbs, client_of(kbs.url) as client:
        session = await client.handshake(Sample())
        assert (await client.resource(URI, session)).reveal() == b"the secret"
        with pytest.raises(TokenRefusedError):
            await client.resource(URI, replace(session, cookie=None))


async def test_refused_evidence_costs_one_quote_for_each_binding_at_most() -> None:
    class Wrong(Sample):
        async def evidence(self, runtime_digest: bytes) -> Mapping[str, object]:
            return await super().evidence(bytes(48) + runtime_digest)

    for name, quotes in {"0.4.0": 1, "0.2.0": 1, "0.1.1": 1, "0.1.0 late": 2}.items():
        attester = Wrong()
        async with serving(ERAS[name]) as kbs, client_of(kbs.url) as client:
            with pytest.raises(AttestationRefusedError):
                await client.handshake(attester)
            assert len(attester.digests) == kbs.attests == quotes
            assert client.protocol_version == ""


async def test_device_evidence_is_sent_as_it_was_hashed() -> None:
    attester = Sample(device=True)
    async with serving(ERAS["0.4.0"]) as kbs, client_of(kbs.url) as client:
        session = await client.handshake(attester)
        assert (await client.resource(URI, session)).reveal() == b"the secret"
        assert len(kbs.devices) == 1
        assert json.loads(kbs.devices[0])["sampledevice"]["note"] == 'é"é/'


async def test_older_protocols_ask_no_device() -> None:
    attester = Sample(device=True)
    async with serving(ERAS["0.2.0"]) as kbs, client_of(kbs.url) as client:
        await client.handshake(attester)
        assert attester.device_digests == []


@pytest.mark.parametrize("name", ERAS)
async def test_passport(name: str) -> None:
    """KBS 1 attests and holds nothing; KBS 2 trusts its tokens, holds the secret, never attests."""
    async with (
        serving(ERAS["0.4.0"]) as first,
        serving(ERAS[name]) as second,
        client_of(
            first.url,
            algorithm=(
                TeeKeyAlgorithm.RSA1_5 if ERAS[name].legacy_jwe else TeeKeyAlgorithm.EC_P256
            ),
        ) as attesting,
        client_of(second.url) as fetching,
    ):
        second.trusted = first.trusted
        attester = Sample()
        keeper = SessionKeeper(lambda: attesting.handshake(attester))
        fetcher = ResourceFetcher(fetching, keeper)
        assert (await fetcher.get(URI)).reveal() == b"the secret"
        assert second.auths == []
        assert second.cookies_seen == [None]
        # A token that KBS 2 does not trust is renewed at KBS 1, once.
        second.trusted = {}
        with pytest.raises(KbsRefusedError):
            await fetcher.get(URI)
        assert len(attester.digests) == 2


async def test_the_cookie_of_one_kbs_is_not_shown_to_another() -> None:
    early = ERAS["0.1.0 early"]
    async with serving(early) as first, serving(early) as second:
        second.trusted = first.trusted
        async with client_of(first.url) as attesting, client_of(second.url) as fetching:
            session = await attesting.handshake(Sample())
            assert (await fetching.resource(URI, session)).reveal() == b"the secret"
            assert second.cookies_seen == [None]
            assert "kbs-session-id" not in repr(session)


class Interrupted(Sample):
    """Fails or hangs at one of its three calls, once."""

    def __init__(self, step: str, error: type[BaseException]) -> None:
        super().__init__(device=True)
        self._step: str | None = step
        self._error = error

    def _reach(self, step: str) -> None:
        if self._step == step:
            self._step = None
            raise self._error

    async def tee(self) -> str:
        self._reach("tee")
        return await super().tee()

    async def device_evidence(self, device_digest: bytes) -> str:
        self._reach("device_evidence")
        return await super().device_evidence(device_digest)

    async def evidence(self, runtime_digest: bytes) -> Mapping[str, object]:
        self._reach("evidence")
        return await super().evidence(runtime_digest)


@pytest.mark.parametrize("error", [RuntimeError, asyncio.CancelledError])
@pytest.mark.parametrize("step", ["tee", "device_evidence", "evidence"])
async def test_an_interrupted_negotiation_leaves_nothing_behind(
    step: str, error: type[BaseException]
) -> None:
    attester = Interrupted(step, error)
    for name in ("0.4.0", "0.2.0"):
        async with serving(ERAS[name]) as kbs, client_of(kbs.url) as client:
            with suppress(error):
                await client.handshake(attester)
            if attester.digests == []:
                assert client.protocol_version == ""
            session = await client.handshake(attester)
            assert client.protocol_version == name
            assert (await client.resource(URI, session)).reveal() == b"the secret"


async def test_all_versions_together_keep_to_the_deadline() -> None:
    attester = Sample()
    async with serving(ERAS["0.1.0 early"]) as kbs, client_of(kbs.url) as client:
        now = asyncio.get_running_loop().time()
        with pytest.raises(KbsTimeoutError):
            await client.handshake(attester, deadline=now)
        assert attester.digests == []
        assert client.protocol_version == ""
