"""The attestation agent: evidence about this TD, measured events, and one session with the KBS.

``attestation.py`` is the agent without a transport, ``service.py`` puts it on ttRPC and
``compose.py`` builds both from configuration.
"""
