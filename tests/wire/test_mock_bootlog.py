"""The mock's boot log, read back by a reader written here and nowhere else."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from mocktee.bootlog import BootInputs, boot, ccel_table, extended, spec_id_record
from mocktee.td import TdState

ZEROS = bytes(48)
Record = tuple[int, int, bytes, bytes]


def read_log(area: bytes) -> list[Record]:
    """Register, type, SHA-384 digest and data of every record up to the end flag."""
    register, kind, digest, size = struct.unpack_from("<II20sI", area)
    assert (register, kind, digest) == (1, 3, bytes(20))
    position = 32 + size
    records = []
    while area[position : position + 8] != b"\xff" * 8:
        register, kind, count, algorithm = struct.unpack_from("<IIIH", area, position)
        assert (count, algorithm) == (1, 0x0C)
        digest = area[position + 14 : position + 62]
        (size,) = struct.unpack_from("<I", area, position + 62)
        records.append((register, kind, digest, area[position + 66 : position + 66 + size]))
        position += 66 + size
    assert set(area[position:]) == {0xFF}
    return records


def replay(records: list[Record]) -> list[bytes]:
    registers = [ZEROS] * 4
    for register, _, digest, _ in records:
        registers[register - 1] = hashlib.sha384(registers[register - 1] + digest).digest()
    return registers


def test_replay_gives_the_registers_of_the_domain() -> None:
    td = TdState.booted()
    assert replay(read_log(td.boot_log.data_file())) == td.rtmrs
    assert td.rtmrs[3] == ZEROS
    assert ZEROS not in td.rtmrs[:3]


@pytest.mark.parametrize(
    ("inputs", "changed"),
    [
        pytest.param(BootInputs(firmware=b"other"), 0, id="firmware"),
        pytest.param(BootInputs(acpi=(b"other",)), 0, id="acpi"),
        pytest.param(BootInputs(kernel=b"other"), 1, id="kernel"),
        pytest.param(BootInputs(command_line="other"), 2, id="command-line"),
        pytest.param(BootInputs(initrd=b"other"), 2, id="initrd"),
    ],
)
def test_each_input_is_measured_into_its_register(inputs: BootInputs, changed: int) -> None:
    before, after = boot().replay(), boot(inputs).replay()
    assert [index for index in range(4) if before[index] != after[index]] == [changed]


def test_digest_covers_the_data_exactly_where_firmware_says_so() -> None:
    covered = {0x04, 0x80000001, 0x80000007}
    for _, kind, digest, data in read_log(boot().data_file()):
        assert (hashlib.sha384(data).digest() == digest) == (kind in covered), hex(kind)


def test_kernel_is_named_as_for_a_direct_boot() -> None:
    (application,) = [record for record in read_log(boot().data_file()) if record[1] == 0x80000003]
    assert "kernel\0".encode("utf-16-le") in application[3]
    tags = [record[3] for record in read_log(boot().data_file()) if record[1] == 6]
    assert [tag[8:].rstrip(b"\0") for tag in tags] == [
        b"LOADED_IMAGE::LoadOptions",
        b"Linux initrd",
    ]


def test_log_area_and_table_have_their_sizes() -> None:
    table = ccel_table()
    assert len(boot().data_file()) == 64 * 1024
    assert len(table) == 56 and table[:4] == b"CCEL"
    assert sum(table) % 256 == 0
    length, address = struct.unpack_from("<QQ", table, 40)
    assert (length, table[36]) == (64 * 1024, 2)
    assert address


def test_extend_takes_exactly_48_bytes() -> None:
    for size in (0, 47, 49, 64):
        with pytest.raises(ValueError):
            extended(ZEROS, bytes(size))


def test_framing_agrees_with_a_recorded_ovmf_log(shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx" / "ccel"
    recorded = (folder / "ovmf.bin").read_bytes()
    assert recorded.startswith(spec_id_record())
    kinds = {(register, kind) for register, kind, _, _ in read_log(recorded)}
    missing = {(r, k) for r, k, _, _ in read_log(boot().data_file())} - kinds
    assert missing == {(2, 4)}  # the second separator: register 1 there, register 2 in other logs
    table = (folder / "table_ovmf.bin").read_bytes()
    assert table[:9] == ccel_table()[:9] and table[10:24] == ccel_table()[10:24]
