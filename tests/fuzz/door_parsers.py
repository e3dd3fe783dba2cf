"""Everything that parses what a host, a peer or a workload sends, as targets for a fuzzer.

No I/O. A target gets bytes and may raise its own errors; anything else is a finding, and so is an
assertion that does not hold.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config import AgentConfig
from cdh.config import CdhConfig
from cdh.errors import CdhError
from cdh.sealed.payload import parse_payload
from cdh.sealed.textual import decode_section, parse_sealed_text
from guesthook.errors import HookError
from guesthook.plan import make_plan
from guesthook.settings import HookSettings, parse_settings
from guesthook.spec import parse_spec
from guesthook.state import parse_state
from keywrap.envelope import parse_unwrap_request
from keywrap.errors import KeywrapError
from keywrap.older import parse_older_unwrap_request
from keywrap.unwrap import open_packet
from lifecycle import LifecycleError
from lifecycle.kernel_command_line import KernelCommandLine
from lifecycle.settings import parse_tree
from lifecycle.sources import Layers, Source, SourceKind
from rest.config import RestConfig
from rest.errors import CallerUnknownError, RestError
from rest.forgery import ForgeryGuard
from rest.identity import bundle_annotations, cgroup_paths, container_id
from rest.routes import MAX_TARGET, Feature, ResourceCall, authority_of, parse_event, route
from rest.rules import resource_segments
from secrecy import Secret
from tdx.errors import InitdataError
from tdx.initdata import IMAGE_HEAD_BYTES, MAX_DOCUMENT_BYTES, Initdata, packed_length, unpack
from ttrpc.errors import TtrpcError
from ttrpc.frames import FrameDecoder
from ttrpc.messages import decode_request, decode_response, metadata_of, timeout_of

KEK: Final = b"k" * 32


@dataclass(frozen=True, slots=True)
class DoorTarget:
    """``run`` may return, or raise one of ``errors``; ``seeds`` are inputs that go far."""

    name: str
    run: Callable[[bytes], object]
    errors: tuple[type[Exception], ...]
    seeds: tuple[bytes, ...]

    def holds(self, data: bytes) -> None:
        """Run once. Raises whatever is a finding."""
        try:
            self.run(data)
        except self.errors as error:
            _require_short(error)


def _require_short(error: Exception) -> None:
    assert len(str(error)) < 4096, "an error as long as what a peer sent"


def _frames(data: bytes) -> None:
    """The pieces a stream comes in make no difference."""
    whole, pieces = FrameDecoder(), FrameDecoder()
    whole.feed(data)
    expected = list(iter(whole.next_frame, None))
    got: list[object] = []
    step = 1 + (data[0] if data else 0)
    for start in range(0, len(data), step):
        pieces.feed(data[start : start + step])
        got += iter(pieces.next_frame, None)
    assert got == expected


def _envelopes(data: bytes) -> None:
    try:
        request = decode_request(data)
        timeout_of(request)
        metadata_of(request)
    finally:
        decode_response(data)


def _routing(data: bytes) -> None:
    method, _, rest = data.decode("utf-8", "surrogateescape").partition(" ")
    target, _, host = rest.partition(" ")
    guard = ForgeryGuard.parse("X-Cguest-Request: yes", ["guest.local"])
    guard.refusal(["yes"], [host], authority_of(target))
    for feature in Feature:
        call = route(method, target, feature)
        if isinstance(call, ResourceCall):
            assert len(target) <= MAX_TARGET
            assert feature.has_resource
            segments = resource_segments(call.uri)
            assert segments is None or all(segments)


def _callers(data: bytes) -> None:
    first, _, rest = data.partition(b"\0")
    paths = cgroup_paths(first.decode("utf-8", "surrogateescape"))
    found = container_id(paths, lambda name: len(name) % 2 == 0)
    assert found is None or "/" not in found
    bundle_annotations(rest)


def _sealed(data: bytes) -> None:
    text = parse_sealed_text(data)
    decode_section("signature", text.signature)
    parse_payload(decode_section("payload", text.payload))


async def _kek(_uri: str) -> Secret:
    return Secret(KEK)


def _key_provider(data: bytes) -> None:
    try:
        parse_older_unwrap_request(data)
    except KeywrapError:
        request = parse_unwrap_request(data)
        opening = open_packet(request.packet, _kek)
        # Nothing in it waits: the first step ends it.
        try:
            opening.send(None)
        except StopIteration:
            return
        raise AssertionError("waits for something") from None


def _packet(data: bytes) -> None:
    asyncio.run(_opened(data))


async def _opened(data: bytes) -> None:
    await open_packet(data, _kek)


def _configuration(data: bytes) -> None:
    ending, _, text = data.partition(b"\n")
    name = "c.json" if ending.startswith(b"j") else "c.toml" if ending.startswith(b"t") else "c"
    tree = parse_tree(text, Path(name))
    kinds: tuple[type[CdhConfig | AgentConfig | RestConfig], ...] = (
        CdhConfig,
        AgentConfig,
        RestConfig,
    )
    for kind in kinds:
        layers = Layers()
        try:
            layers.add_tree(tree, Source(SourceKind.FILE, name), {})
            layers.decode(kind).value.check()
        except (LifecycleError, CdhError, RestError) as error:
            _require_short(error)
    parse_settings(tree, name)


def _command_line(data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    found = KernelCommandLine.parse(text)
    assert all(name and "=" not in name for name in found.parameters)
    assert sum(map(len, found.parameters)) <= len(text)


def _initdata_image(data: bytes) -> None:
    length = packed_length(data[:IMAGE_HEAD_BYTES])
    if length is not None:
        assert len(unpack(data[IMAGE_HEAD_BYTES:][:length])) <= MAX_DOCUMENT_BYTES


def _hook(data: bytes) -> None:
    state, _, config = data.partition(b"\0")
    try:
        parse_state(state)
    finally:
        make_plan(parse_spec(config, "/run/kata-containers/x"), HookSettings())


_UNWRAP: Final = json.dumps(
    {
        "op": "keyunwrap",
        "keywrapparams": {"ec": None, "optsdata": None},
        "keyunwrapparams": {
            "dc": {"Parameters": {"attestation-agent": ["Y2NfYmM6Omh0dHA6Ly9r"]}},
            "annotation": base64.b64encode(
                b'{"kid":"kbs:///a/b/c","wrapped_data":"AAAA","iv":"AAAAAAAAAAAAAAAA",'
                b'"wrap_type":"A256GCM"}'
            ).decode(),
        },
    }
).encode()
_PACKET: Final = (
    b'{"version":"0.1.0","kid":"kbs:///a/b/c","wrapped_data":"AAAA","provider":"kbs",'
    b'"iv":"AAAAAAAAAAAAAAAAAAAAAA==","wrap_type":"A256CTR","annotations":{}}'
)
_STATE: Final = b'{"ociVersion":"1.0.2","id":"x","pid":7,"bundle":"/run/kata-containers/x"}'
_SPEC: Final = (
    b'{"root":{"path":"rootfs"},"process":{"env":["A=sealed.a.b.c","B"]},"mounts":[{"destination":'
    b'"/m","source":"/run/kata-containers/shared/containers/s","options":["ro"]}],'
    b'"annotations":{"io.kubernetes.cri.container-name":"n"}}'
)
_DOCUMENT: Final = b'version = "0.1.0"\nalgorithm = "sha384"\n[data]\n"aa.toml" = "a = 1"\n'
_PACKED: Final = gzip.compress(_DOCUMENT, mtime=0)
_JWS: Final = base64.urlsafe_b64encode(
    b'{"version":"0.1.0","type":"vault","name":"kbs:///a/b/c","provider":"kbs",'
    b'"provider_settings":{},"annotations":{}}'
).rstrip(b"=")

PARSERS: Final = (
    DoorTarget(
        "ttrpc-frames", _frames, (TtrpcError,),
        (bytes.fromhex("0000000300000001010001020300400001000000010100ff"),),
    ),
    DoorTarget(
        "ttrpc-envelopes", _envelopes, (TtrpcError,),
        (b"\x0a\x03a.B\x12\x01M\x1a\x02\x08\x01\x20\x80\x94\xeb\xdc\x03\x2a\x06\x0a\x01k\x12\x01v",
         b"\x0a\x06\x08\x03\x12\x02no\x12\x02ok"),
    ),
    DoorTarget(
        "rest-routing", _routing, (),
        (b"GET /cdh/resource/a/b/c localhost:8006", b"POST /aa/aael [::1]:1",
         b"GET /aa/evidence?runtime_data=AAEC&encoding=base64 127.0.0.1",
         b"GET http://localhost/aa/token?token_type=kbs guest.local"),
    ),
    DoorTarget(
        "rest-events", parse_event, (), (b'{"domain":"d","operation":"o","content":"c"}',)
    ),
    DoorTarget(
        "rest-callers", _callers, (CallerUnknownError,),
        (b"0::/kubepods.slice/cri-containerd-" + b"a" * 64 + b".scope\n\0" + _SPEC,
         b"12:pids:/a/b\n1:name=systemd:/\n0::/x\n\0{}"),
    ),
    DoorTarget("sealed-secrets", _sealed, (CdhError,), (b"sealed.e30." + _JWS + b".AAAA\n",)),
    DoorTarget("key-provider", _key_provider, (KeywrapError,), (_UNWRAP,)),
    DoorTarget(
        "annotation-packets", _packet, (KeywrapError,),
        (_PACKET,),
    ),
    DoorTarget(
        "configuration", _configuration, (LifecycleError, HookError),
        (b't\nsocket = "unix:///a"\n[kbc]\nname = "cc_kbc"\nurl = "http://k"\n',
         b't\n[token_configs.kbs]\nurl = "http://k"\n[eventlog_config]\nenable_eventlog = true\n',
         b'j\n{"bind":"127.0.0.1:8006","features":"all"}',
         b't\nenvironment = "files"\nbundle_roots = ["/a"]\n'),
    ),
    DoorTarget(
        "command-line", _command_line, (),
        (b'a=b agent.aa_kbc_params=cc_kbc::http://k:1 "c=d e" f="g h" i',),
    ),
    DoorTarget("initdata", Initdata.of_document, (InitdataError,), (_DOCUMENT,)),
    DoorTarget(
        "initdata-image", _initdata_image, (InitdataError,),
        (b"initdata" + len(_PACKED).to_bytes(8, "little") + _PACKED + bytes(16),),
    ),
    DoorTarget("hook-input", _hook, (HookError,), (_STATE + b"\0" + _SPEC,)),
)  # fmt: skip
