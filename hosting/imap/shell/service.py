"""The IMAP service of one worker: listeners, worker threads, the change feed, and the end of silent connections.

Sessions of an account end with BYE when its credential is no longer valid. On stop, commands in flight are finished
first.

Standards: RFC 9051 §5.4 (autologout), §7.1.5 (BYE).
"""

# ruff: noqa: N802 - the methods that Twisted calls have Twisted's names

from __future__ import annotations

import itertools
import logging
import os
import socket
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet import defer, task

from gateway.smtp.proxy import Network
from hosting.auth.mailbox_rights import DirectoryRights, RightsDirectory
from hosting.auth.signin import Principal, SaslAuthenticator
from hosting.imap import recents
from hosting.imap.counters import Counters
from hosting.imap.effects import Work
from hosting.imap.limits import Limits
from hosting.imap.news.watches import Watch, Watches
from hosting.imap.registry import Registry
from hosting.imap.replies import EXPIRED
from hosting.imap.rules import RULES
from hosting.imap.searching.threads import Threads
from hosting.imap.session import Services, Session, State
from hosting.imap.sharing.other_users import SharedMailboxes
from hosting.imap.sharing.sharing_watch import SharingWatch
from hosting.imap.shell.attention import Attention, Watched, selected
from hosting.imap.shell.connection import Connection
from hosting.imap.shell.feed_reader import FeedReader
from hosting.imap.shell.port_factory import PortFactory
from hosting.imap.shell.rechecking import end_invalid
from hosting.imap.shell.transport import listen
from hosting.imap.shell.workers import Done, Workers
from storage.changes import AccountChanged, Change, Gap, MailboxesChanged, Subscriber, TenantChanged
from storage.clock import Clock
from storage.errors import CleanmailError, Gone
from storage.installation import Installation
from storage.mail.view_rows import FarBehind
from storage.values import AccountId

