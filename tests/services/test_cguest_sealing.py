"""``cguest secret``: what an operator seals, inspects and verifies, as a program."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from cguest.__main__ import main
from cguest.outcome import Exit
from tests.services.kms_rig import CLIENT_KEY_ID, INSTANCE, KEY, KmsRig, kms_rig, new_client_key

KID = "kbs:///default/signing-key/sealed"


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert main(["secret", "keygen", "--kid", KID, "--directory", str(tmp_path)]) == Exit.PASS
    capsys.readouterr()
    return tmp_path


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[KmsRig]:
    async with kms_rig(tmp_path / "rig", new_client_key()) as started:
        yield started


def signing(keys: Path) -> list[str]:
    return ["--key", str(keys / "sealed-signing-private.json"), "--kid", KID]


def sealed(keys: Path, capsys: pytest.CaptureFixture[str], *what: str) -> str:
    assert main(["secret", "seal", *what, *signing(keys)]) == Exit.PASS
    return capsys.readouterr().out.strip()


def inspected(text: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert main(["-o", "json", "secret", "inspect", text]) == Exit.PASS
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_inspect_says_what_it_stands_for_and_that_nothing_was_checked(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = inspected(sealed(keys, capsys, "--resource", "kbs:///default/db/1"), capsys)
    assert found["name"] == "kbs:///default/db/1"
    assert found["kid"] == KID
    assert "not checked" in found["signature"]


def test_verify_holds_for_the_key_and_is_refused_for_another(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = sealed(keys, capsys, "--kms-secret", "database")
    public = str(keys / "sealed-signing-public.json")
    assert main(["secret", "verify", text, "--key", public]) == Exit.PASS
    main(["secret", "keygen", "--kid", KID, "--name", "other", "--directory", str(tmp_path)])
    other = str(tmp_path / "other-public.json")
    assert main(["secret", "verify", text, "--key", other]) == Exit.REFUSED
    assert "signature" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "sealed.", "sealed.a.b.c", "x", "sealed.e30.e30.AA"])
def test_what_is_no_sealed_secret_is_an_error(
    text: str, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = str(keys / "sealed-signing-public.json")
    assert main(["secret", "inspect", text]) == Exit.ERROR
    assert main(["secret", "verify", text, "--key", public]) == Exit.ERROR
    assert "sealed secret" in capsys.readouterr().err


def test_kubernetes_gets_a_secret_and_a_pod_that_uses_it(
    keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml  # type: ignore[import-untyped]

    text = sealed(
        keys, capsys, "--resource", "kbs:///default/db/1", "--kubernetes", "db-password",
        "--kubernetes-key", "db.password",
    )  # fmt: skip
    secret, pod = yaml.safe_load_all(text)
    value = secret["stringData"]["db.password"]
    assert value.startswith("sealed.")
    assert secret["metadata"]["name"] == "db-password"
    (container,) = pod["spec"]["containers"]
    reference = container["env"][0]
    assert reference["name"] == "DB_PASSWORD"
    assert reference["valueFrom"]["secretKeyRef"] == {"name": "db-password", "key": "db.password"}
    assert pod["spec"]["volumes"][0]["secret"]["secretName"] == "db-password"


@pytest.mark.parametrize("name", ["", "Upper", "a\nb", "a: b", "a-", "x" * 300])
def test_names_that_kubernetes_would_refuse(
    name: str, keys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["secret", "seal", "--resource", "kbs:///default/db/1", *signing(keys)]
    assert main([*arguments, "--kubernetes", name]) == Exit.ERROR
    assert capsys.readouterr().out == ""


def test_a_file_needs_a_kms(keys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["secret", "seal", "--file", "-", *signing(keys)]
    assert main(arguments) == Exit.ERROR
    assert "--kms-key-id" in capsys.readouterr().err


async def test_a_file_is_sealed_by_the_kms_without_showing_it(
    keys: Path, rig: KmsRig, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    content = keys / "content"
    content.write_text("the very secret")
    arguments = [
        "secret", "seal", "--file", str(content), "--kms-key-id", KEY, "--kms-instance", INSTANCE,
        "--client-key", str(rig.credentials / f"clientKey_{CLIENT_KEY_ID}.json"),
        "--password-file", str(rig.credentials / f"password_{CLIENT_KEY_ID}.json"),
        "--kms-ca", str(rig.credentials / f"PrivateKmsCA_{INSTANCE}.pem"),
        "--kms-url", f"{rig.mock.url}/", *signing(keys),
    ]  # fmt: skip
    assert await asyncio.to_thread(main, arguments) == Exit.PASS
    text = capsys.readouterr().out.strip()
    assert "the very secret" not in text
    found = await asyncio.to_thread(inspected, text, capsys)
    assert found["type"] == "envelope"
    assert found["key_id"] == KEY
    assert rig.mock.calls["Encrypt"] == 1
