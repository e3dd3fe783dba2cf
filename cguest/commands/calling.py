"""``cguest call``: any method of any door, with JSON for protobuf."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Final, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from cguest.commands.registry import Verb
from cguest.connection import CommandError, RefusedError, connect
from cguest.files import read_file
from cguest.interface import (
    InterfaceMethod,
    content_of,
    fields_of,
    interface,
    request_from_json,
    set_content,
)
from cguest.outcome import Outcome, Value
from cguest.sockets import Targets
from lifecycle import SocketError, UnixAddress
from protos import services
from ttrpc import StatusError, TtrpcError

MAX_REQUEST: Final = 4 * 1024 * 1024  # bytes, what a message may hold
# Requests of these may hold keys, and an argument list is read by every process of the guest.
NOT_IN_ARGUMENTS: Final = frozenset({services.SEALED_SECRET, services.SECURE_MOUNT})
AGENT_PACKAGES: Final = ("attestation_agent.", services.ATTESTATION_STATUS, "getresource.")
TEACH: Final = """\
REQUEST is JSON with the field names of the .proto files, @FILE that holds it, or - for stdin;
without it the request is empty. Fields of type bytes are base64 in JSON, in both directions:
--set FIELD=@FILE (or FIELD=-) puts content into one as it is, --raw FIELD takes it out so.
Requests of UnsealSecret and SecureMount may hold keys and are not taken from the arguments:
give @FILE, - or --set.

examples:
  cguest call --list
  cguest call attestation_agent.AttestationAgentService/GetTeeType
  cguest call api.GetResourceService/GetResource '{"ResourcePath":"kbs:///default/key/1"}'
  cguest call api.SealedSecretService/UnsealSecret --set secret=@secret.sealed --raw plaintext
  cguest call --grpc 127.0.0.1:50002 attestation_agent.AttestationAgentService/GetTeeType

