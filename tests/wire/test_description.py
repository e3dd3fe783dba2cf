"""The JSON form of quotes: its names do not change, and agree with what others claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tdx.description import describe_quote
from tdx.eventlog import SHA384, Digest, Event
from tdx.quote import parse_quote
from tdx.replay import REGISTERS, replay, rtmr_of

BODY_10 = [
    "type", "type_name", "tee_tcb_svn", "mr_seam", "mrsigner_seam", "seam_attributes",
    "td_attributes", "xfam", "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rt_mr0",
    "rt_mr1", "rt_mr2", "rt_mr3", "report_data",
]  # fmt: skip
BODY_15 = [*BODY_10, "tee_tcb_svn2", "mr_servicetd"]
BODY_15_EXTENDED = [
    *BODY_15, "vmid", "td_id", "device_info_hash", "init_servicetd_hash",
    "init_servicetd_attributes", "init_cpu_svn", "init_tee_tcb_svn", "init_tee_fmspc",
    "current_servicetd_hash", "current_servicetd_attributes",
]  # fmt: skip


def described(vectors: Path, name: str) -> dict[str, Any]:
    data = (vectors / "tdx" / name).read_bytes()
    found: dict[str, Any] = json.loads(json.dumps(describe_quote(parse_quote(data))))
    return found


def test_names_are_stable(shared_vectors: Path) -> None:
    bodies = {
        "synthetic/quote_v4.bin": BODY_10,
        "synthetic/quote_v5_td15.bin": BODY_15,
        "synthetic/quote_v5_td15ex.bin": BODY_15_EXTENDED,
    }
    for name, fields in bodies.items():
        found = described(shared_vectors, name)
        assert list(found) == ["header", "body", "certification"]
        assert list(found["body"]) == fields
        assert list(found["header"]) == [
            "version", "attestation_key_type", "tee_type", "reserved", "qe_vendor_id", "user_data",
        ]  # fmt: skip
        certification = found["certification"]
        assert list(certification) == [
            "signature", "attestation_key", "type", "type_name", "qe_report",
            "qe_report_signature", "qe_auth_data", "nested",
        ]  # fmt: skip
        assert list(certification["nested"]) == ["type", "type_name", "certificates", "pck"]
        assert set(certification["nested"]["pck"]) >= {"fmspc", "pce_svn", "cpu_svn", "ppid"}


def test_agrees_with_trustees_claims(shared_vectors: Path) -> None:
    """Trustee's names differ: tcb_svn, rtmr_0; its platform instance id is byte-reversed."""
    file = "expected/trustee_claims_quote_v4_debug_with_tdshim_ccel.json"
    claims = json.loads((shared_vectors / "tdx" / file).read_text())
    found = described(shared_vectors, "quotes/trustee_v4_debug.bin")
    body, theirs = found["body"], claims["quote"]["body"]
    for name, value in theirs.items():
        ours = body[{"tcb_svn": "tee_tcb_svn"}.get(name, name.replace("rtmr_", "rt_mr"))]
        assert (ours["value"] if isinstance(ours, dict) else ours) == value, name
    bits = body["td_attributes"]["bits"]
    names = {"debug": "debug", "septve_disable": "sept_ve_disable", "protection_keys": "pks",
             "key_locker": "kl", "perfmon": "perfmon"}  # fmt: skip
    assert {theirs: bits[ours] for theirs, ours in names.items()} == claims["td_attributes"]
    instance = bytes.fromhex(found["certification"]["nested"]["pck"]["platform_instance_id"])
    assert instance[::-1].hex() == claims["platform_instance_id"]


def test_an_event_list_of_dstack_replays_to_its_quote(shared_vectors: Path) -> None:
    """Another technology's list, same arithmetic: ``imr`` 0 to 3 are RTMR0 to RTMR3."""
    report = json.loads((shared_vectors / "tdx/expected/dstack_quote_report.json").read_text())
    quote = parse_quote(bytes.fromhex(report["quote"]))
    events = [
        Event(item["imr"] + 1, item["event_type"],
              (Digest(SHA384, bytes.fromhex(item["digest"])),), b"")
        for item in json.loads(report["event_log"])
    ]  # fmt: skip
    result = replay(events)
    assert [result.value(r) for r in REGISTERS] == [quote.body.rtmrs[rtmr_of(r)] for r in REGISTERS]
