"""Initdata: digest and register, the block device it comes on, and what is refused."""

from __future__ import annotations

import base64
import errno
import gzip
import hashlib
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from agent.initdata import configured_initdata, read_initdata, require_bound
from agent.initdata_device import MAX_DEVICES, read_initdata_device
from tdx.errors import (
    InitdataError,
    InitdataMismatchError,
    InitdataMissingError,
    InitdataUnboundError,
    MeasurementError,
)
from tdx.initdata import (
    MAX_DOCUMENT_BYTES,
    MAX_PACKED_BYTES,
    Initdata,
    packed_length,
    unpack,
)
from tdx.measurements import MeasurementRegisters
from tests.ports.fake_registers import FakeRegisters


def document(algorithm: str) -> bytes:
    return f'version = "0.1.0"\r\nalgorithm = "{algorithm}"\n[data]\n"aa.toml" = "x"\n'.encode()


def image(text: bytes, *, length: int | None = None, behind: bytes = b"") -> bytes:
    """A block image as Kata writes it, padded to sectors."""
    packed = gzip.compress(text, mtime=0) + behind
    size = len(packed) if length is None else length
    content = b"initdata" + size.to_bytes(8, "little") + packed
    return content + bytes(-len(content) % 512)


def sm3(data: bytes) -> bytes:
    digest = hashes.Hash(hashes.SM3())
    digest.update(data)
    return digest.finalize()


DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha384": lambda data: hashlib.sha384(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
    "sm3": sm3,
}


@pytest.mark.parametrize("algorithm", DIGESTS)
def test_hashed_as_delivered_and_fitted_to_48_bytes(tmp_path: Path, algorithm: str) -> None:
    (tmp_path / "initdata.toml").write_bytes(document(algorithm))
    initdata = read_initdata(tmp_path / "initdata.toml")
    plain = DIGESTS[algorithm](document(algorithm))
    assert initdata == Initdata(algorithm, plain, document(algorithm))
    fitted = plain[:48] + bytes(max(0, 48 - len(plain)))
    assert initdata.as_register() == fitted
    assert Initdata.of_base64(base64.b64encode(plain).decode()).as_register() == fitted
    require_bound(initdata, FakeRegisters(fixed={"mrconfigid": fitted}))


def test_recorded_document(shared_vectors: Path) -> None:
    text = (shared_vectors / "kbs/evidence/initdata-simple.toml").read_bytes()
    initdata = Initdata.of_document(text)
    assert initdata.digest == hashlib.new(initdata.algorithm, text).digest()


def test_sm3_is_refused_by_name_where_openssl_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(_algorithm: object) -> None:
        raise UnsupportedAlgorithm("sm3")

    monkeypatch.setattr(hashes, "Hash", absent)
    with pytest.raises(InitdataError, match="sm3") as caught:
        Initdata.of_document(document("sm3"))
    assert "sha384" in caught.value.hint


@pytest.mark.parametrize(
    ("algorithm", "words"),
    [
        ("sha256", "sha256 digest of 32 bytes, as 48 bytes,"),
        ("sha384", "sha384 digest is"),
        ("sha512", "sha512 digest of 64 bytes, as 48 bytes,"),
    ],
)
def test_mismatch_shows_both_values_and_what_was_fitted(algorithm: str, words: str) -> None:
    initdata = Initdata.of_document(document(algorithm))
    got = b"\x11" * 48
    with pytest.raises(InitdataMismatchError) as caught:
        require_bound(initdata, FakeRegisters(fixed={"mrconfigid": got}))
    assert not isinstance(caught.value, InitdataUnboundError)
    assert words in str(caught.value)
    assert initdata.as_register().hex() in str(caught.value)
    assert got.hex() in str(caught.value)


def test_zero_register_means_not_bound() -> None:
    initdata = Initdata.of_document(document("sha256"))
    with pytest.raises(InitdataUnboundError, match="no initdata was bound") as caught:
        require_bound(initdata, FakeRegisters(fixed={"mrconfigid": bytes(48)}))
    assert caught.value.expected == initdata.as_register()
    assert caught.value.got == bytes(48)


def test_a_bound_document_cannot_be_withheld() -> None:
    require_bound(None, FakeRegisters(fixed={"mrconfigid": bytes(48)}))
    with pytest.raises(InitdataMissingError, match="11" * 48):
        require_bound(None, FakeRegisters(fixed={"mrconfigid": b"\x11" * 48}))


def test_a_register_that_cannot_be_read_is_no_pass(tmp_path: Path) -> None:
    initdata = Initdata.of_document(document("sha256"))
    with pytest.raises(InitdataError, match="cannot be checked"):
        require_bound(initdata, MeasurementRegisters(tmp_path))
    (tmp_path / "mrconfigid").mkdir()
    with pytest.raises(MeasurementError, match="EISDIR"):
        require_bound(initdata, MeasurementRegisters(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff",
        b"algorithm = 'sha256'",
        b"version = '0.2.0'\nalgorithm = 'sha256'",
        b"version = '0.1.0'\nalgorithm = 'sha-256'",
        b"version = '0.1.0'\nalgorithm = 'md5'",
        b"version = '0.1.0'\nalgorithm = 'sha256'\n[data]\nx = 1",
        b"x = " + b"[" * 5000,
        b"#" * (MAX_DOCUMENT_BYTES + 1),
    ],
    ids=["empty", "no text", "no version", "version", "dashed", "md5", "number", "deep", "large"],
)
def test_documents_that_are_none(text: bytes) -> None:
    with pytest.raises(InitdataError):
        Initdata.of_document(text)


