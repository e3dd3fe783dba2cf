"""TEE ``sample``, further devices, and what callers choose: bound as configured, never more."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.attestation import AttestationAgent, MeasurementSettings
from agent.caller_data import labelled
from agent.detection import accept_sample
from agent.devices import DeviceName, open_devices
from agent.devices.sample_device import SampleDevice
from agent.errors import AgentError, RuntimeDataError, TeeAbsentError
from agent.kbs_evidence import AgentEvidence
from agent.sample import SampleAttester
from kbs import Handshake, KbsError, TeeKey

NO_EVENTS = MeasurementSettings(enabled=False, default_pcr=17, writer=None)


def sample_agent(*devices: DeviceName, label: bool = False) -> AttestationAgent:
    return AttestationAgent(
        SampleAttester(), NO_EVENTS, devices=open_devices(devices), label_caller_data=label
    )


def shown(evidence: bytes) -> bytes:
    return base64.b64decode(json.loads(evidence)["report_data"], validate=True)


async def test_recorded_evidence(shared_vectors: Path) -> None:
    cases = json.loads((shared_vectors / "kbs/evidence/sample.json").read_text())["cases"]
    agent = sample_agent(DeviceName.SAMPLE_DEVICE)
    compared = 0
    for case in cases:
        if case["tee"] != "sample" or not case["expected"].startswith("accepted"):
            continue
        digest = base64.b64decode(case["evidence"].get("report_data", ""))
        if "report_data" in case["evidence"]:  # may be left out, and never is
            assert json.loads(await agent.evidence(digest)) == case["evidence"]
            compared += 1
        if "additional_evidence" in case:
            device = json.loads(case["additional_evidence"])["sampledevice"]
            made = await agent.device_evidence(base64.b64decode(device["report_data"]))
            assert made.decode() == case["additional_evidence"]
            compared += 1
    assert compared > 3


@given(st.binary(max_size=64))
async def test_sample_data_is_never_filled_up(data: bytes) -> None:
    agent = sample_agent(DeviceName.SAMPLE_DEVICE)
    evidence = await agent.evidence(data)
    assert list(json.loads(evidence)) == ["svn", "report_data"]
    assert shown(evidence) == data
    device = json.loads(await agent.device_evidence(data))["sampledevice"]
    assert (device["svn"], base64.b64decode(device["report_data"])) == ("2", data)


async def test_data_that_does_not_fit_is_refused_by_every_way() -> None:
    agent = sample_agent(DeviceName.SAMPLE_DEVICE, label=True)
    for ask in (
        agent.evidence,
        agent.evidence_for_caller,
        agent.device_evidence,
        agent.device_evidence_for_caller,
    ):
        with pytest.raises(RuntimeDataError, match="at most 64 bytes, got 65"):
            await ask(bytes(65))


async def test_without_devices_there_is_nothing() -> None:
    agent = sample_agent()
    assert agent.device_names() == []
    assert await agent.device_evidence(b"x") == b""
    assert await AgentEvidence(agent).device_evidence(b"x") == ""


def test_each_device_is_opened_once_and_said_to_prove_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    agent = sample_agent(DeviceName.SAMPLE_DEVICE, DeviceName.SAMPLE_DEVICE)
    assert agent.device_names() == ["sampledevice"]
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert (line["level"], line["reason"]) == ("warning", "tee.devices")


class BrokenDevice:
    name = "nvidia"

    async def evidence(self, runtime_data: bytes) -> bytes:
        raise AgentError("read the GPU's report: EIO", hint="see dmesg")


async def test_a_device_that_fails_is_not_left_out() -> None:
    agent = AttestationAgent(SampleAttester(), NO_EVENTS, devices=[SampleDevice(), BrokenDevice()])
    assert agent.device_names() == ["sampledevice", "nvidia"]
    with pytest.raises(AgentError, match="EIO"):
        await agent.device_evidence(b"x")
    with pytest.raises(KbsError, match="taking evidence for the KBS: read the GPU's report"):
        await AgentEvidence(agent).device_evidence(b"x")


async def test_callers_get_their_own_bytes_unless_labels_are_configured() -> None:
    data = hashlib.sha384(b"nonce and key").digest()
    plain, label = (
        sample_agent(DeviceName.SAMPLE_DEVICE),
        sample_agent(DeviceName.SAMPLE_DEVICE, label=True),
    )
    assert shown(await plain.evidence_for_caller(data)) == data
    assert shown(await label.evidence_for_caller(data)) == labelled(data)
    assert shown(await label.evidence(data)) == data
    device = json.loads(await label.device_evidence_for_caller(data))["sampledevice"]
    assert base64.b64decode(device["report_data"]) == labelled(data)


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_labelled_data_is_no_digest_of_a_handshake(data: bytes, other: bytes) -> None:
    handshake = Handshake("tdx", TeeKey.generate())
    handshake.open()
    digest = handshake.accept_challenge(
        json.dumps({"nonce": "N", "extra-params": {"selected-hash-algorithm": "sha512"}}).encode()
    )
    assert len(labelled(data)) == 64
    assert labelled(data) not in (data, digest, handshake.device_digest())
    assert (labelled(data) == labelled(other)) == (data == other)
    # Published, so that a verifier can compute it.
    text = b"confidential-guest caller evidence v1\0"
    assert labelled(data) == hashlib.sha512(text + data).digest()


@pytest.mark.parametrize(
    ("path", "tee"),
    [
        ("dev/tdx_guest", "tdx"),
        ("dev/tdx-guest", "tdx"),
        ("dev/tdx-attest", "tdx"),
        ("dev/sev-guest", "snp"),
        ("dev/csv-guest", "csv"),
        ("sys/firmware/uv/prot_virt_guest", "se"),
    ],
)
def test_a_guest_of_a_real_tee_is_never_sample(tmp_path: Path, path: str, tee: str) -> None:
    accept_sample(tmp_path)
    sign = tmp_path / path
    sign.parent.mkdir(parents=True)
    if tee == "se":
        sign.write_text("1\n")
    else:
        sign.symlink_to("/dev/null")
    with pytest.raises(TeeAbsentError, match=f"signs of TEE {tee}: /{path}"):
        accept_sample(tmp_path)


def test_the_sign_of_se_is_read_and_not_only_found(tmp_path: Path) -> None:
    sign = tmp_path / "sys/firmware/uv/prot_virt_guest"
    sign.parent.mkdir(parents=True)
    sign.write_text("0\n")
    accept_sample(tmp_path)
    sign.unlink()
    sign.mkdir()
    with pytest.raises(TeeAbsentError, match="EISDIR"):
        accept_sample(tmp_path)


def test_sample_is_said_loudly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    accept_sample(tmp_path)
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["level"] == "warning"
    assert "proves nothing" in line["event"]
