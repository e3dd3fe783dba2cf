"""What events measured and what their digests cover, on recorded logs and on changed ones."""

from __future__ import annotations

import dataclasses
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mocktee.bootlog import boot
from tdx.event_description import Covers, EventDescription, describe_event
from tdx.event_types import EVENT_TYPES, type_name
from tdx.eventlog import SHA384, Digest, Event, parse_event_log
from tdx.uefi import parse_variable

TRUSTEE = {
    "tdshim": "tdshim_trimmed",
    "ovmf": "ovmf",
    "ovmf_grub": "ovmf_grub",
    "gcp_gke": "gcp_gke_trimmed",
    "alibaba_ccel_with_aael": "alibaba_ccel_with_aael",
}
LOGS = ("ovmf", "ovmf_grub", "gcp_trimmed", "gcp_gke_trimmed", "gcp_cos113_trimmed", "dstack",
        "go_eventlog_vm", "go_eventlog_unpadded", "cctrusted_ubuntu_grub", "tdshim_trimmed",
        "alibaba_ccel_with_aael")  # fmt: skip
DATA_TYPES = {"EV_SEPARATOR", "EV_EFI_ACTION", "EV_EFI_GPT_EVENT", "EV_EFI_VARIABLE_BOOT",
              "EV_EFI_VARIABLE_DRIVER_CONFIG", "EV_EFI_VARIABLE_AUTHORITY"}  # fmt: skip


def recorded(vectors: Path, name: str) -> tuple[Event, ...]:
    return parse_event_log((vectors / "tdx" / "ccel" / f"{name}.bin").read_bytes()).events


def described(vectors: Path, name: str) -> Iterator[tuple[Event, EventDescription]]:
    for event in recorded(vectors, name):
        yield event, describe_event(event)


@pytest.mark.parametrize("name", LOGS)
def test_no_digest_of_a_real_log_is_called_wrong(shared_vectors: Path, name: str) -> None:
    for event, told in described(shared_vectors, name):
        assert told.digest_holds is not False, told
        if told.type_name in DATA_TYPES or told.covers is Covers.COMMAND:
            assert told.digest_holds is True, told
        assert told.summary.isprintable()
        assert told.type_name == type_name(event.event_type)


def test_the_commands_of_a_boot_loader_are_recomputed(shared_vectors: Path) -> None:
    """Both forms: upstream's with a colon, Alibaba Cloud's with a NUL that counts."""
    for name, count in (("alibaba_ccel_with_aael", 53), ("cctrusted_ubuntu_grub", 57)):
        told = [d for _, d in described(shared_vectors, name) if d.covers is Covers.COMMAND]
        assert len(told) == count
        lines = [d for d in told if d.summary.startswith("kernel command line: ")]
        assert len(lines) == 1 and " ro " in lines[0].details["command"]


@pytest.mark.parametrize("name", TRUSTEE)
def test_agrees_with_trustee(shared_vectors: Path, name: str) -> None:
    text = (shared_vectors / "tdx" / "expected" / f"trustee_events_{name}.json").read_text()
    found = json.loads(text)
    theirs: list[Any] = found if isinstance(found, list) else next(iter(found.values()))
    ours = list(described(shared_vectors, TRUSTEE[name]))
    assert len(ours) == len(theirs)
    for (event, told), other in zip(ours, theirs, strict=True):
        assert (event.register, told.type_name) == (other["index"], other["type_name"])
        if other["digest_matches_event"]:
            # Trustee compares with the whole data; we agree, or know that less suffices.
            assert told.digest_holds is True
        details = other.get("details", {})
        if "variable_data" in details:
            assert told.details["name"] == details["unicode_name"]
        for path in details.get("device_paths", []):
            if path.startswith("File("):
                assert told.details["path"].endswith(path[5:-1])
        if "data" in details:
            assert told.details["domain"] == details["data"]["domain"]
            assert told.details["operation"] == details["data"]["operation"]


