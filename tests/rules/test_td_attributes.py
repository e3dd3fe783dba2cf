"""TD attributes and XFAM by name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tdx.attributes import TD_ATTRIBUTE_BITS, TdAttributes, set_bits, xfam_features
from tdx.description import described_attributes


@pytest.mark.parametrize(
    ("stored", "names", "unnamed"),
    [
        ("0000000000000000", set(), ()),
        ("0100001000000000", {"debug", "sept_ve_disable"}, ()),
        ("0000001000000000", {"sept_ve_disable"}, ()),
        ("0000004000000000", {"pks"}, ()),
        ("0000000000000080", {"perfmon"}, ()),
        ("0000060800000000", {"servtd_ext", "lass"}, (18,)),
        ("ff00000000000000", {"debug", "hgs_plus_prof", "perf_prof", "pmt_prof"}, (1, 2, 3, 7)),
    ],
)
def test_bits_have_names(stored: str, names: set[str], unnamed: tuple[int, ...]) -> None:
    attributes = TdAttributes.of(bytes.fromhex(stored))
    assert {name for name, is_set in attributes.named().items() if is_set} == names
    assert attributes.unnamed == unnamed
    assert attributes.debug == ("debug" in names)
    assert all(attributes.has(name) for name in names)
    described = described_attributes(bytes.fromhex(stored))
    assert described["value"] == stored
    assert described["bits"] == attributes.named()


@given(st.integers(0, 2**64 - 1))
def test_every_set_bit_is_said_once(value: int) -> None:
    attributes = TdAttributes.of(value.to_bytes(8, "little"))
    by_name = {name: bit for bit, name in TD_ATTRIBUTE_BITS.items()}
    named = {by_name[name] for name, is_set in attributes.named().items() if is_set}
    assert named | set(attributes.unnamed) == set(set_bits(value))
    assert not named & set(attributes.unnamed)


def test_xfam_features() -> None:
    assert xfam_features(bytes.fromhex("e702060000000000"))[:3] == ("x87", "sse", "avx")
    assert "amx_tiledata" in xfam_features(bytes.fromhex("e702060000000000"))
    assert xfam_features(bytes.fromhex("0800000000000000")) == ("bit 3",)
