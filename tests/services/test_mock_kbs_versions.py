"""Protocol versions that the mock KBS of each generation takes, and how it refuses others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from aiohttp import ServerDisconnectedError

from mocktee.kbs.era import ERAS
from tests.services.era_pair import VERSION_OF, pair, problem


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("version", ["0.0.9", "0.1.0", "0.1.1", "0.2.0", "0.3.0", "0.4.0"])
async def test_versions(tmp_path: Path, era: str, version: str) -> None:
    own = VERSION_OF[era].partition(" ")[0]
    async with pair(tmp_path, era) as p:
        answer = await p.guest.auth(version)
        if version == own or (own == "0.1.0" and version == "0.0.9"):
            assert answer.status == 200
            return
        status, variant, detail = problem(answer)
    assert status == 401
    if era in ("v0.8", "v0.9"):
        assert variant == "FailedAuthentication"
        assert detail == f"Authentication failed: Session: Invalid Request version {version}"
    elif era == "v0.10":
        assert variant == "ProtocolVersion"
        assert detail == (
            "KBS Client Protocol Version Mismatch: "
            f"expected version: =0.1.1, requested version: {version}"
        )
    else:
        assert variant == "AttestationError"
        assert detail == (
            "Attestation error: RCAR handshake Auth failed: KBS Client Protocol Version "
            f"Mismatch: expect ={own} while the request is {version}"
        )


async def test_recorded_refusals_of_versions(tmp_path: Path, shared_vectors: Path) -> None:
    recorded = json.loads((shared_vectors / "kbs/rcar/errors.json").read_text())["cases"]
    for era, case, version in (("head", 0, "0.2.0"), ("v0.10", 1, "0.1.0"), ("v0.9", 2, "0.1.1")):
        async with pair(tmp_path / era, era) as p:
            answer = await p.guest.auth(version)
            assert answer.status == recorded[case]["status"]
            assert answer.json() == recorded[case]["body"]


@pytest.mark.parametrize(
    ("era", "detail"),
    [
        ("v0.9", "Authentication failed: Session: unexpected character 'n' while parsing major"),
        ("v0.11", "Attestation error: RCAR handshake Auth failed: failed to parse KBS version"),
        ("head", "Attestation error: RCAR handshake Auth failed: failed to parse KBS version"),
    ],
)
async def test_a_version_that_is_none(tmp_path: Path, era: str, detail: str) -> None:
    async with pair(tmp_path, era) as p:
        assert problem(await p.guest.auth("nonsense"))[2].startswith(detail)


async def test_the_panic_of_v0_10(tmp_path: Path) -> None:
    async with pair(tmp_path, "v0.10") as p:
        with pytest.raises(ServerDisconnectedError):
            await p.guest.auth("nonsense")
        await p.guest.handshake()