def test_the_mock_boot_is_described(shared_vectors: Path) -> None:
    events = parse_event_log(boot().data_file()).events
    told = [describe_event(event) for event in events]
    assert {item.digest_holds for item in told} == {True, None}
    summaries = {item.summary for item in told}
    assert {"EFI image kernel", "kernel command line (EFI stub)", "initrd (EFI stub)",
            "boot variable BootOrder, 2 bytes", "hand-off table TdxTable"} <= summaries  # fmt: skip


def test_changed_data_is_seen_where_the_digest_covers_it(shared_vectors: Path) -> None:
    for event, told in described(shared_vectors, "alibaba_ccel_with_aael"):
        if told.digest_holds and event.data and told.covers is Covers.DATA:
            changed = dataclasses.replace(event, data=event.data + b"x")
            assert describe_event(changed).digest_holds is not True


@pytest.mark.parametrize(
    ("event_type", "data", "summary", "covers"),
    [
        pytest.param(0x04, bytes(4), "separator: end of firmware measurements", Covers.DATA,
                     id="separator"),
        pytest.param(0x04, b"\1\0\0\0", "separator: an error", Covers.DATA, id="error separator"),
        pytest.param(0x80000001, b"", "UEFI variable, malformed", Covers.DATA, id="no variable"),
        pytest.param(0x80000003, b"x", "EFI image, malformed load event", Covers.IMAGE,
                     id="no load event"),
        pytest.param(0x80000003, bytes(32), "EFI image from memory", Covers.IMAGE, id="no path"),
        pytest.param(0x0D, b"grub_cmd: insmod tpm\0", "boot loader command: insmod tpm",
                     Covers.COMMAND, id="GRUB"),
        pytest.param(0x0D, b"/boot/vmlinuz\0", "boot loader: /boot/vmlinuz", Covers.CONTENTS,
                     id="file"),
        pytest.param(0x06, b"LOADED_IMAGE::LoadOptions\0", "kernel command line (EFI stub)",
                     Covers.COMMAND_LINE, id="load options without a tag"),
        pytest.param(0x06, struct.pack("<II", 7, 1) + b"x", "tagged event 0x7 x", Covers.UNKNOWN,
                     id="foreign tag"),
        pytest.param(0x03, b"SP800-155 Event3", "information: SP800-155 Event3", Covers.NOTHING,
                     id="no action"),
        pytest.param(0x7777, b"\1\2", "2 bytes: 0102", Covers.UNKNOWN, id="unknown type"),
        pytest.param(0x0D, b"a\x1b[31m\nb", "boot loader: 611b5b33316d0a62", Covers.CONTENTS,
                     id="terminal control"),
    ],
)  # fmt: skip
def test_summaries(event_type: int, data: bytes, summary: str, covers: Covers) -> None:
    told = describe_event(Event(3, event_type, (Digest(SHA384, bytes(48)),), data))
    assert (told.summary, told.covers) == (summary, covers)
    assert told.digest_holds in {None, False}


@given(
    st.sampled_from([*EVENT_TYPES, 0x12345678]),
    st.binary(max_size=200) | st.binary(max_size=64).map(lambda b: b"grub_cmd " + b),
    st.booleans(),
)
def test_arbitrary_data_is_described(event_type: int, data: bytes, with_digest: bool) -> None:
    digests = (Digest(SHA384, bytes(48)),) if with_digest else ()
    told = describe_event(Event(1, event_type, digests, data))
    assert told.summary.isprintable() and len(told.summary) <= 160
    assert all(value.isprintable() for value in told.details.values())
    assert told.digest_holds is not True


def test_a_variable_with_lying_lengths_is_none() -> None:
    good = bytes(16) + struct.pack("<QQ", 1, 1) + b"a\0v"
    assert parse_variable(good) is not None
    for name, size in ((2, 1), (1, 2), (2**63, 1), (1, 2**63)):
        assert parse_variable(bytes(16) + struct.pack("<QQ", name, size) + b"a\0v") is None
