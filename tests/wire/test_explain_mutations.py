"""Damaged parts of a good bundle: every one is explained, none raises."""

from __future__ import annotations

import base64
import json
import random
from itertools import islice

import pytest

from explain import Bundle, Part, examine, read_case
from explain.errors import SecretInBundleError
from tests.bundles import INITDATA, NOW, Guest, claims, digest48, token_claims, with_mrconfigid
from tests.fuzz.mutations import mutations
from tests.refusals import REFUSALS

ROUNDS = 60
GUEST = Guest(td=with_mrconfigid(digest48("sha384")), initdata=INITDATA)
GOOD = GUEST.parts(
    token_claims=token_claims({"hardware": 97}, claims(GUEST.td)),
    challenge={"nonce": "n", "extra-params": {"selected-hash-algorithm": "sha512"}},
    handshakes=[{"nonce": "n", "tee-pubkey": {"kty": "EC"}}],
    resource_policy=REFUSALS[17].make()["resource-policy.rego"],
    initdata=INITDATA,
)


def explained(parts: dict[str, bytes]) -> None:
    try:
        bundle = Bundle.of(parts)
    except SecretInBundleError:  # damage can look like one
        return
    assert examine(read_case(bundle), NOW.timestamp())


@pytest.mark.parametrize("part", sorted(GOOD))
def test_a_damaged_part(part: str) -> None:
    for damaged in islice(mutations(GOOD[part], random.Random(part)), ROUNDS):
        explained(GOOD | {part: damaged})


@pytest.mark.parametrize("member", ["quote", "cc_eventlog"])
def test_damage_below_the_coding(member: str) -> None:
    request = GUEST.request()
    evidence = request["tee-evidence"]["primary_evidence"]
    good = base64.b64decode(evidence[member])
    for damaged in islice(mutations(good, random.Random(member)), ROUNDS):
        evidence[member] = base64.b64encode(damaged).decode()
        explained(GOOD | {str(Part.ATTEST_REQUEST): json.dumps(request).encode()})
