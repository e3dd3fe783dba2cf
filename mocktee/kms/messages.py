"""The protobuf messages of a dedicated instance, described at run time.

Owns field names and numbers, as the service publishes them; the client has its own copy.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_FILE: Final = "mocktee/kms/dkms.proto"
_PACKAGE: Final = "mocktee.kms"
_TEXT: Final = descriptor_pb2.FieldDescriptorProto.TYPE_STRING
_BYTES: Final = descriptor_pb2.FieldDescriptorProto.TYPE_BYTES
_BOOL: Final = descriptor_pb2.FieldDescriptorProto.TYPE_BOOL
_INT32: Final = descriptor_pb2.FieldDescriptorProto.TYPE_INT32

_MESSAGES: Final[dict[str, tuple[tuple[str, int, Any], ...]]] = {
    "EncryptRequest": (
        ("KeyId", 1, _TEXT), ("Plaintext", 2, _BYTES), ("Algorithm", 3, _TEXT),
        ("Aad", 4, _BYTES), ("Iv", 5, _BYTES), ("PaddingMode", 6, _TEXT),
    ),
    "EncryptResponse": (
        ("KeyId", 1, _TEXT), ("CiphertextBlob", 2, _BYTES), ("Iv", 3, _BYTES),
        ("RequestId", 4, _TEXT), ("Algorithm", 5, _TEXT),
    ),
    "DecryptRequest": (
        ("CiphertextBlob", 1, _BYTES), ("KeyId", 2, _TEXT), ("Algorithm", 3, _TEXT),
        ("Aad", 4, _BYTES), ("Iv", 5, _BYTES), ("PaddingMode", 6, _TEXT),
    ),
    "DecryptResponse": (
        ("KeyId", 1, _TEXT), ("Plaintext", 2, _BYTES), ("RequestId", 3, _TEXT),
        ("Algorithm", 4, _TEXT),
    ),
    "GetSecretValueRequest": (
        ("SecretName", 1, _TEXT), ("VersionStage", 2, _TEXT), ("VersionId", 3, _TEXT),
        ("FetchExtendedConfig", 4, _BOOL),
    ),
    "GetSecretValueResponse": (
        ("SecretName", 1, _TEXT), ("SecretType", 2, _TEXT), ("SecretData", 3, _TEXT),
        ("SecretDataType", 4, _TEXT), ("VersionId", 6, _TEXT), ("RequestId", 8, _TEXT),
    ),
    "Error": (
        ("StatusCode", 1, _INT32), ("ErrorCode", 2, _TEXT), ("ErrorMessage", 3, _TEXT),
        ("RequestId", 4, _TEXT),
    ),
}  # fmt: skip


def _pool() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            message.field.add(
                name=field,
                number=number,
                type=kind,
                label=descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
            )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


_POOL: Final = _pool()


def message(name: str) -> Any:
    """Return an empty message of the given name."""
    found = _POOL.FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)()