@pytest.mark.parametrize("text", ["", "!", "AAAA", base64.b64encode(bytes(33)).decode()])
def test_digests_that_are_none(text: str) -> None:
    with pytest.raises(InitdataError):
        Initdata.of_base64(text)


def test_files_that_cannot_be_read_or_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(InitdataError, match="No such file"):
        read_initdata(tmp_path / "absent")
    (tmp_path / "large").write_bytes(bytes(MAX_DOCUMENT_BYTES + 1))
    with pytest.raises(InitdataError, match="larger than"):
        configured_initdata(str(tmp_path / "large"))


# The block device.


def test_the_first_disk_with_the_magic_is_taken(tmp_path: Path) -> None:
    (tmp_path / "vda").write_bytes(bytes(4096))
    (tmp_path / "vdb").write_bytes(image(document("sha384")))
    (tmp_path / "sda").write_bytes(b"short")
    (tmp_path / "nvme0n1").write_bytes(image(b"not looked at"))
    os.mkfifo(tmp_path / "vdc")
    initdata = configured_initdata("device", tmp_path)
    assert initdata == Initdata.of_document(document("sha384"))


def test_no_disk_has_it(tmp_path: Path) -> None:
    assert read_initdata_device(tmp_path) is None
    (tmp_path / "vda").write_bytes(b"initdatX" * 64)
    assert configured_initdata("device", tmp_path) is None


def test_two_disks_must_agree(tmp_path: Path) -> None:
    (tmp_path / "vda").write_bytes(image(document("sha384")))
    (tmp_path / "vdb").write_bytes(image(document("sha384"), length=None))
    assert read_initdata_device(tmp_path) == document("sha384")
    (tmp_path / "sda").write_bytes(image(document("sha256")))
    with pytest.raises(InitdataError, match=r"sda and .*vda hold different documents"):
        read_initdata_device(tmp_path)


BAD_IMAGES = {
    "no length": b"initdata\0\0",
    "length zero": image(b"x", length=0),
    "length of everything": image(b"x", length=2**64 - 1),
    "length beyond the limit": image(b"x", length=MAX_PACKED_BYTES + 1),
    "length beyond the device": image(b"x", length=4096),
    "length too short": image(document("sha256"), length=20),
    "not gzip": b"initdata" + (4).to_bytes(8, "little") + b"text" * 200,
    "zlib instead of gzip": b"initdata" + (9).to_bytes(8, "little") + zlib.compress(b"x"),
    "second member": image(b"x", behind=gzip.compress(b"y")),
    "bytes behind": image(b"x", behind=b"\0"),
    "bomb": image(bytes(64 * MAX_DOCUMENT_BYTES)),
}


@pytest.mark.parametrize("content", BAD_IMAGES.values(), ids=BAD_IMAGES.keys())
def test_a_bad_image_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vda").write_bytes(content)
    with pytest.raises(InitdataError):
        read_initdata_device(tmp_path)


def test_the_largest_document_fits_also_when_it_does_not_compress(tmp_path: Path) -> None:
    text = random.Random(7).randbytes(MAX_DOCUMENT_BYTES)
    (tmp_path / "vda").write_bytes(image(text))
    assert read_initdata_device(tmp_path) == text


@pytest.mark.parametrize(("operation", "code"), [("open", errno.EIO), ("read", errno.EIO)])
def test_a_disk_that_cannot_be_read_is_not_a_disk_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, code: int
) -> None:
    (tmp_path / "vda").write_bytes(bytes(4096))
    (tmp_path / "vdb").write_bytes(image(document("sha384")))

    def failing(*_arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, operation, failing)
    with pytest.raises(InitdataError, match="vda cannot be read: EIO") as caught:
        read_initdata_device(tmp_path)
    monkeypatch.undo()
    assert "unknown" in caught.value.hint


def test_a_directory_that_cannot_be_searched_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InitdataError, match="ENOENT"):
        read_initdata_device(tmp_path / "absent")
    (tmp_path / "vda").symlink_to("nowhere")
    with pytest.raises(InitdataError, match="ENOENT"):
        read_initdata_device(tmp_path)


def test_the_search_is_bounded(tmp_path: Path) -> None:
    for number in range(MAX_DEVICES + 1):
        (tmp_path / f"vd{number:04}").touch()
    with pytest.raises(InitdataError, match=f"at most {MAX_DEVICES}"):
        read_initdata_device(tmp_path)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_raise_only_our_error(data: bytes) -> None:
    for read in (unpack, Initdata.of_document, lambda b: packed_length(b"initdata" + b)):
        try:
            read(data)
        except InitdataError:
            continue


@given(st.binary(max_size=2000))
def test_what_is_packed_comes_out_again(text: bytes) -> None:
    packed = gzip.compress(text)
    assert unpack(packed) == text
    for cut in range(0, len(packed), 7):
        with pytest.raises(InitdataError):
            unpack(packed[:cut])
