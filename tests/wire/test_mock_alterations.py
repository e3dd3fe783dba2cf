"""Spoiled quotes and boot logs of the mock: refused from outside, and for the reason intended."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import dcap_qvl
import pytest

from mocktee.bootlog import LOG_AREA_BYTES
from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4, build_quote_v5
from mocktee.td import TdState
from mocktee.tsm.alterations import (
    CHAINS,
    LENGTHS,
    PARTS,
    QuoteMap,
    flipped,
    lying,
    other_version,
    swapped_report_data,
    with_chain,
)
from mocktee.tsm.ccel_forms import FORMS, MAX_AREA
from tdx.errors import EventLogError, QuoteFormatError
from tdx.eventlog import parse_event_log
from tdx.quote import parse_quote
from tdx.replay import replay

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKI = MockPki.create(now=NOW)
DATA = bytes(range(64))
BUILDERS = {"v4": build_quote_v4, "v5": build_quote_v5}
TD = TdState.booted()
QUOTES = {name: build(PKI, DATA, TD) for name, build in BUILDERS.items()}


@pytest.fixture(params=BUILDERS)
def version(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def verify(quote: bytes) -> None:
    documents = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(PKI.collateral()))
    dcap_qvl.verify_with_root_ca(quote, documents, PKI.root_ca_der, int(NOW.timestamp()))


def test_the_map_leads_to_the_end(version: str) -> None:
    quote = QUOTES[version]
    verify(quote)
    places = QuoteMap(quote)
    assert quote[places.chain :].startswith(b"-----BEGIN CERTIFICATE-----")
    ends = {"auth": places.inner_size - 2, "body": places.section_length}
    for name, (offset, size) in places.length_fields().items():
        value = int.from_bytes(quote[offset : offset + size], "little")
        assert offset + size + value == ends.get(name, len(quote)), name


@pytest.mark.parametrize("part", PARTS)
def test_a_flipped_bit_breaks_a_signature_and_nothing_else(version: str, part: str) -> None:
    spoiled = flipped(QUOTES[version], part)
    assert len(parse_quote(spoiled).raw) == len(QUOTES[version])
    with pytest.raises(ValueError):
        verify(spoiled)


@pytest.mark.parametrize("delta", [-1, 1, 1 << 20, -(1 << 31)])
@pytest.mark.parametrize("field", LENGTHS)
def test_a_lying_length_is_refused_by_parsers(version: str, field: str, delta: int) -> None:
    if field == "auth" and delta in {1 << 20, -(1 << 31)}:
        delta = 1 << 15  # two bytes: the others are multiples of their range
    spoiled = lying(QUOTES[version], field, delta)
    assert len(spoiled) == len(QUOTES[version])
    with pytest.raises(QuoteFormatError):
        parse_quote(spoiled)
    if (field, delta) != ("inner", -1):  # dcap-qvl takes it: what is missed is the final NUL
        with pytest.raises(ValueError):
            verify(spoiled)


@pytest.mark.parametrize("number", [0, 3, 6, 65535])
def test_other_versions_are_unknown(version: str, number: int) -> None:
    with pytest.raises(QuoteFormatError, match="version"):
        parse_quote(other_version(QUOTES[version], number))


def test_swapped_report_data_parses_and_is_no_answer(version: str) -> None:
    spoiled = swapped_report_data(QUOTES[version])
    assert parse_quote(spoiled).body.report_data == DATA[::-1]
    with pytest.raises(ValueError):
        verify(spoiled)


@pytest.mark.parametrize("form", CHAINS)
def test_lengths_fit_a_spoiled_chain(version: str, form: str) -> None:
    spoiled = with_chain(QUOTES[version], CHAINS[form])
    places = QuoteMap(spoiled)
    (offset, size) = places.length_fields()["section"]
    assert places.section + int.from_bytes(spoiled[offset : offset + size], "little") == len(
        spoiled
    )
    with pytest.raises(ValueError):
        verify(spoiled)


SOUND = {"whole", "zero_mark", "no_mark", "large_area"}
OTHER = {"unknown_type", "duplicated_separator", "reordered"}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_the_boot_log(form: str) -> None:
    data = FORMS[form](TD.boot_log)
    if form == "absent":
        assert data is None
        return
    assert data is not None
    if form not in SOUND | OTHER:
        with pytest.raises(EventLogError):
            parse_event_log(data)
        return
    state = replay(parse_event_log(data).events)
    agrees = [state.value(register) for register in (1, 2, 3)] == TD.rtmrs[:3]
    # An event of unknown type replays; whether it is known is a verifier's question.
    assert agrees == (form in SOUND | {"unknown_type"})
    assert len(data) <= MAX_AREA
    assert form != "whole" or len(data) == LOG_AREA_BYTES