Exit code 1: somebody who may decide said no; 3: the door answered with an error, or not at all."""


def _method(text: str) -> InterfaceMethod:
    found = interface().get(text.removeprefix("/"))
    if found is None:
        raise argparse.ArgumentTypeError(f"no method {text!r}; see cguest call --list")
    return found


def _grpc_address(text: str) -> str:
    from cguest.grpc_asking import check_address  # grpclib is slow to import

    try:
        return check_address(text)
    except ValueError:
        problem = f"{text!r} is neither HOST:PORT nor grpc+unix:///PATH"
        raise argparse.ArgumentTypeError(problem) from None


def _content(text: str) -> tuple[str, Path]:
    name, _, source = text.partition("=")
    if not name or (source != "-" and not source.startswith("@")) or source == "@":
        raise argparse.ArgumentTypeError("expected FIELD=@FILE or FIELD=-")
    return name, Path(source.removeprefix("@"))


def _unix(text: str) -> UnixAddress:
    try:
        return UnixAddress.parse(text)
    except SocketError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _wrong(args: argparse.Namespace, problem: str) -> NoReturn:
    """End the program with exit code 2."""
    parser: argparse.ArgumentParser = args.parser
    parser.error(problem)


def _request(args: argparse.Namespace, method: InterfaceMethod) -> Message:
    """Build the request. Ends the program with exit code 2 where the arguments are wrong."""
    text: str | None = args.request
    if text is None:
        encoded = b"{}"
    elif text == "-" or text.startswith("@"):
        encoded = read_file(Path(text.removeprefix("@")), MAX_REQUEST)
    elif method.service in NOT_IN_ARGUMENTS:
        _wrong(args, f"the request of {method.name} may hold keys: give @FILE or -")
    else:
        encoded = text.encode(errors="surrogateescape")
    request = request_from_json(method, encoded)
    for name, source in args.contents:
        set_content(method, request, name, read_file(source, MAX_REQUEST))
    return request


def _door(
    args: argparse.Namespace, method: InterfaceMethod, targets: Targets
) -> tuple[UnixAddress, str]:
    if args.socket is not None:
        return args.socket, "given socket"
    if method.service.startswith(AGENT_PACKAGES):
        return targets.agent, "attestation agent"
    return targets.hub, "data hub"


async def _ask(
    args: argparse.Namespace, method: InterfaceMethod, request: Message, targets: Targets
) -> Message:
    """Raises :class:`ttrpc.TtrpcError` and what :func:`connect` raises."""
    if args.grpc is not None:
        from cguest.grpc_asking import ask  # grpclib is slow to import

        path = f"/{method.full_name}"
        return await ask(args.grpc, path, request, method.response_type, args.timeout)
    address, name = _door(args, method, targets)
    async with connect(address, name) as client:
        try:
            return await client.call(
                method.service, method.name, request, method.response_type, timeout_s=args.timeout
            )
        except StatusError as error:
            raise _told(error) from error


def _told(error: StatusError) -> CommandError | RefusedError:
    """The answer with its code, which the other commands leave out."""
    text = f"code {int(error.code)} {error.code.name}: {error.message}"
    return RefusedError(text) if error.refused else CommandError(text)


async def call(args: argparse.Namespace, targets: Targets) -> Outcome:
    if args.list:
        return _listing()
    method: InterfaceMethod | None = args.method
    if method is None:
        _wrong(args, "METHOD is missing; cguest call --list shows every one")
    if args.raw is not None and args.raw not in fields_of(method.response):
        _wrong(args, f"the reply of {method.name} has no field {args.raw!r}")
    request = _request(args, method)
    try:
        reply = await _ask(args, method, request, targets)
    except StatusError as error:
        raise _told(error) from error
    except TtrpcError as error:
        raise CommandError(f"calling {method.full_name}: {error}") from error
    if args.raw is None:
        data = json_format.MessageToDict(reply, preserving_proto_field_name=True)
        return Outcome(data, text=json.dumps(data, indent=2, ensure_ascii=False))
    content = content_of(method, reply, args.raw)
    if content is None:
        raise CommandError(f"{args.raw} of {method.name} is neither bytes nor text")
    return Outcome(raw=content)


def _listing() -> Outcome:
    found = sorted(interface().values(), key=lambda method: method.full_name)
    lines = []
    for method in found:
        request, response = _fields(method.request), _fields(method.response)
        lines.append(f"{method.full_name}\n    takes {request}\n    gives {response}")
    data: dict[str, Value] = {
        method.full_name: {
            "request": fields_of(method.request),
            "response": fields_of(method.response),
        }
        for method in found
    }
    return Outcome(data, text="\n".join(lines))


def _fields(message: Descriptor) -> str:
    fields = [f"{kind} {name}" for name, kind in fields_of(message).items()]
    return ", ".join(fields) or "nothing"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument("method", metavar="METHOD", nargs="?", type=_method,
                        help="package.Service/Method")  # fmt: skip
    parser.add_argument("request", metavar="REQUEST", nargs="?", help="JSON, @FILE or -")
    parser.add_argument("--list", action="store_true", help="print every method and its fields")
    parser.add_argument(
        "--set", dest="contents", metavar="FIELD=@FILE", action="append", default=[],
        type=_content, help="content of a field, as it is in FILE or on stdin (-)",
    )  # fmt: skip
    parser.add_argument("--raw", metavar="FIELD", help="print this field of the reply as it is")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--socket", metavar="unix:///PATH", type=_unix,
                       help="default: where the service is in the configuration")  # fmt: skip
    where.add_argument("--grpc", metavar="ADDRESS", type=_grpc_address,
                       help="HOST:PORT or grpc+unix:///PATH, call over gRPC")  # fmt: skip
    # Also known before the verb; only given here does it count here.
    parser.add_argument("--timeout", type=float, default=argparse.SUPPRESS, metavar="S",
                        help="seconds (default 50)")  # fmt: skip


TOP = (
    Verb("call", "call any method of any door, with JSON for protobuf", call, _arguments, TEACH),
)
