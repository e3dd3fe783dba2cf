"""The daemon: attestation agent, confidential data hub and REST server in one process."""
