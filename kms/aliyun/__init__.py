"""Alibaba Cloud KMS: dedicated instances by client key, else by RAM role or STS token.

No SDK of Alibaba's is used; docs/adr/0016-kms-clients.md says why.
"""
