"""Kubernetes manifests for sealed secrets, as YAML text. No I/O.

Every value is written as a JSON string, which is YAML too, so that nothing in it can be structure.
"""

from __future__ import annotations

import json
import re
from typing import Final

from cguest.connection import CommandError

# RFC 1123 subdomain, as names of objects are checked by Kubernetes; keys of a Secret are wider.
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.\-]{0,251}[a-z0-9])?", re.ASCII)
_KEY: Final = re.compile(r"[A-Za-z0-9._\-]{1,253}", re.ASCII)
NOTE: Final = """\
# The value is no secret: it names one, or holds it encrypted, and is signed. In the guest,
# kata-agent has it unsealed before the container starts. If that fails, the agent only warns, and
# the container gets the sealed text: see docs/secrets.md.
"""


def manifests(name: str, key: str, sealed: str) -> str:
    """Return a Secret and snippets of a Pod that takes it as a variable and as a file.

    Raises :class:`~cguest.connection.CommandError` for names that Kubernetes would refuse.
    """
    if not _NAME.fullmatch(name):
        raise CommandError(f"{name[:80]!r} is no name of a Secret", hint="a-z, 0-9, '-' and '.'")
    if not _KEY.fullmatch(key):
        raise CommandError(f"{key[:80]!r} is no key in a Secret", hint="letters, digits, '-_.'")
    variable = re.sub(r"[^A-Z0-9_]", "_", key.upper())
    if variable[0].isdigit():
        variable = f"_{variable}"
    return f"""{NOTE}apiVersion: v1
kind: Secret
metadata:
  name: {json.dumps(name)}
type: Opaque
stringData:
  {json.dumps(key)}: {json.dumps(sealed)}
---
apiVersion: v1
kind: Pod
metadata:
  name: {json.dumps(f"{name}-user")}
spec:
  runtimeClassName: kata-qemu-tdx
  containers:
    - name: workload
      image: "registry.example.org/workload:1"
      env:
        - name: {json.dumps(variable)}
          valueFrom:
            secretKeyRef:
              name: {json.dumps(name)}
              key: {json.dumps(key)}
      volumeMounts:
        - name: sealed
          mountPath: /etc/sealed
          readOnly: true
  volumes:
    - name: sealed
      secret:
        secretName: {json.dumps(name)}
"""
