"""dcap-qvl and this package see the same in the same bytes, versions 4 and 5."""

from __future__ import annotations

from pathlib import Path

import dcap_qvl
import pytest

from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4, build_quote_v5
from mocktee.td import TdState
from tdx.errors import QuoteFormatError
from tdx.pck import load_chain, pck_extension
from tdx.quote import parse_quote

PKI = MockPki.create()
DATA = bytes(range(64))
# Our names where theirs differ.
NAMES = {"mrsigner_seam": "mr_signer_seam", "mr_servicetd": "mr_service_td",
         **{f"rtmr{index}": f"rt_mr{index}" for index in range(4)}}  # fmt: skip
BODY = ("tee_tcb_svn", "mr_seam", "mrsigner_seam", "seam_attributes", "td_attributes", "xfam",
        "mr_td", "mr_config_id", "mr_owner", "mr_owner_config", "rtmr0", "rtmr1", "rtmr2", "rtmr3",
        "report_data")  # fmt: skip
BODY_15 = ("tee_tcb_svn2", "mr_servicetd")


def agrees(data: bytes) -> None:
    ours, theirs = parse_quote(data), dcap_qvl.parse_quote(data)
    for name in ("version", "attestation_key_type", "tee_type", "qe_vendor_id", "user_data"):
        assert getattr(ours.header, name) == getattr(theirs.header, name), name
    for name in BODY if ours.body_type == 2 else BODY + BODY_15:
        assert getattr(ours.body, name) == getattr(theirs.report, NAMES.get(name, name)), name
    chain = theirs.cert_chain_pem_bytes()
    assert ours.section.pem_chain == chain.removesuffix(b"\0")
    assert ours.section.pem_chain is not None
    pck, other = pck_extension(load_chain(ours.section.pem_chain)[0]), theirs.pck_extension()
    for name in ("ppid", "cpu_svn", "pce_svn", "pce_id", "fmspc", "sgx_type",
                 "platform_instance_id"):  # fmt: skip
        assert getattr(pck, name) == getattr(other, name), name


@pytest.mark.parametrize("folder", ["quotes", "synthetic"])
def test_every_field_of_recorded_quotes_agrees(shared_vectors: Path, folder: str) -> None:
    paths = sorted((shared_vectors / "tdx" / folder).glob("*.bin"))
    assert len(paths) >= 6
    for path in paths:
        data = path.read_bytes()
        if path.name.startswith("sgx"):
            with pytest.raises(QuoteFormatError):
                parse_quote(data)
        else:
            agrees(data)


@pytest.mark.parametrize("build", [build_quote_v4, build_quote_v5])
def test_mock_quotes_agree(build: object) -> None:
    td = TdState.booted(mrconfigid=b"\7" * 48)
    td.extend(3, b"\3" * 48)
    assert callable(build)
    agrees(build(PKI, DATA, td))
