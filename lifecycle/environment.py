"""The environment of a process, taken from it before it can do harm.

Under kata-agent as init, words of the kernel command line become environment variables, so the
host can set any. A program takes the variables it documents, keeps the few that its service
manager set, and forgets the others before it opens anything and before it starts a process.

Some have acted by then: the dynamic loader and libraries read theirs while the program loads.
Where one of those is set, the program is executed again without it, so that nothing of what runs
was loaded under its influence.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final, NoReturn

# What the reference components and this implementation document: docs/configuration.md.
DOCUMENTED: Final = frozenset(
    {
        "AA_KBC_PARAMS",
        "AA_SOCKET",
        "AAEL_PATH",
        "ALIYUN_IN_GUEST_KEY_PATH",
        "AWS_IN_GUEST_KEY_PATH",
        "CDH_CONFIG_PATH",
        "CDH_DEFAULT_IMAGE_AUTHENTICATED_REGISTRY_CREDENTIALS",
        "EHSM_IN_GUEST_KEY_PATH",
        "ENABLE_SAMPLE_DEVICE",
        "KATA_ATTESTER_VARIANT",
        "KBS_CERT",
        "OCICRYPT_KEYPROVIDER_CONFIG",
        "OFFLINE_FS_KBC_EXTRA_FILE_PATH",
        "RUST_LOG",
        "SKIP_SEALED_SECRET_VERIFICATION",
    }
)
# Set by the service manager for this process; read by lifecycle.readiness and the sockets.
KEPT: Final = frozenset(
    {
        "NOTIFY_SOCKET",
        "WATCHDOG_PID",
        "WATCHDOG_USEC",
        "LISTEN_PID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
        "INVOCATION_ID",
    }
)
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Read while a program or one of its libraries is loaded: ld.so(8), mallopt(3), iconv(1),
# config(5ssl), and switches of the Python packages that are used here.
ACT_WHILE_LOADING: Final = (
    "LD_",
    "GLIBC_TUNABLES",
    "MALLOC_",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "OPENSSL_",
    "AIOHTTP_",
    "CRYPTOGRAPHY_",
    "FROZENLIST_",
    "MULTIDICT_",
    "PROPCACHE_",
    "PROTOCOL_BUFFERS_",
    "PYCRYPTODOME_",
    "PYTHON",
    "TEMPORARILY_DISABLE_PROTOBUF_VERSION_CHECK",
    "UVLOOP_",
    "UV_",
    "YARL_",
)


def take_environment(argv: Sequence[str] | None) -> dict[str, str]:
    """Return the documented variables, and leave this process only what it needs.

    For the start of a program, before it opens anything. With ``argv`` given somebody else's
    process calls a program's function, and its environment is copied and left alone. Does not
    return if the program has to be executed again; raises ``OSError`` if that fails.
    """
    if argv is not None:
        return _documented(os.environ)
    if any(name.startswith(_acted()) for name in os.environ):
        _execute_again()
    documented = _documented(os.environ)
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    _replace(os.environ, kept | _of_the_interpreter(os.environ) | {"PATH": PATH})
    return documented


def _documented(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name in DOCUMENTED}


def _acted() -> tuple[str, ...]:
    """PYTHON* acts on an interpreter that is not isolated; ``python3 -I`` never reads it."""
    python = "PYTHON"
    if sys.flags.isolated or _from_sources():
        return tuple(prefix for prefix in ACT_WHILE_LOADING if prefix != python)
    return ACT_WHILE_LOADING


def _from_sources() -> bool:
    """``python3 -m NAME``, as developers start it: there the variables name the sources."""
    return not sys.flags.isolated and "-m" in sys.orig_argv[1:3]


def _of_the_interpreter(environ: Mapping[str, str]) -> dict[str, str]:
    if not _from_sources():
        return {}
    return {name: value for name, value in environ.items() if name.startswith("PYTHON")}


def _execute_again() -> NoReturn:
    # The first argument decides where the interpreter looks for its libraries.
    arguments = [sys.executable, *sys.orig_argv[1:]]
    if not sys.flags.isolated and not _from_sources():
        arguments.insert(1, "-I")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(_acted())}
    os.execve(sys.executable, arguments, clean)  # noqa: S606 - this program, no shell


def _replace(environ: MutableMapping[str, str], new: Mapping[str, str]) -> None:
    for name in set(environ) - set(new):
        del environ[name]
    environ.update(new)
