"""Mount options in the spelling of ossfs 1.91, each honoured, set aside or refused by name.

The text comes from outside the guest (``otherOpts`` and ``flags`` of a SecureMount request), so
nothing is passed on unread: the reference appends it to a command line, where ``url=`` or
``no_check_certificate`` would win over the safe values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from cdh.errors import MountRefusedError

MAX_TEXT: Final = 4096  # characters of otherOpts
MAX_OPTIONS: Final = 64
MAX_ID: Final = 0xFFFF_FFFE  # (uid_t) -1 means "no change" to the kernel
MAX_CACHE_SECONDS: Final = 3600.0  # the longest a mount process caches attributes

# Would weaken what this hub guarantees, or replace where data and keys come from.
_UNSAFE: Final = {
    "url": "the endpoint is the request's url, which is checked",
    "host": "the endpoint is the request's url, which is checked",
    "bucket": "the bucket is the request's bucket",
    "servicepath": "the prefix is the request's path",
    "passwd_file": "keys come from akId and akSecret only",
    "credlib": "keys come from akId and akSecret only; no library is loaded",
    "credlib_opts": "keys come from akId and akSecret only; no library is loaded",
    "credential_process": "keys come from akId and akSecret only; no program is run",
    "ram_role": "the metadata service belongs to the host",
    "disable_imdsv2": "the metadata service belongs to the host",
    "use_session_token": "keys come from akId and akSecret only",
    "public_bucket": "anonymous access would skip the keys",
    "no_check_certificate": "certificates are always checked",
    "ssl_verify_hostname": "host names are always checked",
    "cipher_suites": "cipher suites are this guest's choice",
    "use_cache": "data is cached in memory only, never on disk",
    "tmpdir": "data is cached in memory only, never on disk",
    "del_cache": "data is cached in memory only, never on disk",
    "check_cache_dir_exist": "data is cached in memory only, never on disk",
    "logfile": "the log is this guest's",
    "curldbg": "would log requests with their signatures",
    "suid": "set-user-id programs from a bucket are never honoured",
    "dev": "device files from a bucket are never honoured",
    "allow_root": "use allow_other",
}
# Change what is stored or seen; leaving them out silently would be a surprise.
_ABSENT: Final = (
    "use_sse",
    "storage_class",
    "default_acl",
    "ahbe_conf",
    "mime",
    "requester_pays",
    "use_xattr",
    "cloudbox_id",
    "noexec",
    "enable_content_md5",
    "upload_traffic_limit",
    "download_traffic_limit",
    "symlink_in_meta",
    "use_wtf8",
)
# Tune the reference's internals, or ask for what holds anyway; without effect on the outcome.
_IGNORED_NAMES: Final = """
    nosuid nodev nonempty noatime relatime async auto noauto _netdev dbglevel instance_name
    noua disable_noobj_cache stat_cache_interval_expire readdir_optimize readdir_check_size
    complement_stat notsup_compat_dir list_object_max_keys listobjectsv2 multireq_max
    parallel_count multipart_size multipart_threshold nomultipart max_dirty_data
    multipart_copy_size singlepart_copy_limit noshallowcopyapi nocopyapi norenameapi
    nomixupload ensure_diskfree free_space_ratio fake_diskfree direct_read
    direct_read_prefetch_thread direct_read_chunk_size direct_read_prefetch_chunks
    direct_read_prefetch_limit direct_read_backward_chunks
    direct_read_local_file_cache_size_mb connect_timeout readwrite_timeout retries
    simulate_mtime_ns_with_crc64 skip_clean_statcache_on_ro_flush
