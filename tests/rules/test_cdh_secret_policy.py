"""Which secrets a guest may open: the rules, and what they make of URIs that try to get around."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.config import CdhConfig
from cdh.errors import CdhError, ConfigurationRefusedError, SecretPolicyError
from cdh.refusal import is_refusal
from cdh.sealed.keys import SigningKeys
from cdh.sealed.seal import Signer, generate_signing_key, held_payload, vault_payload
from cdh.sealed.signature import SignatureVerifier
from cdh.sealed.unseal import Unsealer
from cdh.secret_policy import AllowedResources, SecretPolicy, glob_matches
from kbs import ResourceUri, ResourceUriError
from secrecy import Secret
from tests.settings_text import decode_toml


def config_of(text: str) -> CdhConfig:
    return decode_toml(text.encode(), CdhConfig, "cdh.toml")


def policy_of(text: str) -> SecretPolicy:
    return config_of(f"[secrets]\n{text}").policy()


def allows(rule: str, uri: str, *, several: bool = False) -> bool:
    named = '[[kbc.named]]\nname = "other"\nurl = "https://other"\n' if several else ""
    config = config_of(f'kbc.url = "https://kbs"\nsecrets.resources = ["{rule}"]\n{named}')
    try:
        config.policy().require_resource(ResourceUri.parse(uri))
    except SecretPolicyError as error:
        told = error.key
    else:
        return True
    assert told == "secrets.resources"
    return False


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a", "a", True), ("a", "A", False), ("a", "ab", False), ("*", "", True), ("*", "x", True),
        ("a*", "a", True), ("a*", "ba", False), ("*a", "ba", True), ("a*a", "a", False),
        ("a*a", "aa", True), ("a*b*c", "axbxc", True), ("a*b*c", "acb", False),
        ("*ab*ab*", "xabx", False), ("*ab*ab*", "abab", True), ("a**b", "ab", True),
        ("[ab]", "a", False), ("?", "a", False), ("", "", True),
    ],
)  # fmt: skip
def test_globs(pattern: str, text: str, expected: bool) -> None:
    assert glob_matches(pattern, text) is expected


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_globs_are_what_a_regular_expression_says(pattern: str, text: str) -> None:
    expression = ".*".join(map(re.escape, pattern.split("*")))
    assert glob_matches(pattern, text) == bool(re.fullmatch(expression, text))


RULE = "kbs:///default/db/*"


@pytest.mark.parametrize(
    ("rule", "uri", "expected"),
    [
        (RULE, "kbs:///default/db/password", True),
        (RULE, "KBS:///default/db/password", True),
        (RULE, "kbs+resource:///default/db/password", True),
        (RULE, "kbs:///default/db/password#part", True),  # a fragment is never sent
        (RULE, "kbs:///default/DB/password", False),
        (RULE, "kbs:///Default/db/password", False),
        (RULE, "kbs:///default/db/a/b", False),
        (RULE, "kbs:///default/db", False),
        (RULE, "kbs:///default/db/password?version=2", False),
        (RULE, "kbs:///default/db/password?", False),
        (RULE, "kbs:///default/db/p%61ssword", False),
        (RULE, "kbs:///default/db/%70", False),
        (RULE, "kbs+pkcs11:///default/db/password", False),
        ("kbs:///default/db/*1", "kbs:///default/db/a%31", False),
        ("kbs:///default/db/a*", "kbs:///default/db/a", True),
        (RULE, "kbs:///other/../default/db/password", True),  # what is asked for is meant
        (RULE, "kbs:///default/db/../other/password", False),
        ("kbs:///default/**", "kbs:///default/db/password", True),
        ("kbs:///default/**", "kbs:///default", False),
        ("kbs:///default/**", "kbs:///defaults/db/password", False),
        ("kbs:///**", "kbs:///any/thing/here", True),
        ("kbs:///**", "kbs+pkcs11:///any/thing/here", False),
        ("kbs:///a/b/c?*", "kbs:///a/b/c?x=1", True),
        ("kbs:///a/b/c?*", "kbs:///a/b/c", False),
        ("kbs:///a/b/c?x=*", "kbs:///a/b/c?y=1", False),
        ("kbs:///a/b/c?*", "kbs:///a/b/c?x=%31", False),
        ("kbs+pkcs11:///a/*/c", "kbs+pkcs11:///a/b/c", True),
    ],
)
def test_resources(rule: str, uri: str, expected: bool) -> None:
    assert allows(rule, uri) is expected


@pytest.mark.parametrize(
    ("rule", "uri", "single", "several"),
    [
        ("kbs:///a/b/c", "kbs:///a/b/c", True, True),
        ("kbs:///a/b/c", "kbs://other/a/b/c", True, False),
        ("kbs://other/a/b/c", "kbs://OTHER/a/b/c", True, True),
        ("kbs://other/a/b/c", "kbs:///a/b/c", True, False),
        ("kbs://*/a/b/c", "kbs://other/a/b/c", True, True),
        ("kbs://*/a/b/c", "kbs:///a/b/c", True, True),
    ],
)
def test_the_host_counts_where_it_chooses_a_key_broker(
    rule: str, uri: str, single: bool, several: bool
) -> None:
    assert allows(rule, uri) is single
    assert allows(rule, uri, several=True) is several


PARTS = ["kbs:", "KBS:", "kbs+resource:", "kbs+other:", "//", "/", "..", ".", "%2e", "%2E%2e",
         "%2F", "%64", "%5c", "%00", "%", "default", "DEFAULT", "db", "x", "?", "?a=b", "#", "*",
         "host", "host:80", "@", "\\", " ", ";", "&"]  # fmt: skip
TEXTS = st.tuples(
    st.sampled_from(["", "kbs:///", "kbs://h/", "kbs:///default/", "kbs:///default/db/"]),
    st.lists(st.sampled_from(PARTS), max_size=8).map("".join),
).map("".join)


@given(TEXTS)
def test_no_writing_of_a_uri_gets_around_a_rule(text: str) -> None:
    """What is allowed is, undone as far as a server could, still below the rule's path."""
    try:
        uri = ResourceUri.parse(text)
        policy_of(f'resources = ["{RULE}"]').require_resource(uri)
    except (ResourceUriError, SecretPolicyError):
        return
    target = unquote(unquote(uri.http_target()))
    found = re.fullmatch(r"resource/default/db/([^/\\?#\0]+)", target)
    assert found is not None, target
    assert found[1] not in {".", ".."}


