"""Three refusals, each with a reason a person can act on."""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass

import aiohttp
import msgspec

from demo.stage import Stage
from demo.story import Story, require
from kbs import Handshake, TeeKey, TeeKeyAlgorithm
from protos.stubs import AttestationAgentStub

TAMPERED = "rtmr1"
DENY_PATH = "demo/denied/1"
POLICY = """\
package policy

import rego.v1

default allow := false

allow if {
    data.plugin == "resource"
    data["resource-path"][1] != "denied"
}
"""


@dataclass(frozen=True, slots=True)
class Refusals:
    """Each leaves the stage as it found it."""

    stage: Stage
    story: Story

    async def play(self) -> None:
        await self.tampered_register()
        await self.replayed_nonce()
        await self.denied_resource()

    async def tampered_register(self) -> None:
        async with self.story.step("Refused: a measurement register was tampered with") as step:
            step.progress("(needs a fresh quote)")
            before = (await self.stage.harness.tsm.state()).registers[TAMPERED]
            await self.stage.harness.tsm.tamper(TAMPERED, b"\x66" * 48)
            refused = await self.stage.cguest("attest", "--force")
            await self.stage.harness.tsm.tamper(TAMPERED, before)
            require(refused.code == 1, "exit code 1 (refused)", (refused.code, refused.err))
            require("RTMR1" in refused.err.upper(), "a reason that names RTMR1", refused.err)
            step.fact(refused.err[:900], "the KBS, replaying the event log")

    async def replayed_nonce(self) -> None:
        async with self.story.step("Refused: yesterday's evidence for today's nonce") as step:
            step.progress("(needs a fresh quote)")
            context = ssl.create_default_context(cadata=self.stage.harness.kbs_ca_pem)
            base = self.stage.harness.kbs_url + "/kbs/v0"
            connector = aiohttp.TCPConnector(ssl=context)
            jar = aiohttp.DummyCookieJar()
            async with aiohttp.ClientSession(connector=connector, cookie_jar=jar) as http:
                handshake = Handshake("tdx", TeeKey.generate(TeeKeyAlgorithm.EC_P256))
                hello = handshake.open()
                async with http.post(f"{base}/auth", data=hello) as reply:
                    first = reply.cookies["kbs-session-id"].value
                    digest = handshake.accept_challenge(await reply.read())
                async with await self.stage.agent() as client:
                    evidence = (
                        await AttestationAgentStub(client).get_evidence(digest, timeout_s=50.0)
                    ).Evidence
                body = handshake.answer(msgspec.Raw(evidence))
                good = await _attest(http, base, first, body)
                require(good[0] == 200, "the fresh attestation to pass", good)
                async with http.post(f"{base}/auth", data=hello) as reply:
                    second = reply.cookies["kbs-session-id"].value
                again = await _attest(http, base, second, body)
            require(again[0] == 401, "status 401 for the replay", again)
            step.fact("the same body passed for its own nonce", "the KBS")
            step.fact(json.loads(again[1])["detail"][:300], "the KBS, comparing nonces")

    async def denied_resource(self) -> None:
        async with self.story.step("Refused: policy denies a resource") as step:
            await self.stage.harness.put_resource(DENY_PATH, b"never seen")
            await self.stage.harness.set_resource_policy(POLICY)
            # The refusal before last ended the session; a good one must be there to be kept.
            await self.stage.cguest("attest")
            before = await self.stage.harness.quotes_made()
            refused = await self.stage.cguest("resource", "get", f"kbs:///{DENY_PATH}")
            made = await self.stage.harness.quotes_made() - before
            require(refused.code == 1, "exit code 1 (refused)", (refused.code, refused.err))
            require(made == 0, "no further quote for a denial", made)
            step.fact(refused.err[:900], "the KBS's policy, in Rego")
            step.fact("the denial cost no quote (the reference tries three times)", "the fake TSM")


async def _attest(
    http: aiohttp.ClientSession, base: str, cookie: str, body: bytes
) -> tuple[int, bytes]:
    async with http.post(f"{base}/attest", data=body, cookies={"kbs-session-id": cookie}) as reply:
        return reply.status, await reply.read()
