#!/bin/sh
# Puts the product into a root file system: install-rootfs.sh DIR
#
# DIR is a Debian 12 tree (or an empty one that will become a layer over it) with Python 3.11 and
# libfuse3-3. The names that kata-agent starts appear in DIR/usr/local/bin. Run from a checkout after
# `make setup`; nothing of the harness is installed, because it is not in the wheel.
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
root=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."
home=opt/confidential-guest
lib=$home/lib/python3.11/site-packages
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip="env -u PIP_USER PYTHONDONTWRITEBYTECODE= .venv/bin/python -m pip --disable-pip-version-check -q"

$pip wheel --no-deps --no-build-isolation -w "$work" .
# Built with the locked tools of .venv; every other file is checked against its hash.
$pip install --require-hashes --no-build-isolation --no-compile \
    --target "$root/$lib" -r requirements/runtime.txt
rm -rf "$root/$lib/bin"
$pip install --no-deps --no-compile --target "$root/$lib" "$work"/*.whl
rm -rf "$root/$lib/bin" # programs of dependencies; ours are written below
# Compiled code that stays valid whatever the image builder does to modification times.
.venv/bin/python -m compileall -q --invalidation-mode unchecked-hash -s "$root" "$root/$lib" || true

# A virtual environment on Debian's interpreter: what the image has in dist-packages does not mix in,
# and mount processes, started with the same interpreter, find the same library.
mkdir -p "$root/$home/bin" "$root/usr/local/bin" "$root/usr/lib/systemd/system" \
    "$root/etc/confidential-guest"
ln -sf /usr/bin/python3 "$root/$home/bin/python3"
printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$root/$home/pyvenv.cfg"
launcher() {
    # An absolute interpreter (kata-agent's PATH is short) and no influence of the environment.
    printf '#!/opt/confidential-guest/bin/python3 -I\nimport sys\nfrom %s.__main__ import main\nsys.exit(main())\n' \
        "$2" > "$root/usr/local/bin/$1"
    chmod 0755 "$root/usr/local/bin/$1"
}
launcher cguest cguest
launcher cguestd cguestd
launcher attestation-agent agent
launcher confidential-data-hub cdh
launcher api-server-rest rest
launcher cguest-hook guesthook
# Recent agents run a hook by its file name through PATH, which is short if they are PID 1.
mkdir -p "$root/usr/bin"
ln -sf ../local/bin/cguest-hook "$root/usr/bin/cguest-hook"
# For guest_hook_path = "/usr/share/oci/hooks" (docs/hooks.md): the agent takes regular files only.
for kind in prestart poststop; do
    install -D -m 0755 "guest-image/hooks/$kind/cguest-hook" \
        "$root/usr/share/oci/hooks/$kind/cguest-hook"
done
cp systemd/*.service systemd/*.socket "$root/usr/lib/systemd/system/"