@dataclass
class Resources:
    contents: dict[str, bytes]
    asked: list[str] = field(default_factory=list)

    async def get(self, uri: ResourceUri) -> Secret:
        self.asked.append(str(uri))
        return Secret(self.contents[str(uri)])


KID = "kbs:///sign/key/1"
SIGNER = generate_signing_key(KID)
VALUE = b"value"


def unsealer(rules: str, resources: Resources, directory: Path) -> Unsealer:
    policy = policy_of(rules)
    verifier = SignatureVerifier(SigningKeys(resources, directory, policy))
    return Unsealer(AllowedResources(resources, policy), verifier, policy=policy)


def of_kms(name: str) -> str:
    payload = held_payload(name, "aliyun", {"client_type": "ecs_ram_role"}, {})
    return Signer(KID, SIGNER.private_jwk).sign(payload)


VAULT = Signer(KID, SIGNER.private_jwk).sign(vault_payload("kbs:///a/b/c"))
BY_FILE = Signer("team-key", SIGNER.private_jwk).sign(vault_payload("kbs:///a/b/c"))
BOTH = [KID, "kbs:///a/b/c"]


@pytest.mark.parametrize(
    ("rules", "text", "asked"),
    [
        ("", VAULT, BOTH),
        ('resources = ["kbs:///a/b/*", "kbs:///sign/key/1"]', VAULT, BOTH),
        ('resources = ["kbs:///a/b/*"]\nkids = ["kbs:///sign/*/*"]', VAULT, BOTH),
        ('resources = ["kbs:///a/b/*"]', BY_FILE, ["kbs:///a/b/c"]),
        ('kids = ["team-*"]', BY_FILE, ["kbs:///a/b/c"]),
        ('providers = ["KBS"]', VAULT, BOTH),
        ('kms_secrets = ["x"]', VAULT, BOTH),
    ],
)
async def test_what_the_rules_name_is_opened(
    rules: str, text: str, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "team-key").write_bytes(SIGNER.public_jwk)
    resources = Resources({KID: SIGNER.public_jwk, "kbs:///a/b/c": VALUE})
    opened = await unsealer(rules, resources, tmp_path).unseal(text.encode())
    assert opened.reveal() == VALUE
    assert resources.asked == asked


