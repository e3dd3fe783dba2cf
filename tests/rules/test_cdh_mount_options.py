"""The option table of secure mounts: what is honoured, set aside and refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdh.errors import MountRefusedError
from cdh.mounts.options import MountOptions, parse_options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", MountOptions()),
        ("-o ro", MountOptions(read_only=True)),
        ("-oro", MountOptions(read_only=True)),
        ("ro", MountOptions(read_only=True)),
        ("rw", MountOptions()),
        ("-o allow_other,ro", MountOptions(allow_other=True, read_only=True)),
        ("-o umask=022 -o max_stat_cache_size=0 -o allow_other",
         MountOptions(umask=0o22, attribute_seconds=0.0, allow_other=True)),
        ("-ouid=1000,gid=100", MountOptions(uid=1000, gid=100)),
        ("uid=0", MountOptions(uid=0)),
        ("mp_umask=077", MountOptions(mp_umask=0o77)),
        ("sigv1", MountOptions(signature="v1")),
        ("sigv4 region=cn-hangzhou", MountOptions(signature="v4", region="cn-hangzhou")),
        ("region=oss-cn-beijing", MountOptions(region="cn-beijing")),
        ("use_path_request_style", MountOptions(path_style=True)),
        ("stat_cache_expire=60", MountOptions(attribute_seconds=60.0)),
        ("stat_cache_expire=-1", MountOptions(attribute_seconds=3600.0)),
        ("max_stat_cache_size=0,stat_cache_expire=60", MountOptions(attribute_seconds=0.0)),
        ("max_stat_cache_size=1000", MountOptions(ignored=("max_stat_cache_size",))),
        ("dbglevel=info,dbglevel=warn", MountOptions(ignored=("dbglevel",))),
        ("nosuid,nodev", MountOptions(ignored=("nosuid", "nodev"))),
        ("ro -o ro,", MountOptions(read_only=True)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_accepted(text: str, expected: MountOptions) -> None:
    assert parse_options(text, ()) == expected
    # The same words as flags mean the same.
    assert parse_options("", text.split()) == expected


UNSAFE_NAMES = """
url host bucket servicepath passwd_file credlib credlib_opts credential_process ram_role
use_session_token public_bucket no_check_certificate ssl_verify_hostname cipher_suites use_cache
tmpdir del_cache check_cache_dir_exist logfile curldbg suid dev allow_root disable_imdsv2"""
UNSAFE = UNSAFE_NAMES.split()
ABSENT_NAMES = """use_sse storage_class default_acl use_xattr requester_pays noexec mime ahbe_conf
cloudbox_id enable_content_md5"""
ABSENT = ABSENT_NAMES.split()


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("form", ["-o {}=x", "-o{}=x", "{}=x", "{}", "-o ro,{}=1"])
def test_what_would_override_safe_values_is_refused_by_name(name: str, form: str) -> None:
    with pytest.raises(MountRefusedError, match="refused: ") as caught:
        parse_options(form.format(name), ())
    assert caught.value.name == f"option {name}"


@pytest.mark.parametrize("name", ABSENT)
def test_what_is_absent_is_refused_by_name(name: str) -> None:
    with pytest.raises(MountRefusedError, match="absent") as caught:
        parse_options(f"-o {name}", ())
    assert caught.value.name == f"option {name}"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("surprise=1", "option surprise"),
        ("URL=http://x", "option URL"),
        ("-f", "option -f"),
        ("--url=x", "option --url=x"),
        ("-o", "option -o"),
        ("-o -ourl=x", "option -ourl=x"),
        ("ro=1", "option ro"),
        ("allow_other=", "option allow_other"),
        ("uid", "option uid"),
        ("uid=-1", "option uid"),
        ("uid=4294967295", "option uid"),
        ("uid=٣", "option uid"),
        ("umask=8", "option umask"),
        ("umask=1000", "option umask"),
        ("umask=0x1f", "option umask"),
        ("region=", "option region"),
        ("region=a/b", "option region"),
        ("stat_cache_expire=soon", "option stat_cache_expire"),
        ("ro,rw", "option rw"),
        ("uid=1,uid=2", "option uid"),
        ("sigv1,sigv4", "option sigv4"),
        ("x" * 5000, "otherOpts"),
        (",".join(["ro"] * 65), "otherOpts"),
    ],
    ids=lambda text: text[:24],
)
def test_refused(text: str, name: str) -> None:
    with pytest.raises(MountRefusedError) as caught:
        parse_options(text, ())
    assert caught.value.name == name


def test_flags_and_options_may_agree_but_not_differ() -> None:
    assert parse_options("-o ro", ["ro"]).read_only
    with pytest.raises(MountRefusedError):
        parse_options("-o ro", ["rw"])


@given(st.text(max_size=200))
def test_arbitrary_text_is_parsed_or_refused_with_a_bounded_message(text: str) -> None:
    problem = ""
    try:
        parse_options(text, ())
    except MountRefusedError as error:
        problem = str(error)
    assert len(problem) < 400
    assert problem.isprintable()


@given(st.lists(st.sampled_from([*UNSAFE, "ro", "allow_other", "uid=1", "-o"]), max_size=8))
def test_no_arrangement_of_words_lets_an_unsafe_option_through(words: list[str]) -> None:
    try:
        parse_options(" ".join(words), ())
    except MountRefusedError:
        return
    assert not set(UNSAFE) & set(words)
