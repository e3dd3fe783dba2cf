"""The programs behind gRPC doors, by nothing but their configuration."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc  # type: ignore[import-untyped]

from demo.stage import free_port
from protos import attestation_agent_pb2 as aa
from protos import keyprovider_pb2, services
from tests.conftest import ROOT
from tests.services.grpc_peers import OPTIONS as OVER_GRPC
from tests.wire.keywrap_samples import KEK, OPTIONS, b64, gcm_packet, reply_options, request_for

AGENT = """
socket = "grpc+unix://{folder}/agent.sock"
[tee]
allow_sample = true
report_path = "{folder}/no/tsm"
measurements_path = "{folder}/no/measurements"
ccel_path = "{folder}/no/ccel"
attest_conf_path = "{folder}/no/tdx-attest.conf"
"""
HUB = """
socket = "127.0.0.1:{port}"
[kbc]
name = "offline_fs_kbc"
offline_files = ["{folder}/keys.json"]
"""


@asynccontextmanager
async def _program(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program of ours; afterwards it ends in order when asked to."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", *arguments, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        async with asyncio.timeout(20):
            assert await process.wait() == 0


def _channel(target: str) -> grpc.aio.Channel:
    # A first attempt meets nobody; the next one is to come soon.
    soon = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 100)]
    return grpc.aio.insecure_channel(target, options=[*OVER_GRPC, *soon])


async def test_the_hub_unwraps_on_a_loopback_port(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "keys.json").write_text(json.dumps({"default/image-kek/test-1": b64(KEK)}))
    config = tmp_path / "cdh.toml"
    config.write_text(HUB.format(port=port, folder=tmp_path))
    target = f"127.0.0.1:{port}"
    async with _program("cdh", "-c", str(config)), _channel(target) as channel:
        unwrap = channel.unary_unary(f"/{services.KEY_PROVIDER}/UnWrapKey")
        message = keyprovider_pb2.KeyProviderKeyWrapProtocolInput(
            KeyProviderKeyWrapProtocolInput=request_for(gcm_packet())
        )
        reply = await unwrap(message.SerializeToString(), wait_for_ready=True, timeout=30)
        output = keyprovider_pb2.KeyProviderKeyWrapProtocolOutput.FromString(reply)
        assert reply_options(output.KeyProviderKeyWrapProtocolOutput) == OPTIONS


async def test_the_agent_answers_on_a_unix_socket(tmp_path: Path) -> None:
    config = tmp_path / "aa.toml"
    config.write_text(AGENT.format(folder=tmp_path))
    target = f"unix:{tmp_path}/agent.sock"
    async with _program("agent", "-c", str(config)), _channel(target) as channel:
        tee = channel.unary_unary(f"/{services.ATTESTATION_AGENT}/GetTeeType")
        reply = await tee(b"", wait_for_ready=True, timeout=30)
        assert aa.GetTeeTypeResponse.FromString(reply).tee == "sample"
        bind = channel.unary_unary(f"/{services.ATTESTATION_AGENT}/BindInitData")
        digest = aa.BindInitDataRequest(Digest=bytes(48)).SerializeToString()
        assert await bind(digest, timeout=30) == b""
