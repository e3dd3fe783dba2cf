"""github.com/google/go-tdx-guest and this package see the same in the same bytes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mocktee.pki import MockPki
from mocktee.quotes import build_quote_v4, build_quote_v5
from mocktee.td import DEBUG, SEPT_VE_DISABLE, TdState
from tdx.certification import CertificateChain
from tdx.pck import load_chain, pck_extension
from tdx.quote import Quote, parse_quote
from tdx.quote_layout import BODY_10
from tdx.verify import CheckName, State, Trust, parse_collateral, verify_quote
from tests.interop.go_program import SOURCE, Answer, Job, ask, build
from tests.interop.toolchains import check_go_source, compiler

pytestmark = pytest.mark.timeout(600)
NOW = datetime(2026, 6, 1, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
PKI = MockPki.create(now=NOW)
OTHER = MockPki.create(now=NOW)
DATA = bytes(range(64))
PHALA_SECONDS = 1750346163  # inside the window of the recorded collateral
# Release 0.3.1 compares the FMSPC as text, and these documents have it in upper case. It comes to
# that comparison after all signatures, certificates, revocation lists and times.
UPPER_CASE_FMSPC = "FMSPC from PCK Certificate("


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(compiler("go", "golang-go"), tmp_path_factory.mktemp("go"))


def seen(data: bytes, quote: Quote) -> tuple[dict[str, str], dict[str, int]]:
    """What the Go program would answer if it were ours."""
    qe, chain = quote.section.qe, quote.section.pem_chain
    assert qe is not None and chain is not None
    assert isinstance(qe.nested, CertificateChain)
    report, pck = qe.report, pck_extension(load_chain(chain)[0])
    body = {
        "td_report_data" if name == "report_data" else name: getattr(quote.body, name).hex()
        for name, _, _ in BODY_10.offsets()
    }
    text = body | {
        "reserved": quote.header.reserved.hex(),
        "qe_vendor_id": quote.header.qe_vendor_id.hex(),
        "user_data": quote.header.user_data.hex(),
        "signature": quote.section.signature.hex(),
        "attestation_key": quote.section.attestation_key.hex(),
        "qe_cpu_svn": report.cpu_svn.hex(),
        "qe_attributes": report.attributes.hex(),
        "qe_mr_enclave": report.mr_enclave.hex(),
        "qe_mr_signer": report.mr_signer.hex(),
        "qe_report_data": report.report_data.hex(),
        "qe_report_signature": qe.signature.hex(),
        "qe_auth_data": qe.auth_data.hex(),
        "pem_chain": chain.hex(),
        "pck_ppid": pck.ppid.hex(),
        "pck_pce_id": pck.pce_id.hex(),
        "pck_fmspc": pck.fmspc.hex(),
        "pck_cpu_svn": pck.cpu_svn.hex(),
        "pck_components": bytes(pck.components).hex(),
    }
    numbers = {
        "version": quote.header.version,
        "attestation_key_type": quote.header.attestation_key_type,
        "tee_type": quote.header.tee_type,
        "signed_data_size": len(quote.raw) - len(quote.signed_message) - 4,
        "trailing_bytes": len(data) - len(quote.raw),
        "certification_type": qe.kind,
        "qe_misc_select": int.from_bytes(report.misc_select, "little"),
        "qe_isv_prod_id": report.isv_prod_id,
        "qe_isv_svn": report.isv_svn,
        "nested_type": qe.nested.kind,
        "pck_pce_svn": pck.pce_svn,
    }
    return text, numbers


def agrees(data: bytes, answer: Answer) -> None:
    assert not answer.parse_error
    text, numbers = seen(data, parse_quote(data))
    # The Go library leaves the final NUL in the chain.
    theirs = {**answer.text, "pem_chain": answer.text["pem_chain"].removesuffix("00")}
    assert theirs == text
    assert dict(answer.numbers) == numbers


def ours_accepts(job: Job) -> bool:
    """Whether the signatures lead to the root and, with collateral, all of it verifies."""
    quote = parse_quote(job.quote)
    collateral = parse_collateral(json.dumps(job.collateral or PKI.collateral()).encode())
    now = datetime.fromtimestamp(job.now, UTC)
    verdict = verify_quote(quote, Trust(job.root_der, collateral), now=now)
    names = [CheckName.QUOTE_SIGNATURE, CheckName.QE_BINDING, CheckName.QE_SIGNATURE,
             CheckName.PCK_CHAIN]  # fmt: skip
    if job.collateral is not None:
        names += [CheckName.COLLATERAL_PLATFORM, CheckName.COLLATERAL_TIME, CheckName.DCAP,
                  CheckName.TCB_LEVEL]  # fmt: skip
    return all(verdict.check(name).state is State.PASSED for name in names)


def recorded(vectors: Path, folder: str) -> dict[str, bytes]:
    paths = sorted((vectors / "tdx" / folder).glob("*.bin"))
    return {path.name: path.read_bytes() for path in paths if "quote" in str(path)}


def test_every_field_of_the_recorded_quotes_agrees(program: Path, shared_vectors: Path) -> None:
    root = (shared_vectors / "tdx" / "collateral" / "intel_sgx_root_ca.der").read_bytes()
    files = recorded(shared_vectors, "quotes")
    answers = ask(program, [Job(data, root, SECONDS) for data in files.values()])
    versions = {name: int.from_bytes(data[:2], "little") for name, data in files.items()}
    assert sum(version == 4 for version in versions.values()) == 12
    for (name, data), answer in zip(files.items(), answers, strict=True):
        if versions[name] != 4:
            # Release 0.3.1 knows version 4 only. A newer one will make this fail: compare then.
            assert answer.parse_error == "quote format not supported", name
            continue
        agrees(data, answer)
        assert (answer.verify_error == "") == ours_accepts(Job(data, root, SECONDS)), name
        assert (answer.verify_error == "") == ("preprod" not in name), answer.verify_error


def test_a_recorded_quote_with_its_collateral(program: Path, shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx"
    collateral = json.loads((folder / "collateral" / "phala_v4_collateral.json").read_text())
    root = (folder / "collateral" / "intel_sgx_root_ca.der").read_bytes()
    data = (folder / "quotes" / "phala_v4.bin").read_bytes()
    jobs = [Job(data, root, at, collateral) for at in (PHALA_SECONDS, PHALA_SECONDS + 90 * 86400)]
    in_force, late = ask(program, jobs)
    assert in_force.verify_error.startswith(UPPER_CASE_FMSPC) and ours_accepts(jobs[0])
    assert "expired" in late.verify_error and not ours_accepts(jobs[1])


def test_synthetic_quotes_agree(program: Path, shared_vectors: Path) -> None:
    folder = shared_vectors / "tdx" / "synthetic"
    collateral = json.loads((folder / "collateral.json").read_text())
    root = (folder / "root_ca.der").read_bytes()
    files = {name: data for name, data in recorded(shared_vectors, "synthetic").items()
             if "_v4" in name}  # fmt: skip
    assert len(files) == 3
    answers = ask(program, [Job(data, root, SECONDS, collateral) for data in files.values()])
    for (name, data), answer in zip(files.items(), answers, strict=True):
        agrees(data, answer)
        assert answer.verify_error.startswith(UPPER_CASE_FMSPC), name
        # dcap-qvl refuses debug TDs and QE authentication data of other than 32 bytes.
        assert ours_accepts(Job(data, root, SECONDS, collateral)) == (name == "quote_v4.bin")


def mock_td(attributes: int = SEPT_VE_DISABLE) -> TdState:
    td = TdState.booted(mrconfigid=b"\7" * 48)
    td.attributes = attributes
    td.mrowner, td.mrownerconfig = b"\1" * 48, b"\2" * 48
    td.extend(3, b"\3" * 48)
    return td


def test_mock_quotes_parse_and_verify_under_the_mock_root(program: Path) -> None:
    good = build_quote_v4(PKI, DATA, mock_td())
    debug = build_quote_v4(PKI, DATA, mock_td(SEPT_VE_DISABLE | DEBUG))
    root, collateral = PKI.root_ca_der, PKI.collateral()
    answers = ask(
        program,
        [
            Job(good, root, SECONDS),
            Job(good, root, SECONDS, collateral),
            Job(debug, root, SECONDS, collateral),
            Job(good + b"trailing", root, SECONDS, collateral),
        ],
    )
    assert [answer.verify_error for answer in answers] == [""] * 4
    for data, answer in zip((good, good, debug, good + b"trailing"), answers, strict=True):
        agrees(data, answer)
    assert ours_accepts(Job(good, root, SECONDS, collateral))


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def test_both_refuse_the_same_changes(program: Path) -> None:
    good = build_quote_v4(PKI, DATA, mock_td())
    root, collateral = PKI.root_ca_der, PKI.collateral()
    respaced = collateral["tcb_info"].replace(":", ": ", 1)  # the signature covers exact bytes
    # header, body, signature, key, QE report, its data, its signature, QE authentication data
    places = (28, 48 + 136, 48 + 520, 636 + 5, 700 + 3, 770 + 64, 770 + 320, 1154 + 9, 1220)
    jobs = [Job(flipped(good, at), root, SECONDS, collateral) for at in places]
    jobs += [
        Job(good, OTHER.root_ca_der, SECONDS, collateral),
        Job(good, root, SECONDS, OTHER.collateral()),
        Job(good, root, SECONDS - 3 * 86400, collateral),
        Job(good, root, SECONDS + 31 * 86400, collateral),
        Job(good, root, SECONDS, collateral | {"tcb_info": respaced}),
    ]
    jobs += [Job(build_quote_v4(pki, DATA, mock_td()), pki.root_ca_der, SECONDS, pki.collateral())
             for pki in (MockPki.create(now=NOW, tcb_status="OutOfDate"),
                         MockPki.create(now=NOW, tcb_status="Revoked"))]  # fmt: skip
    for number, (job, answer) in enumerate(zip(jobs, ask(program, jobs), strict=True)):
        assert not ours_accepts(job), number
        assert answer.parse_error or answer.verify_error, number
        assert not answer.verify_error.startswith(UPPER_CASE_FMSPC)


def test_version_5_has_another_outsider(program: Path) -> None:
    """go-tdx-guest 0.3.1 refuses it by name; tests/interop/test_dcap_qvl.py compares it."""
    data = build_quote_v5(PKI, DATA, mock_td())
    (answer,) = ask(program, [Job(data, PKI.root_ca_der, SECONDS)])
    assert answer.parse_error == "quote format not supported"


def test_the_go_source_is_formatted_and_vetted(program: Path) -> None:
    check_go_source(SOURCE, SOURCE)
