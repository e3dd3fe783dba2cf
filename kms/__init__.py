"""Key management services that sealed secrets lie with: one port, a client for each service.

Knows neither sealed secrets nor sockets of ours. A service decrypts a data key
(:class:`KeyDecrypter`) or holds secrets by name (:class:`SecretHolder`).
"""

from __future__ import annotations

from kms.directory import KmsDirectory
from kms.errors import (
    KmsAnswerError,
    KmsCredentialError,
    KmsError,
    KmsRefusedError,
    KmsRequestError,
    KmsUnreachableError,
)
from kms.places import AliyunPlaces, KmsPlaces
from kms.ports import KeyDecrypter, SecretHolder

__all__ = [
    "AliyunPlaces",
    "KeyDecrypter",
    "KmsAnswerError",
    "KmsCredentialError",
    "KmsDirectory",
    "KmsError",
    "KmsPlaces",
    "KmsRefusedError",
    "KmsRequestError",
    "KmsUnreachableError",
    "SecretHolder",
]
