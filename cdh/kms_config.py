"""``[kms]`` of the hub's configuration: where key management services and credentials for them are.

All of it is ours. The defaults are the reference's places and Alibaba Cloud's public addresses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from cdh.errors import ConfigurationRefusedError
from cdh.roots import read_roots
from cdh.section import Section
from kms import AliyunPlaces, KmsPlaces

MAX_CA_BYTES: Final = 256 * 1024  # a bundle of a public authority's roots fits
_DEFAULT: Final = AliyunPlaces()
# A host, a port and a path; no user, query or fragment. Braces are looked at separately.
_ADDRESS: Final = re.compile(r"(https?)://[A-Za-z0-9.\-{}\[\]:]+(/[A-Za-z0-9._~{}\-/]*)?", re.ASCII)
_PLACE: Final = re.compile(r"\{[^{}]*\}")


class AliyunSection(Section, frozen=True):
    """Alibaba Cloud KMS. ``{instance}`` and ``{region}`` in addresses are filled in.

    ``credentials`` is the directory with the credential files, ``ca_file`` adds PEM roots for
    every address here, beside the system's.
    """

    credentials: str = str(_DEFAULT.credentials)
    ca_file: str | None = None
    instance_url: str = _DEFAULT.instance_url
    region_url: str = _DEFAULT.region_url
    metadata_url: str = _DEFAULT.metadata_url


class KmsSection(Section, frozen=True):
    """A table for each service that is present here."""

    aliyun: AliyunSection = AliyunSection()

    def check(self) -> None:
        """Raise :class:`ConfigurationRefusedError` for what cannot work. Reads no files."""
        aliyun = self.aliyun
        for name, path in (("credentials", aliyun.credentials), ("ca_file", aliyun.ca_file)):
            if path is not None and (not path.startswith("/") or ".." in Path(path).parts):
                raise ConfigurationRefusedError(f"kms.aliyun.{name}", "not an absolute path")
        _check_address("instance_url", aliyun.instance_url, "{instance}")
        _check_address("region_url", aliyun.region_url, "{region}")
        # The metadata service of a machine speaks http only, and the host answers it anyway.
        _check_address("metadata_url", aliyun.metadata_url, "", http=True)

    def places(self) -> KmsPlaces:
        """Read ``ca_file`` and return everything. Blocks.

        Raises :class:`~lifecycle.SettingsError`.
        """
        aliyun = self.aliyun
        ca_file = aliyun.ca_file
        return KmsPlaces(
            AliyunPlaces(
                credentials=Path(aliyun.credentials),
                instance_url=aliyun.instance_url.rstrip("/") + "/",
                region_url=aliyun.region_url.rstrip("/"),
                metadata_url=aliyun.metadata_url.rstrip("/"),
            ),
            ca_pem=(
                None if ca_file is None else read_roots(ca_file, "kms.aliyun.ca_file", MAX_CA_BYTES)
            ),
        )


def _check_address(name: str, text: str, place: str, *, http: bool = False) -> None:
    key = f"kms.aliyun.{name}"
    found = _ADDRESS.fullmatch(text)
    if found is None:
        raise ConfigurationRefusedError(
            key, "not an address", hint="https://host[:port][/path] without user and query"
        )
    if found[1] != "https" and not http:
        raise ConfigurationRefusedError(key, "not https", hint="secrets travel on it")
    rest = _PLACE.sub(lambda match: "" if match[0] == place else match[0], text)
    if "{" in rest or "}" in rest:
        only = f"only {place} is filled in" if place else "nothing is filled in"
        raise ConfigurationRefusedError(key, "braces that mean nothing", hint=only)
