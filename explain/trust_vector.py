"""Numbers of a trust vector in words. Source: draft-ietf-rats-ar4si section 2.3."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Tier(StrEnum):
    """What a number means for trust, whatever it is about."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


_ANY: Final = {
    -1: "the verifier malfunctioned",
    0: "no claim is made",
    1: "evidence holds elements the verifier cannot read",
    99: "cryptographic validation failed",
}
_WORDS: Final = {
    "instance-identity": {
        2: "instance recognised, not known to be compromised",
        96: "instance recognised, its key marks it as not trustworthy",
        97: "instance not recognised",
    },
    "configuration": {
        2: "known and approved configuration",
        3: "no known vulnerabilities in the configuration",
        32: "configuration with known vulnerabilities",
        36: "elements of the configuration are not available to the verifier",
        96: "configuration exposes unacceptable vulnerabilities",
    },
    "executables": {
        2: "only approved executables, during and after boot",
        3: "only approved executables during boot",
        4: "only recognised executables during boot",
        32: "recognised executables, some with known vulnerabilities",
        33: "executables that are not recognised",
        96: "executables that must not run",
    },
    "file-system": {
        2: "only approved files",
        32: "files that are not recognised",
        96: "files that must not be there",
    },
    "hardware": {
        2: "genuine hardware and firmware",
        32: "genuine, with known vulnerabilities",
        96: "recognised, and not to be trusted",
        97: "hardware or firmware not recognised",
    },
    "runtime-opaque": {
        2: "memory is encrypted",
        32: "memory is isolated, not encrypted",
        96: "memory is visible to the host",
    },
    "storage-opaque": {
        2: "stored secrets are encrypted with hardware keys",
        32: "stored secrets are encrypted without hardware keys",
        96: "stored secrets are not encrypted",
    },
    "sourced-data": {
        2: "data comes from attesters that are affirmed",
        32: "data comes from sources that are not attested",
        96: "data comes from sources not to be trusted",
    },
}


def tier(value: int) -> Tier:
    """Return the tier of a number between -128 and 127; out of range is contraindicated."""
    if -1 <= value <= 1:
        return Tier.NONE
    if -32 <= value <= 31:
        return Tier.AFFIRMING
    return Tier.WARNING if -96 <= value <= 95 else Tier.CONTRAINDICATED


def words(claim: str, value: int) -> str:
    """Return what a number of a claim says, or its tier if the draft names no such number."""
    known = _WORDS.get(claim, {}).get(value) or _ANY.get(value)
    return known or f"a value of the tier {tier(value)} without a name"
