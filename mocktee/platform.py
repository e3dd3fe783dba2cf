"""The machine that the mock quotes come from: identity and security versions.

Values are consistent with each other and with nothing real. Owns the SGX extension of the PCK
leaf (Intel "SGX PCK Certificate and CRL Profile Specification", OID 1.2.840.113741.1.13.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mocktee.der import boolean, enumerated, integer, object_identifier, octet_string, sequence

SGX_EXTENSION_OID: Final = "1.2.840.113741.1.13.1"
SVN_COMPONENTS: Final = 16


@dataclass(frozen=True, slots=True)
class Platform:
    """One machine. Byte strings are in stored order; sizes are those of the SGX extension."""

    fmspc: bytes = bytes.fromhex("b0c06f000000")
    pce_id: bytes = bytes(2)
    ppid: bytes = b"mock tee ppid 01"
    instance_id: bytes = b"mock tee machine"
    components: bytes = bytes.fromhex("02020202030100050000000000000000")
    pce_svn: int = 13
    tee_tcb_svn: bytes = bytes.fromhex("05010200000000000000000000000000")
    sgx_type: int = 1  # scalable
    dynamic_platform: bool = False
    cached_keys: bool = False
    smt_enabled: bool = False

    def sgx_extension(self) -> bytes:
        """DER value of the extension, members in the order real leaves have."""
        return sequence(
            _pair("1", octet_string(self.ppid)),
            _pair("2", self._tcb()),
            _pair("3", octet_string(self.pce_id)),
            _pair("4", octet_string(self.fmspc)),
            _pair("5", enumerated(self.sgx_type)),
            _pair("6", octet_string(self.instance_id)),
            _pair("7", self._configuration()),
        )

    def _tcb(self) -> bytes:
        levels = [
            _pair(f"2.{number}", integer(svn)) for number, svn in enumerate(self.components, 1)
        ]
        return sequence(
            *levels,
            _pair("2.17", integer(self.pce_svn)),
            _pair("2.18", octet_string(self.components)),  # CPUSVN: byte i is component i
        )

    def _configuration(self) -> bytes:
        return sequence(
            _pair("7.1", boolean(self.dynamic_platform)),
            _pair("7.2", boolean(self.cached_keys)),
            _pair("7.3", boolean(self.smt_enabled)),
        )


def _pair(suffix: str, value: bytes) -> bytes:
    return sequence(object_identifier(f"{SGX_EXTENSION_OID}.{suffix}"), value)
