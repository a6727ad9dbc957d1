"""The threads in which an IMAP process does what blocks, and the line of those who sign in.

The auth role takes a tenth of a second and more of a core for a password that it has not seen lately. After a restart
thousands come with one; if each took a thread, everything that those do who are in already would wait for minutes
behind them. So few sign-ins have a thread at the same time; what is answered in no time has a line of its own, and what
waits for an OpenID provider, too. Whose client has gone is not asked for.

Confined to the event loop, but for the work itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

from twisted.python.threadpool import ThreadPool

from hosting.imap.effects import Proof, SignInWork, Work
from storage.errors import Unavailable

THREADS: Final = 12
AT_ONCE: Final = 3  # sign-ins of each line that have a thread

Done = Callable[[Any, BaseException | None], None]


class Workers:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(1, THREADS, "imap")
        self._lines = {proof: _Line() for proof in Proof}

    def start(self) -> None:
        self._pool.start()

    def stop(self) -> None:
        """What is being done is finished."""
        self._pool.stop()

    def run(self, work: Work, done: Done) -> None:
        """In a thread, a sign-in when its turn has come; `done` is called in the event loop.

        Each sign-in has a `done` of its own.
        """
        if isinstance(work, SignInWork):
            line = self._lines[work.proof]
            line.waiting[done] = work
            self._go_on(line)
        else:
            self._run(work, done)

    def leave(self, done: Done) -> None:
        """The client of a sign-in has gone: if its turn has not come, it never will."""
        for line in self._lines.values():
            if line.waiting.pop(done, None) is not None:
                done(None, Unavailable())

    def refuse_waiting(self) -> None:
        """The server is about to stop: the turn of who waits to sign in will not come."""
        for line in self._lines.values():
            waiting, line.waiting = line.waiting, OrderedDict()
            for done in waiting:
                done(None, Unavailable())

    def _go_on(self, line: _Line) -> None:
        while line.waiting and line.running < AT_ONCE:
            done, work = line.waiting.popitem(last=False)
            line.running += 1
            self._run(work, self._ending(line, done))

    def _ending(self, line: _Line, done: Done) -> Done:
        def ended(result: Any, error: BaseException | None) -> None:
            line.running -= 1
            self._go_on(line)
            done(result, error)

        return ended

    def _run(self, work: Work, done: Done) -> None:
        def call() -> None:
            try:
                result, error = work.run(), None
            except BaseException as raised:  # noqa: BLE001 - it is thrown into the session, which answers it
                result, error = None, raised
            self._reactor.callFromThread(done, result, error)

        self._pool.callInThread(call)


class _Line:
    __slots__ = ("running", "waiting")

    def __init__(self) -> None:
        self.running = 0
        self.waiting: OrderedDict[Done, SignInWork] = OrderedDict()  # first come, first served
