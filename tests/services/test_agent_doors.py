"""The doors of a whole agent: gRPC with BindInitData, and those of the 0.8 era."""

from __future__ import annotations

from pathlib import Path

import grpc  # type: ignore[import-untyped]
import pytest

from agent.compose import open_agent
from agent.config import AgentConfig, KbsConfig, TeeConfig, TokenConfigs
from agent.init_data_service import InitDataServicer
from protos import attestation_agent_pb2 as aa
from protos import services
from protos.stubs import OlderGetResourceStub
from serving.doors import Door
from serving.opening import open_doors
from tdx.errors import MeasurementError, MeasurementsAbsentError
from tdx.measurements import RegisterName
from tests.services.grpc_peers import OPTIONS
from tests.services.older_kbs import ERAS, serving
from ttrpc import CallContext, Client, Code, StatusError

BIND = f"/{services.ATTESTATION_AGENT}/BindInitData"
DIGEST = bytes(range(32))


def _config(folder: Path, url: str) -> AgentConfig:
    return AgentConfig(
        socket=f"grpc+unix://{folder}/agent.sock",
        keyprovider_socket=f"unix://{folder}/keyprovider.sock",
        getresource_socket=f"unix://{folder}/getresource.sock",
        token_configs=TokenConfigs(kbs=KbsConfig(url, start_spread_seconds=0)),
        tee=TeeConfig(
            report_path=str(folder / "no/tsm/report"),
            measurements_path=str(folder / "no/measurements"),
            ccel_path=str(folder / "no/ccel"),
            attest_conf_path=str(folder / "no/tdx-attest.conf"),
            allow_sample=True,
        ),
    )


def _named(doors: tuple[Door, ...]) -> dict[str, Door]:
    return {f"door-{number}": door for number, door in enumerate(doors)}


async def test_all_doors_of_an_agent(tmp_path: Path) -> None:
    async with serving(ERAS["0.4.0"]) as kbs:
        config = _config(tmp_path, kbs.url)
        async with open_agent(config) as running, open_doors(_named(running.doors)):
            target = f"unix:{tmp_path}/agent.sock"
            async with grpc.aio.insecure_channel(target, options=OPTIONS) as channel:
                tee = channel.unary_unary(
                    f"/{services.ATTESTATION_AGENT}/GetTeeType",
                    request_serializer=aa.GetTeeTypeRequest.SerializeToString,
                    response_deserializer=aa.GetTeeTypeResponse.FromString,
                )
                assert (await tee(aa.GetTeeTypeRequest())).tee == "sample"
                bind = channel.unary_unary(BIND)
                request = aa.BindInitDataRequest(Digest=DIGEST).SerializeToString()
                assert await bind(request) == b""  # as the reference where nothing can be compared
            async with await Client.connect(f"{tmp_path}/getresource.sock") as client:
                reply = await OlderGetResourceStub(client).get_resource(
                    "/default/key/1", kbc_name="cc_kbc", kbs_uri=kbs.url, timeout_s=20
                )
                assert reply.Resource == b"the secret"
            async with await Client.connect(f"{tmp_path}/keyprovider.sock"):
                pass


class Registers:
    """Stands for the registers of a TD."""

    def __init__(self, value: bytes | MeasurementError) -> None:
        self._value = value

    def read(self, name: RegisterName) -> bytes:
        assert name == "mrconfigid"
        if isinstance(self._value, MeasurementError):
            raise self._value
        return self._value


async def _bind(registers: Registers, digest: bytes) -> None:
    request = aa.BindInitDataRequest(Digest=digest)
    reply = await InitDataServicer(registers).bind_init_data(request, CallContext(None, {}, None))
    assert reply == aa.BindInitDataResponse()


@pytest.mark.parametrize("size", [32, 48, 64])
async def test_the_digest_of_this_td_is_bound(size: int) -> None:
    digest = bytes(range(1, size + 1))
    await _bind(Registers(digest[:48].ljust(48, b"\0")), digest)


@pytest.mark.parametrize(
    ("registers", "digest", "says"),
    [
        (Registers(DIGEST.ljust(48, b"\0")), DIGEST[::-1], "initdata"),
        (Registers(bytes(48)), DIGEST, "initdata"),
        (Registers(bytes(48)), b"", "expected a digest of 32, 48 or 64 bytes, got 0"),
        (Registers(bytes(48)), bytes(49), "expected a digest of 32, 48 or 64 bytes, got 49"),
        (Registers(MeasurementsAbsentError("read", "/x", "absent")), DIGEST, "cannot be checked"),
        (Registers(MeasurementError("read", "/x", "I/O error")), DIGEST, "I/O error"),
    ],
    ids=["other", "unbound", "empty", "length", "no registers", "fault"],
)
async def test_another_digest_is_refused(registers: Registers, digest: bytes, says: str) -> None:
    with pytest.raises(StatusError) as caught:
        await _bind(registers, digest)
    assert caught.value.code is Code.INTERNAL
    text = "[ERROR:attestation-agent] AA binding init data failed: "
    assert caught.value.message.startswith(text)
    assert says in caught.value.message
