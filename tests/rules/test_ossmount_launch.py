"""The launch document: strict, bounded, and silent about what it holds."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ossmount.endpoint import Endpoint
from ossmount.errors import LaunchError
from ossmount.launch import LaunchSpec, read_document

DOCUMENT: dict[str, object] = {
    "version": 1,
    "mount_point": "/run/mnt",
    "bucket": "examplebucket",
    "prefix": "data/",
    "endpoint": "https://oss-cn-hangzhou.aliyuncs.com",
    "region": "cn-hangzhou",
    "signature": "v4",
    "access_key_id": "LTAIexampleid",
    "access_key_secret": "exampleSecretKey0123456789",
    "security_token": None,
    "read_only": True,
    "allow_other": True,
    "uid": 1000,
    "gid": None,
    "umask": 0o22,
    "mp_umask": None,
    "ca_pem": None,
    "path_style": False,
    "attribute_seconds": 1.0,
    "memory_bytes": 64 << 20,
    "fs_name": "oss:examplebucket",
}


def encoded(**changes: object) -> bytes:
    return json.dumps(DOCUMENT | changes).encode()


def test_a_good_document() -> None:
    spec = LaunchSpec.parse(encoded())
    assert (spec.bucket, spec.ownership.uid, spec.read_only) == ("examplebucket", 1000, True)
    assert spec.credentials.access_key_secret.reveal() == b"exampleSecretKey0123456789"
    assert "exampleSecret" not in repr(spec)


REFUSED: list[tuple[str, bytes]] = [
    ("unknown-member", encoded(extra=1)),
    ("missing-member", json.dumps({"version": 1}).encode()),
    ("other-version", encoded(version=2)),
    ("relative-mount-point", encoded(mount_point="mnt")),
    ("bucket-name", encoded(bucket="Bucket_1")),
    ("prefix-without-slash", encoded(prefix="data")),
    ("prefix-with-dots", encoded(prefix="a/../")),
    ("v4-without-region", encoded(region=None)),
    ("empty-key", encoded(access_key_secret="")),
    ("key-with-newline", encoded(access_key_id="a\nb")),
    ("empty-token", encoded(security_token="")),
    ("umask", encoded(umask=0o1777)),
    ("memory", encoded(memory_bytes=1)),
    ("fs-name-with-comma", encoded(fs_name="a,suid")),
    ("too-long", b" " * 65537),
    ("not-json", b"{"),
    ("not-utf8", b"\xff"),
]


@pytest.mark.parametrize(
    "document", [document for _, document in REFUSED], ids=[name for name, _ in REFUSED]
)
def test_refused_documents(document: bytes) -> None:
    with pytest.raises(LaunchError) as caught:
        LaunchSpec.parse(document)
    assert "exampleSecret" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.binary(max_size=200))
def test_any_bytes_give_our_error_only(document: bytes) -> None:
    with pytest.raises(LaunchError):
        LaunchSpec.parse(document)


def test_the_pipe_is_read_to_its_end_and_closed() -> None:
    read, write = os.pipe()
    with os.fdopen(write, "wb") as pipe:
        pipe.write(b"{}")
    assert read_document(read) == b"{}"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)


def test_a_descriptor_that_is_not_open() -> None:
    read, write = os.pipe()
    os.close(write)
    os.close(read)
    with pytest.raises(LaunchError):
        read_document(read)


@pytest.mark.parametrize(
    ("text", "path_style", "url"),
    [
        ("https://oss.example", False, "https://bkt.oss.example/a%20b/c"),
        ("https://oss.example:8443/", True, "https://oss.example:8443/bkt/a%20b/c"),
        ("http://127.0.0.1:9000", False, "http://127.0.0.1:9000/bkt/a%20b/c"),
        ("https://[::1]:9000", False, "https://[::1]:9000/bkt/a%20b/c"),
    ],
    ids=["virtual-host", "path-style", "ipv4", "ipv6"],
)
def test_addressing(text: str, path_style: bool, url: str) -> None:
    endpoint = Endpoint.parse(text, "bkt", path_style=path_style)
    assert str(endpoint.url("a b/c", {})) == url


@pytest.mark.parametrize(
    "text",
    ["oss.example", "ftp://oss.example", "https://u:p@h", "https://h/x", "https://h:x", "https://"],
    ids=["no-scheme", "scheme", "user", "path", "port", "no-host"],
)
def test_refused_endpoints(text: str) -> None:
    with pytest.raises(LaunchError):
        Endpoint.parse(text, "bkt", path_style=False)
