"""A mock KBS of one generation of servers, and a guest of the same time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from mocktee.kbs import KbsOptions, MockKbs, shipped_policy
from mocktee.pki import MockPki
from tests.services.kbs_old_guest import EARLY, LATE, OldGuest

PKI = MockPki.create()
RSA_KEY = rsa.generate_private_key(65537, 2048)
SECRET = b"the secret of every era"
PATH = "default/key/1"
VERSION_OF = {
    "v0.8": EARLY,
    "v0.9": LATE,
    "v0.10": "0.1.1",
    "v0.11": "0.1.1",
    "v0.13": "0.2.0",
    "head": "0.4.0",
}
OLD = ["v0.8", "v0.9", "v0.10"]
PLUGINS = ["v0.11", "v0.13", "head"]
OPEN = shipped_policy("allow_every_path")


@dataclass(frozen=True)
class Pair:
    kbs: MockKbs
    guest: OldGuest


@asynccontextmanager
async def pair(folder: Path, era: str, **options: Any) -> AsyncIterator[Pair]:
    ec_key = ec.generate_private_key(ec.SECP256R1())
    key = ec_key if era in ("v0.13", "head") else RSA_KEY
    settings = KbsOptions(tls=False, era=era, verbose_refusals=False, **options)
    async with (
        MockKbs.start(folder, PKI, settings) as kbs,
        OldGuest(kbs.url, VERSION_OF[era], key=key) as guest,
    ):
        kbs.put_resource(PATH, SECRET)
        kbs.set_resource_policy(OPEN)
        yield Pair(kbs, guest)


def problem(answer: Any) -> tuple[int, str, str]:
    assert "Content-Type" not in answer.headers
    return answer.status, answer.problem, answer.detail
