"""What a fresh harness holds: example secrets, a policy, reference values and a few objects."""

from __future__ import annotations

import random
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mocktee.kbs.process import KbsProcess
from mocktee.oss.authentication import AccessKey

BUCKET: Final = "demo-bucket"
REGION: Final = "cn-hangzhou"
EXAMPLE_RESOURCE: Final = "default/key/1"
ACCESS_KEY_ID_RESOURCE: Final = "default/oss/access-key-id"
ACCESS_KEY_SECRET_RESOURCE: Final = "default/oss/access-key-secret"

# Everything goes to a guest whose evidence is that of a TD; the software-only TEE gets nothing.
RESOURCE_POLICY: Final = """\
package policy

import rego.v1

default allow := false

evidence := input.submods.cpu0["ear.veraison.annotated-evidence"]

allow if {
	data.plugin == "resource"
	evidence.tdx
}
"""

# Register names of the mock TD, and what the key broker's reference values call them. RTMR3 is
# missing on purpose: the guest extends it while it runs.
_REFERENCES: Final = {"mrtd": "mr_td", "rtmr0": "rtmr_0", "rtmr1": "rtmr_1", "rtmr2": "rtmr_2"}


@dataclass(frozen=True, slots=True)
class Seeds:
    """The secret values of one harness."""

    example_key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)
    access_key: AccessKey = field(
        default_factory=lambda: AccessKey(
            f"LTAI{secrets.token_hex(10)}", secrets.token_urlsafe(24)
        ),
        repr=False,
    )


def example_objects() -> dict[str, bytes]:
    """The same in every harness; the binary one is a mebibyte."""
    rows = "".join(f"{number},{number * number}\n" for number in range(1000))
    return {
        "hello.txt": b"Hello from the local object store.\n",
        "data/squares.csv": b"number,square\n" + rows.encode(),
        "data/random.bin": random.Random(1).randbytes(1 << 20),
    }


async def seed_key_broker(kbs: KbsProcess, seeds: Seeds, registers: Mapping[str, bytes]) -> None:
    """Resources, policy, and the registers of the booted TD as the only good ones."""
    await kbs.put_resource(EXAMPLE_RESOURCE, seeds.example_key)
    await kbs.put_resource(ACCESS_KEY_ID_RESOURCE, seeds.access_key.key_id.encode())
    await kbs.put_resource(ACCESS_KEY_SECRET_RESOURCE, seeds.access_key.secret.encode())
    await kbs.set_resource_policy(RESOURCE_POLICY)
    good = {name: [registers[register].hex()] for register, name in _REFERENCES.items()}
    await kbs.set_reference_values(**good)