"""
_IGNORED: Final = frozenset(_IGNORED_NAMES.split())


@dataclass(frozen=True, slots=True)
class MountOptions:
    """The options that have an effect. None means: not given, the mount process's default.

    ``attribute_seconds`` is how long attributes may be cached. ``ignored`` names options that
    were accepted without effect, for the log.
    """

    read_only: bool = False
    allow_other: bool = False
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    mp_umask: int | None = None
    signature: str | None = None
    region: str | None = None
    path_style: bool = False
    attribute_seconds: float | None = None
    ignored: tuple[str, ...] = ()


def _no_value(name: str, value: str | None) -> None:
    if value is not None:
        raise MountRefusedError(f"option {name}", "takes no value")


def _number(name: str, value: str | None, base: int, maximum: int) -> int:
    digits = "01234567" if base == 8 else "0123456789"
    if not value or len(value) > 10 or any(char not in digits for char in value):
        kind = "an octal mode" if base == 8 else "a decimal number"
        raise MountRefusedError(f"option {name}", f"expected {kind}, for example {name}=022")
    number = int(value, base)
    if number > maximum:
        raise MountRefusedError(f"option {name}", f"larger than {maximum}")
    return number


def _identifier(name: str, value: str | None) -> int:
    return _number(name, value, 10, MAX_ID)


def _mode(name: str, value: str | None) -> int:
    return _number(name, value, 8, 0o777)


def _region(name: str, value: str | None) -> str:
    region = (value or "").removeprefix("oss-")
    if not region or len(region) > 64 or not all(c.islower() or c in "-0123456789" for c in region):
        raise MountRefusedError(f"option {name}", "expected a region such as cn-hangzhou")
    if not region.isascii():
        raise MountRefusedError(f"option {name}", "expected a region such as cn-hangzhou")
    return region


def _cache_seconds(name: str, value: str | None) -> float:
    if value == "-1":  # ossfs: never expires
        return MAX_CACHE_SECONDS
    return min(float(_number(name, value, 10, MAX_ID)), MAX_CACHE_SECONDS)


def _switch(field: str, setting: object) -> Callable[[str, str | None], tuple[str, object]]:
    def read(name: str, value: str | None) -> tuple[str, object]:
        _no_value(name, value)
        return field, setting

    return read


def _valued(
    field: str, convert: Callable[[str, str | None], object]
) -> Callable[[str, str | None], tuple[str, object]]:
    return lambda name, value: (field, convert(name, value))


# use_path_request_style is honoured: the host asked stays the checked endpoint, and the bucket
# name is covered by the signature in either form.
_HONOURED: Final[dict[str, Callable[[str, str | None], tuple[str, object]]]] = {
    "ro": _switch("read_only", True),
    "rw": _switch("read_only", False),
    "allow_other": _switch("allow_other", True),
    "uid": _valued("uid", _identifier),
    "gid": _valued("gid", _identifier),
    "umask": _valued("umask", _mode),
    "mp_umask": _valued("mp_umask", _mode),
    "sigv1": _switch("signature", "v1"),
    "sigv4": _switch("signature", "v4"),
    "region": _valued("region", _region),
    "use_path_request_style": _switch("path_style", True),
    "stat_cache_expire": _valued("attribute_seconds", _cache_seconds),
}


def split_words(words: Iterable[str]) -> list[tuple[str, str | None]]:
    """Return names and values from ``-o a,b``, ``-oa,b`` and bare ``a=b`` words.

    Raises :class:`MountRefusedError` for any other dash word and for too many options.
    """
    found: list[tuple[str, str | None]] = []
    expects_list = False
    for word in words:
        if not expects_list and word == "-o":
            expects_list = True
            continue
        if not expects_list and word.startswith("-o"):
            items = word[2:]
        elif word.startswith("-"):
            raise MountRefusedError(
                f"option {word}", "is not an option of a mount", hint="write -o name=value"
            )
        else:
            items = word
        expects_list = False
        for item in filter(None, items.split(",")):
            name, equals, value = item.partition("=")
            found.append((name, value if equals else None))
    if expects_list:
        raise MountRefusedError("option -o", "nothing follows it")
    if len(found) > MAX_OPTIONS:
        raise MountRefusedError("otherOpts", f"more than {MAX_OPTIONS} options")
    return found


def parse_options(other_opts: str, flags: Sequence[str]) -> MountOptions:
    """Parse ``otherOpts`` (cut at white space, no quoting) and ``flags`` of a request.

    Both may name the same option, but not with different values. Raises
    :class:`MountRefusedError` with the option's name for everything that is not known to be safe.
    """
    if len(other_opts) + sum(map(len, flags)) > MAX_TEXT:
        raise MountRefusedError("otherOpts", f"longer than {MAX_TEXT} characters")
    values: dict[str, object] = {}
    ignored: list[str] = []
    uncached = False
    words = (*other_opts.split(), *(word for flag in flags for word in flag.split()))
    for name, value in split_words(words):
        if name in _HONOURED:
            field, setting = _HONOURED[name](name, value)
        elif name == "max_stat_cache_size" and value == "0":
            uncached = True
            continue
        else:
            _judge_without_effect(name, ignored)
            continue
        if values.setdefault(field, setting) != setting:
            raise MountRefusedError(f"option {name}", "contradicts another option of the request")
    if uncached:
        # ossfs: no attribute cache, every access asks the server, whatever else is said.
        values["attribute_seconds"] = 0.0
    return MountOptions(**values, ignored=tuple(ignored))  # type: ignore[arg-type]


def _judge_without_effect(name: str, ignored: list[str]) -> None:
    """Note an option that changes nothing here; raise for every other."""
    if name in _UNSAFE:
        raise MountRefusedError(f"option {name}", f"refused: {_UNSAFE[name]}")
    if name in _ABSENT:
        raise MountRefusedError(f"option {name}", "absent in this implementation")
    if name != "max_stat_cache_size" and name not in _IGNORED:
        raise MountRefusedError(
            f"option {name}", "unknown", hint="docs/data-hub.md lists the mount options"
        )
    if name not in ignored:
        ignored.append(name)
