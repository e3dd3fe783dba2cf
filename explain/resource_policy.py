"""A resource policy that said no: which claims it mentions, and what they are. No Rego is run.

The text of a policy names what it looks at; the token has the values. Together they show a person
where the two part, without an engine in the guest. Source: trustee ``kbs/sample_policies``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from explain.finding import Code, Finding, Severity
from explain.token import Submodule, TokenClaims, claim_at
from explain.trust_vector import tier

MAX_CLAIMS: Final = 24  # in one finding
# What policies in the field look at, whether or not the text of this one is known.
USUAL: Final = (
    "tcb_status", "collateral_expiration_status", "td_attributes.debug", "quote.body.mr_td",
    "quote.body.rtmr_1", "quote.body.rtmr_2", "quote.body.mr_config_id",
)  # fmt: skip
MENTIONABLE: Final = (*USUAL, "quote.body.rtmr_0", "quote.body.rtmr_3", "quote.body.xfam", "svn")


def explain_denial(token: TokenClaims, policy: str | None) -> Iterator[Finding]:
    """Yield the claims that matter to a denial, of each submodule."""
    for submodule in token.submodules:
        values = _mentioned(submodule, policy)
        yield Finding(
            Code.POLICY_DENIED,
            Severity.NOTE,
            f"{submodule.name} is {submodule.status}, of TEE {submodule.tee or 'unknown'}; "
            + (
                "the policy mentions these claims"
                if policy is not None
                else "policies usually look at these claims"
            ),
            _advice(submodule, policy),
            got="; ".join(values[:MAX_CLAIMS]) or "none of the claims of this token",
        )


def _mentioned(submodule: Submodule, policy: str | None) -> list[str]:
    values = []
    if policy is None or "ear.status" in policy:
        values.append(f"ear.status = {submodule.status}")
    for claim, value in submodule.vector.items():
        doubtful = str(tier(value)) not in ("affirming", "none")
        if (policy is None and doubtful) or (policy is not None and claim in policy):
            values.append(f"{claim} = {value}")
    paths = USUAL if policy is None else MENTIONABLE
    for path in paths:
        if policy is not None and path.rpartition(".")[2] not in policy:
            continue
        got = claim_at(submodule.claims, path)
        if got != "absent" or policy is not None:
            values.append(f"{path} = {got}")
    return values


def _advice(submodule: Submodule, policy: str | None) -> str:
    if submodule.tee == "sample":
        return "the default policy refuses the TEE sample, whose evidence anybody can make"
    if policy is None:
        return "add the policy's text as resource-policy.rego to see only what it looks at"
    return "change what differs from the policy, or the policy"
