"""Asks ClamAV's clamd whether a message is malware (INSTREAM, clamd(8)).

Nothing is raised but cancellation: what clamd does not say clearly, in time, is unknown. Only "stream: OK" is clean.
"""

from __future__ import annotations

import asyncio
import re
import struct

from gateway.scanners.endpoints import clamd_endpoint
from gateway.scanners.exchange import Octets, exchange, pieces_of, size_of
from gateway.scanners.guard import Guard, ScannerFailed
from gateway.scanners.results import MalwareResult
from gateway.scanners.settings import SCAN_SIZE, TIMEOUT
from storage.clock import Clock

ANSWER_MAX = 4096  # octets

_FOUND = re.compile(r"(?:stream|instream\([^()]*\)): (?P<name>[\x21-\x7e][\x20-\x7e]{0,199}) FOUND\Z")
_TOO_LARGE = "INSTREAM size limit exceeded"


class Clamd:
    """Belongs to one event loop. Raises InvalidInput if `address` is none."""

    def __init__(
        self,
        address: str,
        limit: float = TIMEOUT,
        size: int = SCAN_SIZE,
        clock: Clock | None = None,
    ) -> None:
        self._endpoint = clamd_endpoint(address)
        self._size = size
        self.guard = Guard("clamd", limit, clock)

    async def scan(self, message: Octets) -> MalwareResult:
        if size_of(message) > self._size:
            return _unknown("the message is larger than what is shown to clamd")
        return await self.guard.run(lambda: self._scan(message), _unknown)

    async def _scan(self, message: Octets) -> MalwareResult:
        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(b"zINSTREAM\0")
            for piece in pieces_of(message):
                writer.write(struct.pack("!I", len(piece)))
                writer.write(piece)
                await writer.drain()
            writer.write(struct.pack("!I", 0))
            await writer.drain()

        return _result(await exchange(self._endpoint, send, _answer))


async def _answer(reader: asyncio.StreamReader) -> str:
    answer = bytearray()
    while b"\0" not in answer:
        piece = await reader.read(ANSWER_MAX)
        if not piece:
            raise ScannerFailed("ended the connection without an answer")
        answer += piece
        if len(answer) > ANSWER_MAX:
            raise ScannerFailed("gave an answer that cannot be read")
    return answer.partition(b"\0")[0].decode("utf-8", "replace").strip()


def _result(answer: str) -> MalwareResult:
    """Raises ScannerFailed."""
    if answer == "stream: OK":
        return MalwareResult()
    if match := _FOUND.match(answer):
        return MalwareResult(match["name"])
    if answer.startswith(_TOO_LARGE):  # it works; it has been told to look at less than we show it
        return _unknown("the message is larger than what clamd looks at")
    raise ScannerFailed("could not scan the message")


def _unknown(reason: str) -> MalwareResult:
    return MalwareResult(unknown=reason)
