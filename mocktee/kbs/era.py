"""The generations of servers that a mock KBS can pass for, and everything in which they differ.

One :class:`Era` is one released generation of Trustee's KBS with its built-in attestation service.
An era says which; how a message, an error or a token of it looks is its own module's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from mocktee.kbs.claims import SAMPLE_CLAIMS
from mocktee.kbs.errors import FrameworkRefusedError, UnknownEraError
from mocktee.kbs.messages import Binding, MessageForm


class Wording(Enum):
    """Which error variants and texts a server has."""

    PER_CALL = "up to v0.10: one variant for each thing that fails"
    PLUGINS = "v0.11 to v0.13: plugins, admin errors on their own"
    HEAD = "v0.14 and later"


class PolicyData(Enum):
    """The member ``resource-path`` of a resource policy's ``data``."""

    PATH = "R/T/TAG"
    PLUGIN_AND_PATH = "resource/R/T/TAG"
    SEGMENTS = '["R", "T", "TAG"], beside plugin and query'


class TokenForm(Enum):
    """What the attestation service issues."""

    SIMPLE_FLAT = "RS384, the TEE key on top"
    SIMPLE = "RS384, the signer's key among the claims"
    SIMPLE_HEADER = "RS384, the signer's key in the header"
    EAR = "ES256, an EAT attestation result"


_SVN_ONLY: Final = SAMPLE_CLAIMS[:1]
_RSA: Final = frozenset({"RSA1_5"})
_SINCE_0_12: Final = _RSA | {"RSA-OAEP-256", "P-256"}


@dataclass(frozen=True, slots=True)
class Era:
    """One generation of servers; the defaults are those of the newest.

    ``framework_parses``: the web framework parses bodies, so that they need their Content-Type and
    are refused in plain text. ``denials``: the KBS of v0.8.0 evaluates the resource policy, but
    looks at failures of the evaluation only and never at its verdict.
    """

    name: str
    protocol: str = "0.4.0"
    lower_accepted: bool = False
    form: MessageForm = MessageForm.SECTIONS
    binding: Binding = Binding.RUNTIME_DATA_AND_DEVICES
    wording: Wording = Wording.HEAD
    framework_parses: bool = False
    attests_again: bool = False
    legacy_jwe: bool = False
    tee_keys: frozenset[str] = _SINCE_0_12 | {"P-521", "ML-KEM-768+A192KW"}
    short_paths: bool = False
    policy_data: PolicyData = PolicyData.SEGMENTS
    denials: bool = True
    default_policy: str = "default"
    attestation_policy_id: str = "default_cpu"
    attestation_policy_guarded: bool = True
    reference_values: bool = True
    deletes: bool = True
    health: bool = True
    admin_role: bool = True
    token: TokenForm = TokenForm.EAR
    simple_token: TokenForm | None = None
    submodule: str = "cpu0"
    sample_claims: tuple[str, ...] = SAMPLE_CLAIMS

    @property
    def plugins(self) -> bool:
        """Whether the first path segment names a plugin; otherwise the router knows all paths."""
        return self.wording is not Wording.PER_CALL

    def routed(self, segments: list[str]) -> list[str]:
        """Return the path as far as a router with fixed routes finds it; it has no others.

        Raises :class:`~mocktee.kbs.errors.FrameworkRefusedError`.
        """
        if self.plugins:
            return segments
        if len(segments) not in (2, 3) or not all(segments):
            raise FrameworkRefusedError(404)
        return self.stored(segments)

    def stored(self, segments: list[str]) -> list[str]:
        """Return the path of the resource: the short form is in repository ``default``."""
        short = self.short_paths and len(segments) == 2
        return ["default", *segments] if short else segments

    @property
    def checks_policies(self) -> bool:
        """Whether a resource policy is compiled when it is set, and not only when it is used."""
        return self.plugins

    @property
    def undefined_denies(self) -> bool:
        """Whether an undefined ``allow`` denies; otherwise it is an error of the policy engine."""
        return self.wording is Wording.HEAD

    @property
    def full_claims(self) -> bool:
        """Whether tokens have all claims of today: issuer, identifiers, zeros of the vector."""
        return self.wording is Wording.HEAD

    @property
    def requirement(self) -> str:
        """The requirement on versions, in the words of the refusal."""
        return f"{'<=' if self.lower_accepted else '='}{self.protocol}"


def _before_plugins(name: str, protocol: str, form: MessageForm, *, lower_accepted: bool) -> Era:
    return Era(
        name=name,
        protocol=protocol,
        lower_accepted=lower_accepted,
        form=form,
        binding=Binding.RUNTIME_DATA,
        wording=Wording.PER_CALL,
        framework_parses=True,
        legacy_jwe=True,
        tee_keys=_RSA,
        short_paths=True,
        policy_data=PolicyData.PATH,
        default_policy="default_by_tee",
        attestation_policy_id="default",
        reference_values=False,
        deletes=False,
        health=False,
        admin_role=False,
        token=TokenForm.SIMPLE,
        sample_claims=_SVN_ONLY,
    )


def _first_plugins(name: str, protocol: str, *, legacy_jwe: bool) -> Era:
    return Era(
        name=name,
        protocol=protocol,
        form=MessageForm.EVIDENCE_VALUE,
        binding=Binding.RUNTIME_DATA,
        wording=Wording.PLUGINS,
        legacy_jwe=legacy_jwe,
        tee_keys=_RSA if legacy_jwe else _SINCE_0_12,
        short_paths=legacy_jwe,
        policy_data=PolicyData.PLUGIN_AND_PATH,
        default_policy="default_cpu",
        attestation_policy_id="default",
        attestation_policy_guarded=False,
        reference_values=False,
        deletes=False,
        health=False,
        admin_role=False,
        simple_token=TokenForm.SIMPLE_HEADER,
        submodule="cpu",
        sample_claims=_SVN_ONLY if legacy_jwe else SAMPLE_CLAIMS[:2],
    )


V0_8: Final = Era(
    name="v0.8",
    protocol="0.1.0",
    lower_accepted=True,
    form=MessageForm.EVIDENCE_TEXT,
    binding=Binding.NONCE_AND_KEY,
    wording=Wording.PER_CALL,
    framework_parses=True,
    attests_again=True,
    legacy_jwe=True,
    tee_keys=_RSA,
    short_paths=True,
    policy_data=PolicyData.PATH,
    denials=False,
    default_policy="allow_every_path",
    attestation_policy_id="default",
    reference_values=False,
    deletes=False,
    health=False,
    admin_role=False,
    token=TokenForm.SIMPLE_FLAT,
    sample_claims=_SVN_ONLY,
)
V0_9: Final = _before_plugins("v0.9", "0.1.0", MessageForm.EVIDENCE_TEXT, lower_accepted=True)
V0_10: Final = _before_plugins("v0.10", "0.1.1", MessageForm.EVIDENCE_VALUE, lower_accepted=False)
V0_11: Final = _first_plugins("v0.11", "0.1.1", legacy_jwe=True)
V0_13: Final = _first_plugins("v0.13", "0.2.0", legacy_jwe=False)
HEAD: Final = Era(name="head")
ERAS: Final = {era.name: era for era in (V0_8, V0_9, V0_10, V0_11, V0_13, HEAD)}


def era_of(name: str) -> Era:
    """Return an era by its name. Raises :class:`~mocktee.kbs.errors.UnknownEraError`."""
    era = ERAS.get(name)
    if era is None:
        raise UnknownEraError(name, tuple(ERAS))
    return era
