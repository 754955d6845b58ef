"""Ends TLS in front of a server on loopback, as stunnel does.

Usage: ``python -m engines.tls_front SERVER_PORT CERTIFICATE_AND_KEY``
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from contextlib import suppress

HOST = "127.0.0.1"


async def main(server_port: int, certificate: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_connection(HOST, server_port)
        await asyncio.gather(pump(reader, server_writer), pump(server_reader, writer))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    listener = await asyncio.start_server(serve, HOST, 0, ssl=context)
    print("listens on", listener.sockets[0].getsockname()[1], flush=True)
    await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