@pytest.mark.parametrize(
    ("rules", "text", "told", "asked"),
    [
        ('resources = ["kbs:///a/b/*"]', VAULT, f"secrets.resources does not name '{KID}'", []),
        (f'resources = ["{KID}"]', VAULT,
         "secrets.resources does not name 'kbs:///a/b/c'", [KID]),
        ('kids = ["kbs:///other/key/*"]', VAULT, f"secrets.kids does not name '{KID}'", []),
        ('kids = ["*"]', VAULT, f"secrets.kids does not name '{KID}'", []),
        (f'kids = ["{KID}"]', BY_FILE, "secrets.kids does not name 'team-key'", []),
        ('providers = ["aliyun"]', VAULT, "secrets.providers does not name 'kbs'", [KID]),
        ('providers = ["kbs"]', of_kms("db"), "secrets.providers does not name 'aliyun'", [KID]),
        ('kms_secrets = ["db-*"]', of_kms("db"), "secrets.kms_secrets does not name 'db'", [KID]),
    ],
)  # fmt: skip
async def test_a_refusal_names_the_rule_and_asks_nobody(
    rules: str, text: str, told: str, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "team-key").write_bytes(SIGNER.public_jwk)
    resources = Resources({KID: SIGNER.public_jwk, "kbs:///a/b/c": VALUE})
    with pytest.raises(SecretPolicyError, match=re.escape(told)) as caught:
        await unsealer(rules, resources, tmp_path).unseal(text.encode())
    assert is_refusal(caught.value)
    assert resources.asked == asked


def test_key_identifiers_of_a_kms() -> None:
    policy = policy_of('kms_keys = ["key-hz-*"]')
    policy.require_kms_key("key-hz-1")
    with pytest.raises(SecretPolicyError, match="kms_keys"):
        policy.require_kms_key("alias/key-hz-1")


CREDENTIAL = """[[credentials]]
resource_uri = "kbs:///a/b/d"
path = "/run/confidential-containers/cdh/kbs/x"
"""


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('secrets.resources = ["*"]', "secrets.resources"),
        ('secrets.resources = [""]', "secrets.resources"),
        ('secrets.resources = ["http://a/b/c"]', "secrets.resources"),
        ('secrets.resources = ["kbs:///a/**/c"]', "secrets.resources"),
        ('secrets.resources = ["kbs:///a/b/c**"]', "secrets.resources"),
        ('secrets.resources = ["kbs:///a/b/%2a"]', "secrets.resources"),
        ('secrets.resources = ["kbs:///a/../c"]', "secrets.resources"),
        ('secrets.kids = ["kbs:///a#b"]', "secrets.kids"),
        ('secrets.providers = ["a b"]', "secrets.providers"),
        ('secrets.kms_secrets = [""]', "secrets.kms_secrets"),
        ('skip_sealed_secret_verification = true\nsecrets.kids = ["k"]', "secrets.kids"),
        (f'secrets.resources = ["kbs:///a/b/c"]\n{CREDENTIAL}', "credentials[0]"),
    ],
)  # fmt: skip
def test_rules_that_cannot_work_prevent_a_start(text: str, key: str) -> None:
    with pytest.raises(ConfigurationRefusedError) as caught:
        config_of(text).check()
    assert caught.value.key == key


@given(st.text(max_size=60))
def test_arbitrary_rules_give_only_our_errors(rule: str) -> None:
    config = CdhConfig()
    section = type(config.secrets)(resources=(rule,), kids=(rule,))
    problem = ""
    try:
        section.policy(with_host=True)
    except CdhError as error:
        problem = str(error)
    assert len(problem) < 600
