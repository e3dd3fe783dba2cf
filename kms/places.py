"""Where key management services and this guest's credentials for them are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ALIYUN: Final = "aliyun"
CREDENTIAL_ROOT: Final = Path("/run/confidential-containers/cdh/kbs")


@dataclass(frozen=True, slots=True)
class AliyunPlaces:
    """Alibaba Cloud KMS. ``{instance}`` and ``{region}`` in addresses are filled in.

    ``token_root`` bounds where the settings of a sealed secret may have a token read from.
    """

    credentials: Path = CREDENTIAL_ROOT / "kms-credential" / ALIYUN
    token_root: Path = CREDENTIAL_ROOT
    instance_url: str = "https://{instance}.cryptoservice.kms.aliyuncs.com/"
    region_url: str = "https://kms.{region}.aliyuncs.com"
    metadata_url: str = "http://100.100.100.200"


@dataclass(frozen=True, slots=True)
class KmsPlaces:
    """All services. ``ca_pem`` are trust anchors for each of them, beside the system's."""

    aliyun: AliyunPlaces = field(default_factory=AliyunPlaces)
    ca_pem: str | None = None
