"""SecureMount requests: what becomes a mount, and what is refused under which name."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import (
    MountCredentialsError,
    MountError,
    MountPointError,
    MountRefusedError,
)
from cdh.mounts.endpoint import parse_endpoint
from cdh.mounts.launch import Launch, OssCredentials
from cdh.mounts.spec import OSS, MountPolicy, MountRequest, MountSpec
from ossmount.launch import LaunchSpec
from secrecy import Secret

POLICY = MountPolicy(allowed_roots=("/run", "/mnt"))
OPTIONS = {
    "akId": "sealed.a.b.c",
    "akSecret": "sealed.d.e.f",
    "bucket": "data-bucket",
    "path": "/",
    "url": "https://oss-cn-beijing.aliyuncs.com",
    "otherOpts": "",
    "readonly": "",
    "targetPath": "/var/lib/kubelet/x",
    "volumeId": "vol-1",
}


def parse(
    changes: dict[str, str] | None = None,
    *,
    without: str | None = None,
    volume_type: str = OSS,
    flags: Sequence[str] = (),
    mount_point: str = "/mnt/data",
    policy: MountPolicy = POLICY,
) -> MountSpec:
    options = {**OPTIONS, **(changes or {})}
    if without is not None:
        del options[without]
    return MountSpec.parse(MountRequest(volume_type, options, flags, mount_point), policy)


def test_a_plain_request() -> None:
    spec = parse()
    assert (spec.bucket, spec.prefix, spec.mount_point) == ("data-bucket", "", "/mnt/data")
    assert spec.endpoint.url == "https://oss-cn-beijing.aliyuncs.com"
    assert (spec.region, spec.signature, spec.path_style) == ("cn-beijing", "v4", False)
    assert not spec.read_only
    assert spec.access_key_id.reveal() == b"sealed.a.b.c"
    assert spec.volume_id == "vol-1"
    assert spec.absent_keys == ()


@pytest.mark.parametrize("key", ["readonly", "targetPath", "volumeId"])
def test_keys_nobody_reads_may_be_absent(key: str) -> None:
    assert parse(without=key).absent_keys == (key,)


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("", ""), ("/", ""), ("/a", "a/"), ("/a/", "a/"), ("/a b/ü", "a b/ü/")],
)
def test_path_becomes_a_prefix(path: str, prefix: str) -> None:
    assert parse({"path": path}).prefix == prefix


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("oss-cn-x.aliyuncs.com", "https://oss-cn-x.aliyuncs.com"),
        ("https://OSS-cn-x.aliyuncs.com/", "https://oss-cn-x.aliyuncs.com"),
        ("https://oss-cn-x.aliyuncs.com:8443", "https://oss-cn-x.aliyuncs.com:8443"),
        ("https://[::1]:9000", "https://[::1]:9000"),
        ("127.0.0.1:9000", "https://127.0.0.1:9000"),
    ],
)
def test_urls(url: str, endpoint: str) -> None:
    assert parse({"url": url, "otherOpts": "region=cn-x"}).endpoint.url == endpoint


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "cn-hangzhou"),
        ("cn-hangzhou-internal.oss-data-acc.aliyuncs.com", "cn-hangzhou"),
        ("oss.example.com", None),
        ("127.0.0.1", None),
    ],
)
def test_region_of_an_endpoint(host: str, region: str | None) -> None:
    assert parse_endpoint(host).region == region


@pytest.mark.parametrize(
    ("host", "path_style"), [("127.0.0.1:1", True), ("[::1]", True), ("localhost", True)]
)
def test_addresses_get_the_bucket_in_the_path(host: str, path_style: bool) -> None:
    assert parse({"url": host, "otherOpts": "sigv1"}).path_style is path_style


@pytest.mark.parametrize("text", ["true", "1", "yes", "TRUE", " Yes "])
def test_readonly_is_honoured(text: str) -> None:
    assert parse({"readonly": text}).read_only
    # An option or flag cannot take it back.
    assert parse({"readonly": text, "otherOpts": "rw"}, flags=("rw",)).read_only


def test_ro_as_option_or_flag() -> None:
    assert parse({"otherOpts": "-o ro"}).read_only
    assert parse(flags=("ro",)).read_only


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"encrypted": "gocryptfs"}, "option encrypted=gocryptfs"),
        ({"encrypted": "aes256"}, "option encrypted=aes256"),
        ({"encPasswd": "sealed.x.y.z"}, "option encPasswd"),
        ({"surprise": ""}, "option surprise"),
        ({"akid": "x"}, "option akid"),
        ({"akId": ""}, "option akId"),
        ({"akSecret": ""}, "option akSecret"),
        ({"akId": "x" * 5000}, "option akId"),
        ({"bucket": "Data"}, "option bucket"),
        ({"bucket": "-data"}, "option bucket"),
        ({"bucket": "da"}, "option bucket"),
        ({"bucket": "data:x"}, "option bucket"),
        ({"path": "a"}, "option path"),
        ({"path": "/a/../b"}, "option path"),
        ({"path": "/a//b"}, "option path"),
        ({"path": "//a"}, "option path"),
        ({"path": "/\\a"}, "option path"),
        ({"path": "/" + "x" * 1001}, "option path"),
        ({"path": "/a\nb"}, "option path"),
        ({"url": ""}, "url"),
        ({"url": "http://oss-cn-beijing.aliyuncs.com"}, "url"),
        ({"url": "ftp://oss-cn-beijing.aliyuncs.com"}, "url"),
        ({"url": "https://user@oss-cn-beijing.aliyuncs.com"}, "url"),
        ({"url": "https://oss-cn-beijing.aliyuncs.com/x"}, "url"),
        ({"url": "https://oss-cn-beijing.aliyuncs.com?x"}, "url"),
        ({"url": "https://oss-cn-beijing.aliyuncs.com:99999"}, "url"),
        ({"url": "https://[::1"}, "url"),
        ({"url": "https://a..b"}, "url"),
        ({"url": "https://data-bucket.oss-cn-beijing.aliyuncs.com"}, "url"),
        ({"url": "https://oss.example.com"}, "option region"),
        ({"readonly": "maybe"}, "option readonly"),
        ({"otherOpts": "-ourl=http://evil"}, "option url"),
    ],
    ids=str,
)
def test_refused_by_name(changes: dict[str, str], name: str) -> None:
    with pytest.raises(MountRefusedError) as caught:
        parse(changes)
    assert caught.value.name == name


@pytest.mark.parametrize("key", ["akId", "akSecret", "bucket", "path", "url", "otherOpts"])
def test_required_keys(key: str) -> None:
    with pytest.raises(MountRefusedError, match="required and missing") as caught:
        parse(without=key)
    assert caught.value.name == f"option {key}"


@pytest.mark.parametrize(
    ("volume_type", "problem"),
    [("block-device", "absent"), ("nfs", "unknown"), ("", "unknown")],
)
def test_volume_types(volume_type: str, problem: str) -> None:
    with pytest.raises(MountRefusedError, match=problem) as caught:
        parse(volume_type=volume_type)
    assert OSS in caught.value.hint


def test_policy_of_endpoints() -> None:
    allowed = MountPolicy(
        ("/mnt",), frozenset({"oss-cn-beijing.aliyuncs.com", "127.0.0.1:9000"}), allow_http=True
    )
    parse(policy=allowed)
    parse({"url": "http://127.0.0.1:9000", "otherOpts": "region=x"}, policy=allowed)
    for url in ("https://127.0.0.1:9001", "https://oss-cn-beijing.aliyuncs.com.evil.net"):
        with pytest.raises(MountRefusedError, match="not an allowed endpoint"):
            parse({"url": url}, policy=allowed)


@pytest.mark.parametrize(
    "mount_point",
    [
        "",
        "mnt/data",
        "/mnt",
        "/mnt/",
        "/etc/x",
        "/mnt/../etc",
        "/mnt/./x",
        "/mnt//x",
        "/mntx/y",
        "/mnt/a\nb",
        "/run/confidential-containers",
        "/run/confidential-containers/cdh/sealed-secret",
        "/run/systemd/system",
        "/mnt/" + "x" * 1100,
    ],
)
def test_mount_points_refused_by_name_alone(mount_point: str) -> None:
    with pytest.raises(MountPointError):
        parse(mount_point=mount_point)


def test_a_root_that_contains_trusted_places_does_not_open_them() -> None:
    wide = MountPolicy(allowed_roots=("/",))
    for mount_point in ("/etc", "/usr/lib/x", "/run", "/proc/1", "/bin"):
        with pytest.raises(MountPointError, match="would cover"):
            parse(mount_point=mount_point, policy=wide)


def credentials() -> OssCredentials:
    return OssCredentials.check(Secret("id\n"), Secret("secret"))


def test_the_launch_document_has_the_agreed_members() -> None:
    spec = parse({"otherOpts": "-o ro,uid=7,umask=022", "path": "/sub"})
    launch = Launch(spec, credentials(), ca_pem=None, memory_bytes=1 << 28)
    assert json.loads(launch.encode().reveal()) == {
        "version": 1,
        "mount_point": "/mnt/data",
        "bucket": "data-bucket",
        "prefix": "sub/",
        "endpoint": "https://oss-cn-beijing.aliyuncs.com",
        "region": "cn-beijing",
        "signature": "v4",
        "access_key_id": "id",
        "access_key_secret": "secret",
        "security_token": None,
        "read_only": True,
        "allow_other": False,
        "uid": 7,
        "gid": None,
        "umask": 0o22,
        "mp_umask": None,
        "ca_pem": None,
        "path_style": False,
        "attribute_seconds": 10.0,
        "memory_bytes": 1 << 28,
        "fs_name": "oss-data-bucket",
    }
    assert "secret'" not in repr(launch)


def test_a_launch_document_that_would_not_fit_the_pipe_is_refused() -> None:
    with pytest.raises(MountRefusedError, match="launch document"):
        Launch(parse(), credentials(), ca_pem="x" * 70_000, memory_bytes=1 << 28).encode()


@pytest.mark.parametrize(
    "key", [b"", b"\n", b"two words", "schlüssel".encode(), b"\xff\xfe", b"x" * 300, b"a\x00b"]
)
def test_unusable_keys_are_named_and_not_shown(key: bytes) -> None:
    with pytest.raises(MountCredentialsError) as caught:
        OssCredentials.check(Secret("id"), Secret(key))
    assert caught.value.option == "akSecret"
    assert repr(key)[2:-1] not in str(caught.value) or not key.strip()


@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), st.text(max_size=80)), st.text())
def test_arbitrary_values_are_parsed_or_refused(changes: dict[str, str], mount_point: str) -> None:
    problem = ""
    try:
        parse(changes, mount_point=mount_point)
    except MountError as error:
        problem = str(error)
    assert len(problem) < 900
    assert problem.isprintable()


names = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=30)


@given(
    st.lists(names, max_size=4),
    st.sampled_from(["", "-o ro,uid=1,gid=2,umask=027", "sigv1", "max_stat_cache_size=0"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=64),
    st.sampled_from(["https://oss-cn-x.aliyuncs.com", "oss-cn-x-internal.aliyuncs.com:8443"]),
)
def test_the_mount_process_accepts_every_document_made_here(
    parts: list[str], options: str, key: str, url: str
) -> None:
    try:
        spec = parse({"path": "/".join(["", *parts]), "otherOpts": options, "url": url})
    except MountRefusedError:
        return
    keys = OssCredentials.check(Secret(key), Secret(key))
    document = Launch(spec, keys, ca_pem=None, memory_bytes=32 << 20).encode()
    told = LaunchSpec.parse(document.reveal())
    assert (told.mount_point, told.prefix, told.endpoint) == (
        spec.mount_point, spec.prefix, spec.endpoint.url,
    )  # fmt: skip
    assert told.credentials.access_key_secret.matches(key.encode())
