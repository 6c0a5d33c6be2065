"""HTTP by hand: 32 callers of an HTTP library cost as much as a small model."""

import asyncio
from urllib.parse import urlsplit


class Caller:
    """One caller on one connection, which asks and waits for its answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, url: str) -> "Caller":
        address = urlsplit(url)
        return cls(*await asyncio.open_connection(address.hostname, address.port))

    async def ask(self, path: str, body: bytes) -> tuple[int, bytes]:
        """POST a JSON body; the status and the content of the answer."""
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
        self._writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        content = await self._reader.readexactly(int(answer.partition(b"content-length:")[2].split()[0]))
        return int(answer.split(maxsplit=2)[1]), content

    async def leave(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()
