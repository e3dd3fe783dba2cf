"""An HTTP client for the REST tests that sends request targets exactly as written."""

from __future__ import annotations

import asyncio

from rest.config import BindAddress


class Browser:
    """An HTTP client that sends targets exactly as written."""

    def __init__(self, address: BindAddress) -> None:
        self.address = address

    async def ask(self, method: str, target: str, body: bytes = b"") -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        reader, writer = await asyncio.open_connection(self.address.host, self.address.port)
        try:
            head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            answer = await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
        top, _, content = answer.partition(b"\r\n\r\n")
        lines = top.decode().split("\r\n")
        headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
        return int(lines[0].split(" ")[1]), headers["content-type"], content