_log = logging.getLogger(__name__)
_SWEEP: Final = 5.0  # seconds between two looks at silent connections
_REST: Final = 10.0  # seconds of silence after which a connection keeps nothing that can be made again
_AWAKE: Final = 50  # compressed connections that may keep their streams, so that many that come at once stay small
_BURST: Final = 0.004  # seconds for which news is told, or silent connections looked for, before others are served
_STOP_WITHIN: Final = 10.0
_FAREWELL: Final = 0.3  # seconds for the last octets of connections that end when the service stops
_LINGER: Final = 10.0  # … and otherwise


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that is bound and listening."""

    socket: socket.socket
    implicit_tls: bool


class ImapService(Service):
    """Twisted's service around all connections of this process."""

    def __init__(
        self,
        reactor: Any,
        listeners: Sequence[Listener],
        installation: Installation,
        authenticator: SaslAuthenticator,
        clock: Clock,
        limits: Limits,
        counters: Counters,
        *,
        tls_context: Any | None,
        plain_allowed: bool = False,
        proxies: Sequence[Network] = (),
        subscriber: Subscriber | None = None,
        mailbox_rights: RightsDirectory | None = None,
    ) -> None:
        self._reactor = reactor
        self._listeners = listeners
        self._tls_context = tls_context
        self._proxies = proxies
        self._subscriber = subscriber
        self._registry = Registry(limits)
        self._limits = limits
        self.counters = counters
        self._shared = SharedMailboxes(mailbox_rights or DirectoryRights(installation))
        self._attention = Attention(subscriber, lambda change: self.soon(self._changed, [change]))
        self._services = Services(
            installation=installation,
            authenticator=authenticator,
            registry=self._registry,
            shared=self._shared,
            limits=limits,
            counters=counters,
            clock=clock,
            rules=RULES,
            watches=Watches(self._attention),
            threads=Threads(),
            plain_allowed=plain_allowed,
            tls_offered=tls_context is not None,
        )
        self._connections: set[Connection] = set()
        self._sharing = SharingWatch(self._shared, self._connections, self.run)
        self._watchers: dict[Watched, list[Connection]] = {}  # a set of one would take 216 octets, and most have one
        self._watching: dict[Connection, Watched | None] = {}
        self._due: dict[Watched, None] = {}  # mailboxes whose watchers are to be told, in order
        self._telling = False  # the event loop comes back to them
        self._behind: set[Watched] = set()  # a worker reads what was changed there
        self._awake: OrderedDict[Connection, None] = OrderedDict()  # compressed ones, by when they were heard last
        self._workers = Workers(reactor)
        self._ports: list[Any] = []
        self._feed: FeedReader | None = None
        self._sweeping = task.LoopingCall(self.end_silent)
        self._sweeping.clock = reactor
        self._ids = itertools.count(1)
        self._prefix = f"{os.getpid():x}-{int(time.time()):x}"
        self._stopped: defer.Deferred[None] | None = None

    # --- start and stop ---

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._workers.start()
        for listener in self._listeners:
            factory = PortFactory(self, listener.implicit_tls, self._proxies)
            self._ports.append(listen(self._reactor, listener.socket, factory))
        if self._subscriber is not None:
            self._feed = FeedReader(self._subscriber, self._changed)
            self._reactor.addReader(self._feed)
        self._sweeping.start(_SWEEP, now=False)

    def stopService(self) -> defer.Deferred[None]:
        """No new connections; fires when the commands in flight are finished, or time is over."""
        super().stopService()  # type: ignore[no-untyped-call]
        for port in self._ports:
            port.stopListening()
        if self._feed is not None:
            self._reactor.removeReader(self._feed)
        stopped: defer.Deferred[None] = defer.Deferred()
        self._stopped = stopped
        for connection in list(self._connections):
            if not connection.busy:
                connection.end(b"[UNAVAILABLE] The server is shutting down.")
        if self._sweeping.running:
            self._sweeping.stop()
        self._wait_for_commands(time.monotonic() + _STOP_WITHIN)
        return stopped

    def _wait_for_commands(self, until: float) -> None:
        self._workers.refuse_waiting()
        for connection in list(self._connections):
            if not connection.busy:
                connection.end(b"[UNAVAILABLE] The server is shutting down.")
        if self._connections and time.monotonic() < until:
            if not any(connection.busy for connection in self._connections):
                until = min(until, time.monotonic() + _FAREWELL)
            self._reactor.callLater(0.02, self._wait_for_commands, until)
            return
        for connection in list(self._connections):
            connection.abort()
        self._workers.stop()
        if self._stopped is not None:
            self._stopped.callback(None)

    # --- what connections need (connection.Host) ---

    def session(self, address: str, *, secure: bool) -> Session:
        return Session(self._services, f"{self._prefix}-{next(self._ids):x}", address, secure=secure)

    def admit(self, connection: Connection, address: str) -> bool:
        if not self._registry.connect(address):
            self.counters.refused += 1
            return False
        self.counters.accepted += 1
        self.counters.connections += 1
        self._connections.add(connection)
        return True

    def release(self, connection: Connection, address: str) -> None:
        self._registry.disconnect(address)
        self.counters.connections -= 1
        self._connections.discard(connection)
        self._awake.pop(connection, None)
        self._workers.leave(connection.worked)

    def run(self, work: Work, done: Done) -> None:
        """Runs blocking work in a thread; `done` is called in the event loop."""
        self._workers.run(work, done)

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        self._reactor.callLater(0, call, *args)

    def awake(self, connection: Connection) -> None:
        """A compressed connection speaks; of too many, the one that was silent for longest rests now."""
        self._awake[connection] = None
        self._awake.move_to_end(connection)
        if len(self._awake) > _AWAKE:
            self._awake.popitem(last=False)[0].rest()

    def tls_context(self) -> Any:
        return self._tls_context

    def watch(self, connection: Connection) -> None:
        key = selected(connection)
        if key == self._watching.get(connection):
            return
        self.unwatch(connection)
        if key is None:
            return
        self._attention.pay(key[0])
        self._watchers.setdefault(key, []).append(connection)
        self._watching[connection] = key
        self.soon(self._look, connection, key)

    def unwatch(self, connection: Connection) -> None:
        key = self._watching.pop(connection, None)
        if key is not None:
            self._attention.withdraw(key[0])
            watchers = self._watchers[key]
            watchers.remove(connection)
            if not watchers:
                del self._watchers[key]

    # --- the change feed ---

    def _changed(self, changes: Sequence[Change | MailboxesChanged | AccountChanged | TenantChanged | Gap]) -> None:
        touched: set[Watched] = set()
        recheck: Callable[[Principal], bool] | None = None
        for change in changes:
            self._sharing.changed(change)
            match change:
                case Change(account_id=account_id, mailbox_id=mailbox_id):
                    if (account_id, mailbox_id) in self._watchers:
                        touched.add((account_id, mailbox_id))
                case MailboxesChanged(account_id=account_id):
                    self._annotations_changed(account_id)
                case AccountChanged(account_id=account_id):
                    self._recheck(lambda who, account_id=account_id: who.account_id == account_id)  # type: ignore[misc]
                case TenantChanged(tenant_id=tenant_id):
                    self._recheck(lambda who, tenant_id=tenant_id: who.tenant_id == tenant_id)  # type: ignore[misc]
                case Gap():
                    touched.update(self._watchers)
                    recheck = _anybody
        for watch in self._services.watches.changed(changes):
            self._read_anew(watch)
        self._due.update(dict.fromkeys(touched))
        if not self._telling:
            self._tell_due()
        if recheck is not None:
            self._recheck(recheck)

    def _read_anew(self, watch: Watch) -> None:
        """Names or subscriptions of an account changed that is watched as a whole."""
        if not watch.begin_reading():
            return

        def done(listing: Any, error: BaseException | None) -> None:
            again = watch.end_reading()
            if error is None:
                watch.take(listing)
                self._services.watches.wake([watch])
            elif watch.watchers:
                _log.warning("mailboxes could not be listed: %s", type(error).__name__)
            if again and watch.watchers:
                self._read_anew(watch)

        self.run(Work(lambda: Watch.read(watch.account)), done)

    def _annotations_changed(self, account_id: AccountId) -> None:
        """Sessions in IDLE that enabled METADATA tell of it at once (RFC 5464 §4.4.2)."""
        for connection in list(self._watching):
            session = connection.session
            if session is None or session.annotation_news is None:
                continue
            if session.account is not None and session.account.account_id == account_id:
                connection.news()

    def _tell_due(self) -> None:
        """Tells of one mailbox after the other; of many, others are served in between."""
        until = time.perf_counter() + _BURST
        while self._due:
            key = next(iter(self._due))
            del self._due[key]
            self._tell(key, self._watchers.get(key, ()))
            if time.perf_counter() > until:
                break
        self._telling = bool(self._due)
        if self._telling:
            self.soon(self._tell_due)

    def _look(self, connection: Connection, key: Watched) -> None:
        """It has begun to watch; what was committed before that was told to others, if to anybody."""
        if self._watching.get(connection) == key:
            self._tell(key, [connection])

    def _tell(self, key: Watched, watchers: Iterable[Connection], *, read_ahead: bool = False) -> None:
        """Brings the shared view up to date once, then lets each session in IDLE tell what is new.

        Very many changes of another process are read by a worker first (`read_ahead`: it has done so).
        """
        watchers = [each for each in watchers if selected(each) == key]
        if not watchers or key in self._behind:  # all who watch it are told then
            return
        try:
            first = watchers[0].session
            if first is not None and first.selected is not None:
                view = first.selected.view
                try:
                    view.refresh(patient=not read_ahead)
                except FarBehind:
                    self._behind.add(key)
                    self.run(Work(view.prepare_changes), lambda *_: self._caught_up(key))
                    return
        except Gone:
            for connection in watchers:
                connection.end(b"[NONEXISTENT] The selected mailbox was deleted.")
            return
        except CleanmailError as error:
            _log.warning("a view could not be refreshed: %s", type(error).__name__)
            return
        for connection in watchers:
            connection.news()

    def _caught_up(self, key: Watched) -> None:
        self._behind.discard(key)
        self._tell(key, self._watchers.get(key, ()), read_ahead=True)

    def _recheck(self, concerned: Callable[[Principal], bool]) -> None:
        end_invalid(self._connections, concerned, self._services.authenticator, self.run)

    # --- silence ---

    def addresses(self) -> dict[str, int]:
        """How many connections each address has."""
        return self._registry.addresses()

    def end_silent(self, passed: float = 0.0) -> None:
        """Ends connections that have been silent for too long (RFC 9051 §5.4), as if `passed` more seconds had passed.

        So it does those whose token has expired; of one that is at a command the next is refused (`Session.respond`).
        What was told to end and is still there has a client that doesn't read, or doesn't end TLS: it is cut off.
        Of very many connections others are served in between.
        """
        self._end_silent(iter(list(self._connections)), passed)

    def _end_silent(self, connections: Iterator[Connection], passed: float) -> None:
        now, today = time.monotonic() + passed, self._services.clock.now()
        until = time.perf_counter() + _BURST
        for connection in connections:
            if connection not in self._connections:  # it has ended meanwhile
                continue
            session = connection.session
            if connection.ended and now - connection.ended > _LINGER:
                connection.abort()
            silent = now - connection.last_activity
            if silent > _REST:
                connection.rest()
                self._awake.pop(connection, None)
                if session is not None and session.selected is not None:
                    recents.settle(session.selected)
            if session is None or session.state is State.GREETED:
                if silent > self._limits.sign_in_timeout and not connection.busy:
                    connection.end(b"[UNAVAILABLE] Signing in took too long.")
            elif silent > self._limits.idle_timeout and not connection.busy:
                connection.end(b"[UNAVAILABLE] Nothing was heard for too long.")
            elif connection.between and session.principal is not None and session.principal.has_expired(today):
                connection.end(EXPIRED)
            if time.perf_counter() > until:
                self.soon(self._end_silent, connections, passed)
                return


def _anybody(_: Principal) -> bool:
    return True
