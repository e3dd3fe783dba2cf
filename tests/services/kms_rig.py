"""A mock KMS, its client key and the credential files of a guest, for the tests of the clients."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from kms import AliyunPlaces, KmsDirectory, KmsPlaces
from mocktee.certs import provide_tls
from mocktee.kms import KmsClientKey, MockKms, make_client_key

CLIENT_KEY_ID = "KAAP.mock-client-key"
INSTANCE = "kst-mock0001"
REGION = "cn-hangzhou"
ROLE = "guest-role"
KEY = "key-for-data"
GATEWAY = {
    "client_type": b'"client_key"',
    "client_key_id": f'"{CLIENT_KEY_ID}"'.encode(),
    "kms_instance_id": f'"{INSTANCE}"'.encode(),
}
RAM_ROLE = {"client_type": b'"ecs_ram_role"'}


@dataclass(frozen=True, slots=True)
class KmsRig:
    """A mock with one key, one secret and one role, and a directory that knows it."""

    mock: MockKms
    directory: KmsDirectory
    credentials: Path
    root: Path

    def sts(self, name: str = "token.txt") -> dict[str, bytes]:
        """Return the settings of an STS token file below the root."""
        return {
            "client_type": b'"sts_token"',
            "token_path": f'"{self.root / name}"'.encode(),
            "region_id": f'"{REGION}"'.encode(),
        }


@asynccontextmanager
async def kms_rig(
    tmp_path: Path, client_key: KmsClientKey, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[KmsRig]:
    """Start a mock and write the credential files of one guest."""
    tls = provide_tls(tmp_path / "tls")
    root = tmp_path / "kbs"
    folder = root / "kms-credential" / "aliyun"
    folder.mkdir(parents=True)
    (folder / f"clientKey_{CLIENT_KEY_ID}.json").write_bytes(client_key.client_key_json)
    (folder / f"password_{CLIENT_KEY_ID}.json").write_text(client_key.password + "\n")
    (folder / f"PrivateKmsCA_{INSTANCE}.pem").write_bytes(tls.ca.read_bytes())
    (folder / "ecsRamRole.json").write_text(
        f'{{"ecs_ram_role_name": "{ROLE}", "region_id": "{REGION}"}}'
    )
    (root / "token.txt").write_text("STS.id:sts-secret:sts-token\n")
    async with MockKms.start(tls.server_context(), clock=clock) as mock:
        mock.keys.client_keys[CLIENT_KEY_ID] = client_key.public_key
        mock.keys.add_key(KEY)
        mock.keys.add_secret("database", "s3cret")
        mock.add_role(ROLE, "STS.role", "role-secret", "role-token")
        mock.openapi.access_keys["STS.id"] = ("sts-secret", "sts-token")
        places = AliyunPlaces(folder, root, mock.url + "/", mock.url, mock.metadata_url)
        ca_pem = tls.ca.read_text()
        yield KmsRig(mock, KmsDirectory(KmsPlaces(places, ca_pem)), folder, root)


def new_client_key() -> KmsClientKey:
    """Make a client key; takes a tenth of a second, so share it."""
    return make_client_key(CLIENT_KEY_ID)
