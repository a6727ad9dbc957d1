"""Asks a tenant's own server whether it takes a recipient, so that nothing is accepted here that it would refuse.

The question is MAIL FROM:<> and RCPT TO; a message is never begun. Only a 5yz reply to RCPT says no about the
recipient. Whatever else goes wrong (no connection, a refused greeting or null reverse-path, 4yz, no reply in time) is
UNKNOWN, unless the server took the recipient in the last days: then that counts.

Answers are remembered in memory, bounded. Equal questions at the same moment are asked once. A server that cannot be
talked to is left alone for a moment, so that callers need not wait for it each time.

Never raises but for cancellation; ends within `CalloutSettings.timeout`.
Standards: RFC 5321 §3.3 and §4.5.5 (the null reverse-path), RFC 3463 §3.2.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from gateway.relay.hosts import Unroutable
from gateway.relay.next_hops import NextHops
from gateway.relay.outcome import OwnServer
from gateway.relay.replies import ours, reply_of
from gateway.relay.session import Broken, Session
from storage.clock import Clock
from storage.queue.entries import Reply
from storage.values import EmailAddress

_log = logging.getLogger(__name__)

DAY = 24 * 3600.0


class Verdict(Enum):
    TAKEN = "taken"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CalloutResult:
    verdict: Verdict
    reply: Reply  # the server's, or what kept us from hearing it


@dataclass(frozen=True, slots=True)
class CalloutSettings:
    """Times in seconds, sizes in answers that are remembered."""

    timeout: float = 30.0  # of a question; the client at our door waits
    taken_fresh: float = 1 * DAY  # then the server is asked again
    taken_usable: float = 7 * DAY  # though it does not answer now
    refused_first: float = 300.0  # doubled with each refusal in a row
    refused_most: float = 3600.0
    silent: float = 30.0  # that a server which cannot be talked to is left alone
    at_once: int = 10  # questions to one server
    taken_max: int = 50_000
    refused_max: int = 10_000


_Key = tuple[str, int, str]
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class _Known:
    result: CalloutResult
    at: float
    fresh: float  # seconds


class Callout:
    """Belongs to one event loop."""

    def __init__(self, hops: NextHops, clock: Clock, settings: CalloutSettings | None = None) -> None:
        self._hops = hops
        self._clock = clock
        self._settings = settings or CalloutSettings()
        # Apart, so that guessed addresses do not push out the ones that are real.
        self._taken: OrderedDict[_Key, _Known] = OrderedDict()
        self._refused: OrderedDict[_Key, _Known] = OrderedDict()
        self._silent: OrderedDict[OwnServer, _Known] = OrderedDict()
        self._asking: dict[_Key, asyncio.Task[CalloutResult]] = {}
        self._turns: dict[OwnServer, _Turns] = {}

    async def check(self, server: OwnServer, address: EmailAddress) -> CalloutResult:
        key = (server.host, server.port, address.key)
        known = self._fresh(self._taken, key) or self._fresh(self._refused, key)
        if known is not None:
            return known
        task = self._asking.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(server, address, key))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Questions that are open end without an answer."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # What is remembered

    def _fresh(self, known: OrderedDict[_Key, _Known], key: _Key) -> CalloutResult | None:
        entry = known.get(key)
        if entry is None or self._age(entry) > entry.fresh:
            return None
        known.move_to_end(key)
        return entry.result

    def _age(self, entry: _Known) -> float:
        return self._clock.monotonic() - entry.at

    def _remember(self, key: _Key, server: OwnServer, result: CalloutResult, *, reached: bool) -> CalloutResult:
        """What `result` is worth, with what is known already. `reached`: the server spoke with us."""
        now, settings = self._clock.monotonic(), self._settings
        if result.verdict is Verdict.TAKEN:
            _put(self._taken, key, _Known(result, now, settings.taken_fresh), settings.taken_max)
            self._refused.pop(key, None)
        elif result.verdict is Verdict.REFUSED:
            before = self._refused.get(key)
            fresh = settings.refused_first if before is None else min(2 * before.fresh, settings.refused_most)
            _put(self._refused, key, _Known(result, now, fresh), settings.refused_max)
            self._taken.pop(key, None)
        else:
            if not reached:
                _put(self._silent, server, _Known(result, now, settings.silent), settings.refused_max)
            taken = self._taken.get(key)
            if taken is not None and self._age(taken) <= settings.taken_usable:
                return taken.result
        return result

    # Asking

    async def _ask(self, server: OwnServer, address: EmailAddress, key: _Key) -> CalloutResult:
        silent = self._silent.get(server)
        if silent is not None and self._age(silent) <= silent.fresh:
            return self._remember(key, server, silent.result, reached=True)
        contact = _Contact()
        try:
            async with asyncio.timeout(self._settings.timeout), self._turn(server):
                result = await self._over_sessions(server, address, contact)
        except Unroutable as error:
            result = CalloutResult(Verdict.UNKNOWN, error.outcome.reply)
        except TimeoutError:
            result = CalloutResult(Verdict.UNKNOWN, ours("4.4.2", "The server did not answer in time.", server.host))
        except Exception as error:  # noqa: BLE001 - nobody is refused for a reason of ours
            _log.error("a call-out failed: %s", type(error).__name__)
            result = CalloutResult(Verdict.UNKNOWN, ours("4.3.0", "The recipient could not be asked for."))
        return self._remember(key, server, result, reached=contact.made)

    async def _over_sessions(self, server: OwnServer, address: EmailAddress, contact: _Contact) -> CalloutResult:
        """Raises Unroutable if there was no session at all."""
        broken: Broken | None = None
        async with aclosing(self._hops.sessions(server)) as sessions:
            async for session in sessions:
                contact.made = True
                try:
                    result = await _verify(session, address)
                except Broken as error:
                    broken = error
                    continue
                self._hops.release(server, session, more=True)
                return result
        assert broken is not None  # without any session `sessions` raises
        return CalloutResult(Verdict.UNKNOWN, broken.outcome.reply)

    def _turn(self, server: OwnServer) -> _Turns:
        turns = self._turns.get(server)
        if turns is None:
            turns = self._turns[server] = _Turns(self._turns, server, self._settings.at_once)
        return turns


@dataclass(slots=True)
class _Contact:
    made: bool = False  # a session was opened: whatever went wrong then is no reason to leave the server alone


class _Turns:
    """At most so many questions to one server at the same time; gone when nobody asks it anything."""

    def __init__(self, all_turns: dict[OwnServer, _Turns], server: OwnServer, at_once: int) -> None:
        self._all = all_turns
        self._server = server
        self._semaphore = asyncio.Semaphore(at_once)
        self._users = 0

    async def __aenter__(self) -> None:
        self._users += 1
        try:
            await self._semaphore.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._semaphore.release()
        self._leave()

    def _leave(self) -> None:
        self._users -= 1
        if not self._users:
            self._all.pop(self._server, None)


async def _verify(session: Session, address: EmailAddress) -> CalloutResult:
    host = session.place.host
    smtputf8 = not address.is_ascii
    if smtputf8 and not session.server.smtputf8:  # it could not be told of a message either
        return CalloutResult(Verdict.REFUSED, Reply(553, "5.6.7", "No internationalised addresses are taken.", host))
    mail = b"MAIL FROM:<> SMTPUTF8" if smtputf8 else b"MAIL FROM:<>"
    answer, about_recipient = await session.verify(mail, f"RCPT TO:<{address}>".encode())
    if about_recipient is None:
        return CalloutResult(Verdict.UNKNOWN, reply_of(answer, host))
    if 200 <= about_recipient.code <= 299:
        verdict = Verdict.TAKEN
    elif 500 <= about_recipient.code <= 599:
        verdict = Verdict.REFUSED
    else:
        verdict = Verdict.UNKNOWN
    return CalloutResult(verdict, reply_of(about_recipient, host))


def _put(known: OrderedDict[_K, _Known], key: _K, entry: _Known, most: int) -> None:
    known[key] = entry
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
