"""Reference values: from a good boot, from what the next one will measure, and what is left out."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from explain import BootFiles, BootMeasurementError, boot_reference, parse_reference_values
from explain.authenticode import authenticode_sha384
from mocktee.bootlog import BootInputs, boot, extended
from tdx.ccel import parse_ccel
from tdx.eventlog import Event, parse_event_log
from tdx.quote import parse_quote
from tests.bundles import BOOT, END_OF_LOG, Guest, other_boot


def events(data: bytes) -> tuple[Event, ...]:
    return parse_event_log(data).events


GOOD_LOG = events(boot(BOOT).encode() + END_OF_LOG)


def by_name(**given: object) -> dict[str, str]:
    result = boot_reference(**given)  # type: ignore[arg-type]
    return {item.name: item.value for item in result.values}


def test_quote_and_log_of_a_good_boot() -> None:
    guest = Guest()
    result = boot_reference(quote=parse_quote(guest.quote()), log=GOOD_LOG)
    values = result.reference_values()
    assert {n: list(v) for n, v in values.values.items() if n != "xfam"} == guest.references()
    assert [name for name, _ in result.absent] == ["rtmr_3", "mr_config_id"]
    assert parse_reference_values(values.message()) == values


def test_a_log_of_another_boot_is_refused() -> None:
    quote = parse_quote(Guest(td=other_boot(kernel=b"other")).quote())
    with pytest.raises(BootMeasurementError, match="rtmr_1"):
        boot_reference(quote=quote, log=GOOD_LOG)


def test_the_next_boot_from_a_template() -> None:
    line = "console=hvc0 quiet"
    result = boot_reference(log=GOOD_LOG, files=BootFiles(None, b"new initrd", line))
    after = boot(BootInputs(initrd=b"new initrd", command_line=line)).replay()
    values = {item.name: item.value for item in result.values}
    assert [values[f"rtmr_{i}"] for i in range(3)] == [value.hex() for value in after[:3]]
    assert len(result.replaced) == 2
    assert "RTMR2: kernel command line" in result.replaced[0]
    unchanged = boot_reference(log=GOOD_LOG, files=BootFiles(None, BOOT.initrd, BOOT.command_line))
    assert unchanged.replaced == ()


def test_without_a_log_only_rtmr2_follows() -> None:
    files = BootFiles(None, BOOT.initrd, BOOT.command_line)
    result = boot_reference(files=files, mr_td=bytes(48))
    assert {item.name: item.value for item in result.values} == {
        "mr_td": "00" * 48,
        "rtmr_2": boot(BOOT).replay()[2].hex(),
    }
    assert {"rtmr_0", "rtmr_1", "xfam"} <= {name for name, _ in result.absent}
    assert by_name(files=BootFiles(None, None, "x")) == {}


def test_the_recorded_boot_of_ovmf(shared_vectors: Path) -> None:
    log = parse_ccel((shared_vectors / "tdx/ccel/ovmf.bin").read_bytes()).events
    expected = json.loads((shared_vectors / "tdx/expected.json").read_text())
    replayed = expected["event_logs"]["ccel/ovmf.bin"]["sha384_replay_all_events"]
    assert by_name(log=log) == {f"rtmr_{i}": replayed[str(i + 1)] for i in range(3)}
    further = boot_reference(log=log).further
    assert [item.name for item in further] == ["tdvfkernel", "tdvfkernelparams"]


def test_a_recorded_grub_boot(shared_vectors: Path) -> None:
    log = parse_ccel((shared_vectors / "tdx/ccel/cctrusted_ubuntu_grub.bin").read_bytes()).events
    result = boot_reference(log=log, files=BootFiles(b"kernel", b"initrd"))
    assert ["/boot/vmlinuz" in line or "/boot/initrd" in line for line in result.replaced] == [
        True, True,
    ]  # fmt: skip
    with pytest.raises(BootMeasurementError, match="boot loader measures its configuration"):
        boot_reference(log=log, files=BootFiles(None, None, "quiet"))


def test_a_log_without_a_place_for_a_file(shared_vectors: Path) -> None:
    log = parse_ccel((shared_vectors / "tdx/ccel/tdshim_trimmed.bin").read_bytes()).events
    for files in (BootFiles(b"MZ"), BootFiles(None, b"x"), BootFiles(None, None, "x")):
        with pytest.raises(BootMeasurementError, match="no event"):
            boot_reference(log=log, files=files)


# -- Authenticode --


def pe_image(*, certificate: bytes = b"", tail: bytes = b"", checksum: int = 7) -> bytes:
    """A PE32+ image with two sections in reverse order, put together by hand."""
    head = bytearray(0x200)
    head[0:2] = b"MZ"
    struct.pack_into("<I", head, 60, 0x80)
    head[0x80:0x84] = b"PE\0\0"
    struct.pack_into("<HHIIIHH", head, 0x84, 0x8664, 2, 0, 0, 0, 0xF0, 0x22)
    optional = 0x98
    struct.pack_into("<H", head, optional, 0x20B)
    struct.pack_into("<II", head, optional + 60, 0x200, checksum)
    sections = optional + 0xF0
    for index, (size, start) in enumerate(((0x100, 0x300), (0x100, 0x200))):
        struct.pack_into("<II", head, sections + 40 * index + 16, size, start)
    body = b"A" * 0x100 + b"B" * 0x100 + tail
    if certificate:
        struct.pack_into("<II", head, optional + 112 + 32, 0x200 + len(body), len(certificate))
    return bytes(head) + body + certificate


def test_authenticode_leaves_out_what_a_signature_changes() -> None:
    plain = pe_image()
    optional = 0x98
    kept = plain[: optional + 64] + plain[optional + 68 : optional + 144] + plain[optional + 152 :]
    assert authenticode_sha384(plain) == hashlib.sha384(kept).digest()
    assert authenticode_sha384(pe_image(checksum=99)) == authenticode_sha384(plain)
    assert authenticode_sha384(pe_image(certificate=b"C" * 64)) == authenticode_sha384(plain)
    assert authenticode_sha384(pe_image(tail=b"more")) != authenticode_sha384(plain)


@pytest.mark.parametrize("cut", [0, 1, 63, 0x82, 0x90, 0xA0, 0x1A0, 0x250])
def test_what_is_no_pe_image(cut: int) -> None:
    with pytest.raises(BootMeasurementError):
        authenticode_sha384(pe_image()[:cut])


def test_a_kernel_that_firmware_starts_changes_rtmr1() -> None:
    kernel = pe_image()
    result = boot_reference(log=GOOD_LOG, files=BootFiles(kernel))
    digests = [event.digest() for event in GOOD_LOG if event.register == 2]
    digests[2] = authenticode_sha384(kernel)
    register = bytes(48)
    for digest in digests:
        assert digest is not None
        register = extended(register, digest)
    values = {item.name: item.value for item in (*result.values, *result.further)}
    assert values["rtmr_1"] == register.hex()
    assert values["tdvfkernel"] == authenticode_sha384(kernel).hex()
