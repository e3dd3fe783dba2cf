#!/bin/sh
# Makes .venv with locked, hash-checked packages. Installs Debian packages where it may (root and
# apt-get); otherwise says exactly what is missing and stops.
set -eu
cd "$(dirname "$0")/.."

say() { printf '%s\n' "setup: $*" >&2; }
die() { say "$*"; exit 1; }

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

# Debian 12's own rustc (1.63) is too old for the crates that tests/interop locks (1.85).
rust_packages() {
    if grep -q '^VERSION_ID="12"' /etc/os-release; then
        echo rustc-web
        echo cargo-web
    else
        echo cargo
    fi
}

# One Debian package per line, for each thing that is not there.
missing_packages() {
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(sysconfig.get_paths()["include"] + "/Python.h"))' || echo python3-dev
    command -v cc >/dev/null 2>&1 || echo gcc
    [ -e /usr/include/stdio.h ] || echo libc6-dev
    command -v pkg-config >/dev/null 2>&1 || echo pkg-config
    pkg-config --exists fuse3 2>/dev/null || echo libfuse3-dev
    command -v fusermount3 >/dev/null 2>&1 || echo fuse3
    command -v curl >/dev/null 2>&1 || echo curl
    # The programs of tests/interop: a must where CI runs the tests, elsewhere their tests skip.
    [ -z "${CI:-}" ] || command -v go >/dev/null 2>&1 || echo golang-go
    [ -z "${CI:-}" ] || command -v cargo >/dev/null 2>&1 || rust_packages
    # The runtimes and the shell of tests/guest.
    [ -z "${CI:-}" ] || command -v runc >/dev/null 2>&1 || echo runc
    [ -z "${CI:-}" ] || command -v crun >/dev/null 2>&1 || echo crun
    [ -z "${CI:-}" ] || command -v busybox >/dev/null 2>&1 || echo busybox-static
}

python=$(find_python)
[ -n "$python" ] || die "Python 3.11 or newer is needed; on Debian 12: apt-get install python3"
missing=$(missing_packages | tr '\n' ' ')
if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        say "installing Debian packages: $missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq || say "apt-get update failed; trying with the lists at hand"
        # shellcheck disable=SC2086
        apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
            die "could not install: $missing"
    else
        die "these packages are missing and this user may not install them.
       Run as root: apt-get install $missing"
    fi
fi

stamp=$(cat requirements/*.txt pyproject.toml tools/setup.sh | sha256sum | cut -d' ' -f1)
if [ "$(cat .venv/.stamp 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi
say "creating .venv (locked packages, hashes checked; a minute or two)"
rm -rf .venv
"$python" -m venv .venv
pip="env -u PIP_USER PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pip --disable-pip-version-check -q"
$pip install --require-hashes -r requirements/build.txt
# crcmod, oss2 and pyfuse3 exist as source only: they are built with the locked tools above.
$pip install --require-hashes --no-build-isolation -r requirements/dev.txt
$pip install --no-deps --no-build-isolation -e .
echo "$stamp" > .venv/.stamp
