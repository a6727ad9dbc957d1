"""Room for large messages: how many octets of them may be in memory together."""

from __future__ import annotations

import asyncio
from collections import deque


class Room:
    """First come, first served; what is larger than all of it waits until it is alone."""

    def __init__(self, octets: int) -> None:
        self._octets = octets
        self._free = octets
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    async def take(self, octets: int) -> int:
        """How many to give back."""
        wanted = min(octets, self._octets)
        if self._waiting or self._free < wanted:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((wanted, turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.give_back(wanted)
                raise
        else:
            self._free -= wanted
        return wanted

    def give_back(self, octets: int) -> None:
        self._free += octets
        while self._waiting:
            wanted, turn = self._waiting[0]
            if not turn.done():
                if self._free < wanted:
                    break
                self._free -= wanted
                turn.set_result(None)
            self._waiting.popleft()
