"""Which OSS operation a request is, and the function that carries it out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mocktee.oss import listing_operations, multipart, reading, writing
from mocktee.oss.call import Operation
from mocktee.oss.errors import OssAnswerError
from mocktee.oss.request import OssRequest

OPERATIONS: Final[Mapping[str, Operation]] = {
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "AppendObject": writing.append_object,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "CopyObject": writing.copy_object,
    "DeleteMultipleObjects": writing.delete_multiple_objects,
    "DeleteObject": writing.delete_object,
    "GetBucketInfo": listing_operations.get_bucket_info,
    "GetBucketLocation": listing_operations.get_bucket_location,
    "GetBucketStat": listing_operations.get_bucket_stat,
    "GetObject": reading.get_object,
    "GetObjectMeta": reading.get_object_meta,
    "GetSymlink": reading.get_symlink,
    "HeadObject": reading.head_object,
    "InitiateMultipartUpload": multipart.initiate_multipart_upload,
    "ListMultipartUploads": multipart.list_multipart_uploads,
    "ListObjects": listing_operations.list_objects,
    "ListObjectsV2": listing_operations.list_objects_v2,
    "ListParts": multipart.list_parts,
    "PutObject": writing.put_object,
    "PutSymlink": writing.put_symlink,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": multipart.upload_part_copy,
}

# Sub-resources in the query decide before the plain method does; the first that is present wins.
_BUCKET_CALLS: Final = {
    "GET": {
        "bucketInfo": "GetBucketInfo",
        "location": "GetBucketLocation",
        "stat": "GetBucketStat",
        "uploads": "ListMultipartUploads",
    },
    "POST": {"delete": "DeleteMultipleObjects"},
}
_OBJECT_CALLS: Final = {
    "GET": {"uploadId": "ListParts", "symlink": "GetSymlink", "": "GetObject"},
    "HEAD": {"objectMeta": "GetObjectMeta", "": "HeadObject"},
    "PUT": {"partNumber": "UploadPart", "symlink": "PutSymlink", "": "PutObject"},
    "POST": {
        "append": "AppendObject",
        "uploads": "InitiateMultipartUpload",
        "uploadId": "CompleteMultipartUpload",
    },
    "DELETE": {"uploadId": "AbortMultipartUpload", "": "DeleteObject"},
}
# Sub-resources of OSS that this server does not have; without this list a GET of ?acl would read
# the object.
_ABSENT_NAMES: Final = """
acl callback comp cors encryption inventory lifecycle live logging objectInfo policy qos
referer replication requestPayment restore tagging versionId versioning versions website
worm x-oss-process x-oss-rename x-oss-async-process
"""
_ABSENT: Final = frozenset(_ABSENT_NAMES.split())


def operation_of(request: OssRequest) -> str:
    """The operation's name. Raises :class:`OssAnswerError` for what the server does not have."""
    absent = sorted(_ABSENT & request.query.keys())
    if absent or not request.bucket:
        raise OssAnswerError(
            "NotImplemented",
            "A header or query you provided implies functionality that is not implemented: "
            + (", ".join(absent) or "service calls")
            + ".",
        )
    table = (_OBJECT_CALLS if request.key else _BUCKET_CALLS).get(request.method, {})
    for parameter, name in table.items():
        if parameter in request.query or not parameter:
            return _copying(request, name)
    if request.method == "GET" and not request.key:
        return "ListObjectsV2" if request.query.get("list-type") == "2" else "ListObjects"
    raise OssAnswerError(
        "MethodNotAllowed", "The specified method is not allowed against this resource."
    )


def _copying(request: OssRequest, name: str) -> str:
    if "x-oss-copy-source" not in request.headers:
        return name
    return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(name, name)
