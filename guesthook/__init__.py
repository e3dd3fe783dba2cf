"""The OCI guest hook: secrets and mounts for one container, through the data hub of the guest.

For agents that do not unseal by themselves. kata-agent starts it with an empty environment before
the container's process runs (``prestart``) and after it ended (``poststop``). Most containers need
nothing of it, so everything beyond reading two JSON documents is imported when there is work.
"""
