"""Every service and method of our protos, found by reflection, and requests made from JSON.

No I/O. Nothing here is written a second time: what the ``.proto`` files declare is what is listed.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import protos

_TYPES = {
    getattr(FieldDescriptor, name): name.removeprefix("TYPE_").lower()
    for name in dir(FieldDescriptor)
    if name.startswith("TYPE_")
}


class RequestTextError(Exception):
    """The request given does not fit the method. Holds no value of it."""

    def __init__(self, method: str, problem: str) -> None:
        self.hint = ""
        super().__init__(f"request of {method}: {problem}")


@dataclass(frozen=True, slots=True)
class InterfaceMethod:
    """A method as declared. ``service`` is the full name, for example ``api.GetResourceService``"""

    service: str
    name: str
    request: Descriptor
    response: Descriptor

    @property
    def full_name(self) -> str:
        return f"{self.service}/{self.name}"

    def new_request(self) -> Message:
        return GetMessageClass(self.request)()

    @property
    def response_type(self) -> type[Message]:
        return GetMessageClass(self.response)


def _files() -> Iterator[FileDescriptor]:
    for module in sorted(found.name for found in pkgutil.iter_modules(protos.__path__)):
        if module.endswith("_pb2"):
            yield importlib.import_module(f"protos.{module}").DESCRIPTOR


def interface() -> Mapping[str, InterfaceMethod]:
    """Return every method by its full name, ``package.Service/Method``."""
    return {
        found.full_name: found
        for file in _files()
        for service in file.services_by_name.values()
        for method in service.methods
        for found in [
            InterfaceMethod(service.full_name, method.name, method.input_type, method.output_type)
        ]
    }


def type_of(field: FieldDescriptor) -> str:
    """Return the type of a field as a ``.proto`` file words it."""
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        key, value = message.fields_by_name["key"], message.fields_by_name["value"]
        return f"map<{type_of(key)}, {type_of(value)}>"
    named = message or field.enum_type
    kind = named.name if named is not None else _TYPES[field.type]
    if field.is_repeated:
        return f"repeated {kind}"
    # Only what is declared optional is in a oneof here.
    return f"optional {kind}" if field.containing_oneof is not None else kind


def fields_of(message: Descriptor) -> dict[str, str]:
    """Return name and type of every field, in the order of their numbers."""
    ordered = sorted(message.fields, key=lambda field: field.number)
    return {field.name: type_of(field) for field in ordered}


def request_from_json(method: InterfaceMethod, text: bytes) -> Message:
    """Read a request in the JSON form of protobuf. Raises :class:`RequestTextError`."""
    request = method.new_request()
    try:
        json_format.Parse(text, request, max_recursion_depth=20)
    except json_format.ParseError:
        # Without "from" and without its text, which may quote the value.
        expected = ", ".join(f"{name} ({kind})" for name, kind in fields_of(method.request).items())
        problem = f"not a JSON object of these fields: {expected or 'none'}"
        raise RequestTextError(method.full_name, problem) from None
    except UnicodeDecodeError:
        raise RequestTextError(method.full_name, "not UTF-8 text") from None
    return request


def set_content(method: InterfaceMethod, request: Message, name: str, content: bytes) -> None:
    """Set a field of type bytes or string to ``content``. Raises :class:`RequestTextError`."""
    field = method.request.fields_by_name.get(name)
    if field is None or field.is_repeated or type_of(field) not in ("bytes", "string"):
        known = [n for n, kind in fields_of(method.request).items() if kind in ("bytes", "string")]
        problem = f"no field {name} that takes content, only {', '.join(known) or 'none'}"
        raise RequestTextError(method.full_name, problem)
    try:
        value = content if type_of(field) == "bytes" else content.decode()
    except UnicodeDecodeError:
        raise RequestTextError(method.full_name, f"{name} is text, and this is not") from None
    setattr(request, name, value)


def content_of(method: InterfaceMethod, reply: Message, name: str) -> bytes | None:
    """Return a bytes or string field of a reply as bytes, None if there is no such field."""
    field = method.response.fields_by_name.get(name)
    if field is None or field.is_repeated or type_of(field) not in ("bytes", "string"):
        return None
    value = getattr(reply, name)
    return value.encode() if isinstance(value, str) else bytes(value)
