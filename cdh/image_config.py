"""``[image]`` of ``cdh.toml``: keys of the reference for pulling images, typed and without effect.

From guest-components ``image-rs/src/config.rs``. This hub pulls no images, so nothing here is in
force; it is read so that a stock file is accepted, and misspelt keys in it are not.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from cdh.section import Section

# The reference's policy and proxy parameters of the kernel command line, and their keys.
KERNEL_PARAMETERS: Final = {
    "agent.https_proxy": "image_pull_proxy.https_proxy",
    "agent.http_proxy": "image_pull_proxy.http_proxy",
    "agent.no_proxy": "image_pull_proxy.no_proxy",
    "agent.image_registry_auth": "authenticated_registry_credentials_uri",
}
POLICY_PARAMETER: Final = "agent.image_policy_file"
POLICY_KEY: Final = "image_security_policy_uri"
VERIFICATION_PARAMETER: Final = "agent.enable_signature_verification"


class ProxySection(Section, frozen=True):
    """Until v0.10 a single text stood in place of the table."""

    https_proxy: str | None = None
    http_proxy: str | None = None
    no_proxy: str | None = None


class MirrorSection(Section, frozen=True, forbid_unknown_fields=False):
    """A mirror of a registry.

    Unknown keys are no errors from here on: containers-registries.conf(5) has more of them than the
    reference, whose own example has one too many in this table.
    """

    location: str
    insecure: bool = False


class RegistrySection(Section, frozen=True, forbid_unknown_fields=False):
    """One registry, as in containers-registries.conf(5)."""

    prefix: str = ""
    insecure: bool = False
    blocked: bool = False
    location: str = ""
    mirror: tuple[MirrorSection, ...] = ()


class RegistriesSection(
    Section,
    frozen=True,
    forbid_unknown_fields=False,
    rename={"unqualified_search_registries": "unqualified-search-registries"},
):
    """``[image.registry_config]``."""

    unqualified_search_registries: tuple[str, ...] = ("docker.io",)
    registry: tuple[RegistrySection, ...] = ()


class ImageSection(Section, frozen=True):
    """``[image]``. Of policy and sigstore the URI would win, of registries the inline table."""

    work_dir: str = "/run/kata-containers/image/"
    max_concurrent_layer_downloads_per_image: Annotated[int, msgspec.Meta(ge=1)] = 3
    image_security_policy_uri: str | None = None
    image_security_policy: str | None = None
    sigstore_config_uri: str | None = None
    sigstore_config: str | None = None
    authenticated_registry_credentials_uri: str | None = None
    registry_configuration_uri: str | None = None
    registry_config: RegistriesSection | None = None
    image_pull_proxy: ProxySection | str | None = None
    extra_root_certificates: tuple[str, ...] | str = ()
