"""Ends TLS before the services, as a cloud's load balancer does.

    python -m lab.openstack.tls CERTIFICATE KEY PUBLIC:PLAIN …

Each pair of ports on loopback is one service: what comes to PUBLIC by TLS goes to PLAIN as it is. The services' web
server could speak TLS itself, but gets stuck when it does.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

_HOST = "127.0.0.1"
_CHUNK = 256 << 10
_HANDSHAKE_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 60.0
_Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            await writer.wait_closed()  # what is still in the buffer goes out first
    except (OSError, TimeoutError):
        writer.transport.abort()  # the other side went away, or takes nothing any more


def _to(plain_port: int) -> _Serve:
    """What serves one service: a connection lives until one of its sides ends it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind = await asyncio.open_connection(_HOST, plain_port, limit=_CHUNK)
        except OSError as error:
            print(f"port {plain_port}: {error}", file=sys.stderr, flush=True)
            await _close(writer)
            return
        ways = [asyncio.ensure_future(_forward(reader, behind[1])), asyncio.ensure_future(_forward(behind[0], writer))]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        for ended in await asyncio.gather(*ways, return_exceptions=True):
            if isinstance(ended, Exception) and not isinstance(ended, OSError):  # a side that went away is no news
                print(f"port {plain_port}: {ended!r}", file=sys.stderr, flush=True)
        await _close(writer)
        await _close(behind[1])

    return serve


async def _run(certificate: Path, key: Path, pairs: Sequence[tuple[int, int]]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    servers = [
        await asyncio.start_server(
            _to(plain),
            _HOST,
            public,
            ssl=context,
            ssl_handshake_timeout=_HANDSHAKE_TIMEOUT_S,
            limit=_CHUNK,
        )
        for public, plain in pairs
    ]
    await asyncio.gather(*(server.serve_forever() for server in servers))


def _pair(text: str) -> tuple[int, int]:
    public, _, plain = text.partition(":")
    return int(public), int(plain)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(prog="python -m lab.openstack.tls")
    parser.add_argument("certificate", type=Path)
    parser.add_argument("key", type=Path)
    parser.add_argument("ports", type=_pair, nargs="+")
    wanted = parser.parse_args()
    asyncio.run(_run(wanted.certificate, wanted.key, wanted.ports))


if __name__ == "__main__":
    main()
