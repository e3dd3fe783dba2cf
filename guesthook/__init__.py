"""The OCI guest hook: secrets and mounts for one container, through the data hub of the guest."""
