"""Sessions that are kept open for the next message to the same next hop, for a moment.

A next hop stands for its TLS demand too, so a session is never used for less than it was opened with. The one that was
used last is taken first; the others run out.

Standards: RFC 5321 §4.1.1.10 (QUIT) and §4.5.3.2 (a client need not wait for the server to close).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from gateway.relay.outcome import NextHop
from gateway.relay.session import Session

_HOPS = 10_000  # next hops whose last use is remembered


class KeptSessions:
    """`most`: sessions that wait at the same time; beyond them the one that waited longest goes.

    Messages that follow one another within `stream` seconds share a session also when none of them waited.
    """

    def __init__(self, messages: int, idle: float, most: int, stream: float) -> None:
        self._messages = messages
        self._idle = idle
        self._most = most
        self._stream = stream
        self._waiting: dict[Session, tuple[NextHop, asyncio.TimerHandle]] = {}  # in the order in which they began
        self._of: dict[NextHop, list[Session]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._used: OrderedDict[NextHop, float] = OrderedDict()  # when a session did its work last, in that order
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, hop: NextHop) -> Session | None:
        """A session that can be used, no longer kept."""
        while sessions := self._of.get(hop):
            session = sessions[-1]
            self._forget(session)
            if session.reusable:
                return session
            self.end(session)
        return None

    def release(self, hop: NextHop, session: Session, *, more: bool) -> None:
        """The session has done its work: it is kept if `more` messages wait, or come one after the other anyway."""
        now = asyncio.get_running_loop().time()
        used = self._used.pop(hop, None)
        self._used[hop] = now
        if len(self._used) > _HOPS:
            self._used.popitem(last=False)
        if more or (used is not None and now - used < self._stream):
            self.keep(hop, session)
        else:
            self.end(session)

    def keep(self, hop: NextHop, session: Session) -> None:
        if self._closed or not session.reusable or session.messages >= self._messages:
            self.end(session)
            return
        timer = asyncio.get_running_loop().call_later(self._idle, self._ran_out, session)
        self._waiting[session] = (hop, timer)
        self._of.setdefault(hop, []).append(session)
        if len(self._waiting) > self._most:
            self._ran_out(next(iter(self._waiting)))

    def end(self, session: Session) -> None:
        """QUIT, without anybody waiting for it."""
        task = asyncio.get_running_loop().create_task(session.quit())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """QUIT everywhere; nothing is kept from now on."""
        self._closed = True
        for session in list(self._waiting):
            self._ran_out(session)
        if self._ending:
            await asyncio.wait(self._ending)

    def _ran_out(self, session: Session) -> None:
        self._forget(session)
        self.end(session)

    def _forget(self, session: Session) -> None:
        hop, timer = self._waiting.pop(session)
        timer.cancel()
        sessions = self._of[hop]
        sessions.remove(session)
        if not sessions:
            del self._of[hop]
