"""Resource policies at the mock KBS of each generation: what they see, and what counts of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mocktee.kbs import shipped_policy
from mocktee.kbs.era import ERAS
from tests.services.era_pair import OLD, OPEN, PATH, SECRET, pair, problem
from tests.services.kbs_guest import b64u
from tests.services.kbs_old_guest import JSON


@pytest.mark.parametrize("era", ERAS)
async def test_the_short_form_of_paths(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        await p.guest.handshake()
        answer = await p.guest.get("key/1")
        if era in [*OLD, "v0.11"]:
            assert p.guest.open(answer) == SECRET
        else:
            assert problem(answer)[1] == "PluginInternalError"


@pytest.mark.parametrize(
    ("era", "condition"),
    [
        ("v0.9", 'data["resource-path"] == "default/key/1"'),
        ("v0.10", 'data["resource-path"] == "default/key/1"'),
        ("v0.11", 'data["resource-path"] == "resource/default/key/1"'),
        ("v0.13", 'data["resource-path"] == "resource/default/key/1"'),
        ("head", 'data["resource-path"] == ["default", "key", "1"]'),
    ],
)
async def test_what_a_resource_policy_sees(tmp_path: Path, era: str, condition: str) -> None:
    async with pair(tmp_path, era) as p:
        p.kbs.put_resource("default/key/2", SECRET)
        p.kbs.set_resource_policy(
            f"package policy\ndefault allow = false\nallow {{\n  {condition}\n}}\n"
        )
        await p.guest.handshake()
        assert p.guest.open(await p.guest.get(PATH)) == SECRET
        denied = problem(await p.guest.get("default/key/2"))
        assert denied[1] == ("PolicyReject" if era in OLD else "PolicyDeny")


@pytest.mark.parametrize("era", ERAS)
async def test_the_default_policy_and_the_software_tee(tmp_path: Path, era: str) -> None:
    async with pair(tmp_path, era) as p:
        p.kbs.set_resource_policy(shipped_policy(ERAS[era].default_policy))
        await p.guest.handshake()
        assert (await p.guest.get(PATH)).status == (200 if era == "v0.8" else 401)


async def test_v0_8_evaluates_the_policy_and_ignores_the_verdict(tmp_path: Path) -> None:
    async with pair(tmp_path, "v0.8") as p:
        await p.guest.handshake()
        p.kbs.set_resource_policy(shipped_policy("deny_all"))
        assert p.guest.open(await p.guest.get(PATH)) == SECRET
        p.kbs.set_resource_policy("package policy\n")
        status, variant, detail = problem(await p.guest.get(PATH))
        assert (status, variant) == (401, "PolicyEngineFailed")
        assert detail.endswith('Policy Engine output must contain "allow" boolean value')


async def test_policy_texts_are_taken_as_base64url(tmp_path: Path) -> None:
    for era in ERAS:
        async with pair(tmp_path / era, era) as p:
            headers = JSON | {"Authorization": f"Bearer {p.kbs.admin_token}"}
            body = {"policy": b64u(OPEN.encode())}
            answer = await p.guest.call("POST", "/kbs/v0/resource-policy", body, headers)
            assert (answer.status, answer.body) == (200, b"")
