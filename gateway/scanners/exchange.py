"""One question to a scanner over a connection of its own: sent piece by piece while the answer is awaited.

A scanner may answer before it has read everything, and stop reading then; so nobody waits for the end of sending.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from gateway.scanners.endpoints import Endpoint

T = TypeVar("T")

PIECE = 64 * 1024  # octets
Octets = bytes | Sequence[bytes]  # a message, whole or as what stands before it and itself


def size_of(message: Octets) -> int:
    return len(message) if isinstance(message, bytes) else sum(map(len, message))


def pieces_of(message: Octets) -> Iterator[memoryview]:
    """Views of the octets: a large message is not copied."""
    for octets in (message,) if isinstance(message, bytes) else message:
        view = memoryview(octets)
        for start in range(0, len(view), PIECE):
            yield view[start : start + PIECE]


async def exchange(
    endpoint: Endpoint,
    send: Callable[[asyncio.StreamWriter], Awaitable[None]],
    receive: Callable[[asyncio.StreamReader], Awaitable[T]],
) -> T:
    """What `receive` gives. Raises OSError where nobody listens, and what `receive` raises."""
    reader, writer = await endpoint.connect()
    sending = asyncio.ensure_future(send(writer))
    try:
        return await receive(reader)
    finally:
        sending.cancel()
        writer.transport.abort()
        await asyncio.gather(sending, return_exceptions=True)
