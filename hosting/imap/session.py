"""One client's session: its state, and the one way through a command.

`respond` takes a frame and gives the whole answer (`hosting.imap.at_once`), or a generator of octets and effects that
ends with the tagged one; neither raises for what a client sent or for an error of storage. Which command is allowed in
which state, and what news its answer may carry, stand in one table (`hosting.imap.rules`).

Standards: RFC 9051 §3 (states), §5.2 (status updates), §7.5.1 (when EXPUNGE may be sent).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from typing import Any

from hosting.auth import sasl
from hosting.auth.signin import Principal, SaslAuthenticator
from hosting.imap import capabilities, recents, replies, uid_only
from hosting.imap.capability_table import Circumstances
from hosting.imap.commands import Command
from hosting.imap.counters import Counters
from hosting.imap.decoder import Frame
from hosting.imap.effects import Flow, Handling, blocking
from hosting.imap.faults import where
from hosting.imap.grammar import BadCommand, Grammar
from hosting.imap.limits import Limits
from hosting.imap.news.annotation_news import AnnotationNews
from hosting.imap.news.listening import Listening
from hosting.imap.news.watches import Watches
from hosting.imap.registry import Registry
from hosting.imap.searching.contexts import Contexts
from hosting.imap.searching.threads import Threads
from hosting.imap.selected import Selected
from hosting.imap.sharing.access_events import signing_out
from hosting.imap.sharing.other_users import Others, SharedMailboxes, counted
from hosting.imap.states import News, State
from storage.clock import Clock
from storage.directory.terms import READ_ONLY
from storage.errors import CleanmailError
from storage.installation import Installation
from storage.mail.account import Account

__all__ = ["AtOnce", "News", "Rule", "Services", "Session", "State"]

_log = logging.getLogger(__name__)
_MANY_COLUMNS = 1000  # messages whose sizes and dates are read by a worker rather than in the event loop
_NOTHING_HIDDEN: frozenset[str] = frozenset()  # one for all: each would take 216 octets
_NEWS_OVERDUE = 60.0  # seconds without NOOP, CHECK or IDLE after which a search tells of new messages


AtOnce = Callable[["Session", bytes, Any], bytes | None]  # see `hosting.imap.at_once`


@dataclass(frozen=True, slots=True)
class Rule:
    """How a command runs: its handler, where it is allowed, what news follow it, whether it changes what is stored."""

    run: Callable[[Session, bytes, Command], Flow[bytes | None]]
    states: frozenset[State]
    news: Callable[[Command], News]
    writes: bool = False
    at_once: AtOnce | None = None


@dataclass(frozen=True, slots=True)
class Services:
    """What every session of a worker uses."""

    installation: Installation
    authenticator: SaslAuthenticator
    registry: Registry
    shared: SharedMailboxes
    limits: Limits
    counters: Counters
    clock: Clock
    rules: Mapping[type[Command], Rule]
    threads: Threads
    plain_allowed: bool  # passwords without TLS, for test tools on loopback
    tls_offered: bool
    watches: Watches = field(default_factory=Watches)


class Session:
    """One connection's state. Closed with `close`, always."""

    __slots__ = (
        "_lease",
        "account",
        "address",
        "annotation_news",
        "bad_commands",
        "channel",
        "compressed",
        "condstore",
        "contexts",
        "grammar",
        "hidden",
        "id",
        "listening",
        "looked_at",
        "metadata",
        "others",
        "own_arrivals",
        "principal",
        "qresync",
        "rev2",
        "secure",
        "selected",
        "services",
        "state",
        "tell_arrivals",
        "uid_only",
        "utf8",
        "wake",
    )

    def __init__(self, services: Services, session_id: str, address: str, *, secure: bool) -> None:
        self.services = services
        self.id = session_id
        self.address = address
        self.secure = secure
        self.channel = b""  # what SCRAM can bind to: the exporter of TLS 1.3 (RFC 9266); empty before it, and without
        self.compressed = False  # RFC 4978
        self.hidden = _NOTHING_HIDDEN  # capabilities that this client is not told of, in capitals
        self.wake: Callable[[], None] = _nobody  # set by the shell: something is to be told without a command
        self._begin()

    def _begin(self) -> None:
        """The state of a connection that nobody has signed in on, and to which UNAUTHENTICATE returns."""
        self.state = State.GREETED
        self.grammar = Grammar(self.services.limits)
        self.principal: Principal | None = None
        self.account: Account | None = None
        self._lease: AbstractContextManager[Account] | None = None
        self.others: Others | None = None  # whose accounts are open besides the own one
        self.selected: Selected | None = None
        self.contexts: Contexts | None = None  # searches of the mailbox whose changes are told (RFC 5267)
        self.condstore = False  # RFC 7162 §3.1: MODSEQ in every FETCH from the first command that asks for one
        self.qresync = False
        self.rev2 = False
        self.utf8 = False  # mailbox names are UTF-8 (RFC 9051 §5.1, RFC 9755 §3)
        self.uid_only = False  # no message numbers any more (RFC 9586)
        self.metadata = False  # changes of annotations are told (RFC 5464 §4.4.2)
        self.annotation_news: AnnotationNews | None = None
        self.listening: Listening | None = None  # RFC 5465
        self.bad_commands = 0  # in a row
        self.looked_at = 0.0  # monotonic time of the last NOOP, CHECK or IDLE
        self.tell_arrivals = False  # this answer tells of new messages, whoever brought them
        self.own_arrivals: Collection[int] = ()  # UIDs of those that this command brought

    # --- lifetime ---

    def greeting(self) -> bytes:
        return b"* OK [CAPABILITY %b] Cleanmail ready.\r\n" % self.capabilities()

    def capabilities(self) -> bytes:
        return capabilities.told(self.circumstances(), self.services.limits, self.hidden)

    def circumstances(self) -> Circumstances:
        """What decides which capabilities are told."""
        services = self.services
        return Circumstances(
            signed_in=self.state in (State.SIGNED_IN, State.SELECTED),
            secure=self.secure,
            tls_offered=services.tls_offered,
            mechanisms=self._mechanisms(sasl.told),
            compressed=self.compressed,
        )

    def mechanisms(self) -> frozenset[str]:
        """Of AUTHENTICATE, that can be used here and now."""
        return self._mechanisms(sasl.mechanisms)

    def _mechanisms(self, of: Callable[..., tuple[str, ...]]) -> frozenset[str]:
        if not (self.secure or self.services.plain_allowed):  # RFC 9051 §6.2.3
            return frozenset()
        return frozenset(("PLAIN", "LOGIN", *of(self.services.authenticator.offers, bindable=bool(self.channel))))

    def sign_in(self, principal: Principal, lease: AbstractContextManager[Account], account: Account) -> None:
        """From here on the session belongs to `principal` and holds its account open."""
        self.principal, self._lease, self.account = principal, lease, account
        self.state = State.SIGNED_IN
        self.looked_at = self.services.clock.monotonic()

    def close(self) -> None:
        """Lets go of the mailbox and the account. May be called twice."""
        if self.selected is not None:
            recents.settle(self.selected)
        self.deselect()
        self.state = State.ENDED
        listening, self.listening = self.listening, None
        if listening is not None:
            listening.close()
        others, self.others = self.others, None
        if others is not None:
            others.let_go()
        lease, self._lease, self.account = self._lease, None, None
        if lease is not None:
            lease.__exit__(None, None, None)
        principal, self.principal = self.principal, None
        if principal is not None:
            self.services.registry.leave(principal.account_id)
            log, now = self.services.installation.access_log, self.services.clock.now()
            log.record(signing_out(principal, self.address, now))

    def sign_out(self) -> None:
        """Nobody is signed in any more, and nothing is left of what he had set (RFC 8437 §3 and §4.1)."""
        self.close()
        self._begin()

    def deselect(self) -> None:
        if self.selected is not None:
            self.selected = self.contexts = None
            self.state = State.SIGNED_IN

    def leave(self) -> Flow[None]:
        r"""Closes the mailbox; what this session told of is \Recent to no other (RFC 3501 §2.3.2)."""
        selected = self.selected
        if selected is not None and selected.recent_told:
            mailboxes, mailbox_id = selected.account.mailboxes, selected.mailbox_id
            with suppress(CleanmailError):
                yield from blocking(lambda: mailboxes.take_recent(mailbox_id))
        self.deselect()

    # --- what handlers rely on ---

    @property
    def mail(self) -> Account:
        """The account; only commands that need one are dispatched without it."""
        assert self.account is not None
        return self.account

    @property
    def mailbox(self) -> Selected:
        assert self.selected is not None
        return self.selected

    @property
    def user(self) -> Principal:
        assert self.principal is not None
        return self.principal

    @property
    def read_only(self) -> bool:
        """Whether the tenant's contract ends, so that mail can be read only."""
        return self.user.is_read_only(self.services.clock.now())

    def looked(self) -> None:
        """The client asked for news."""
        self.looked_at = self.services.clock.monotonic()

    @property
    def news_overdue(self) -> bool:
        return self.services.clock.monotonic() - self.looked_at >= _NEWS_OVERDUE

    def news(self, *, expunges: bool, arrivals: bool, flags: bool = True) -> Flow[None]:
        """Tells what is new in the selected mailbox; with an updated search new messages, too (RFC 5267 §4.3)."""
        selected, contexts = self.selected, self.contexts
        if selected is None:
            return
        selected.absorb()
        if contexts is None and not selected.may_tell:
            return
        arrivals = arrivals or (contexts is not None and self.listening is None)
        leaving = contexts.leaving if contexts is not None else None
        yield from selected.telling(
            expunges, arrivals, flags, leaving, qresync=self.qresync, condstore=self.condstore, rev2=self.rev2
        )
        if contexts is not None:
            yield contexts.updates()

    def tell(self, *, expunges: bool, arrivals: bool) -> Flow[None]:
        """Tells what is new, as far as the client did not say by NOTIFY what it wants to know."""
        yield self._annotations()
        if self.listening is not None:
            yield from self.listening.tell(expunges=expunges, arrivals=arrivals)
        else:
            yield from self.news(expunges=expunges, arrivals=arrivals)
        if self.contexts is not None:
            yield from self.contexts.ready()

    def _annotations(self) -> bytes:
        """What others changed of annotations, for a client that enabled METADATA (RFC 5464 §4.4.2)."""
        told = self.annotation_news.told(self.utf8) if self.annotation_news is not None else b""
        return told if self.listening is None else b""  # with NOTIFY only what it asks for is told (RFC 5465 §3.1)

    def brings(self, uids: Collection[int]) -> None:
        """A command puts these into the selected mailbox: its answer tells of them (RFC 9051 §6.3.12)."""
        self.tell_arrivals, self.own_arrivals = True, uids

    def tell_result(self) -> Flow[None]:
        """What a command did to the selected mailbox, where that has to be told before its answer."""
        if self.listening is not None:
            yield from self.listening.tell_result(arrivals=self.tell_arrivals)
        else:
            yield from self.news(expunges=True, arrivals=self.tell_arrivals)

    def unsolicited(self) -> Handling | None:
        """What is to be told between commands; None: nothing (RFC 5465 §3.1)."""
        return None if self.listening is None else self.listening.between()

    def columns_ready(self) -> Flow[None]:
        """Has the sizes and dates of a large mailbox read by a worker, before they are looked at."""
        view = self.mailbox.view
        if view.columns_missing > _MANY_COLUMNS:
            yield from blocking(view.prepare_columns)

    # --- the way through a command ---

    def respond(self, frame: Frame) -> Handling | bytes:
        """Octets: that was all, and the state is as it was."""
        try:
            tag, command = self.grammar.parse(frame)
        except BadCommand as bad:
            self.bad_commands += 1
            return b"%b BAD %b\r\n" % (bad.tag, replies.printable(bad.text))
        rule = self.services.rules[type(command)]
        self.services.counters.commands += 1
        if rule.at_once is not None and self.state in rule.states:
            answer = rule.at_once(self, tag, command)
            if answer is not None:
                self.bad_commands = 0
                return answer
        return self._respond(tag, command, rule)

    def _respond(self, tag: bytes, command: Command, rule: Rule) -> Handling:
        if self.state not in rule.states:
            self.bad_commands += 1
            yield b"%b BAD This command is not possible in this state.\r\n" % tag
            return
        if self.principal is not None and self.principal.has_expired(self.services.clock.now()):
            self.close()
            yield b"%b NO %b\r\n* BYE %b\r\n" % (tag, replies.EXPIRED, replies.EXPIRED)
            return
        self.bad_commands = 0
        self.tell_arrivals, self.own_arrivals = False, ()
        try:
            if self.uid_only and uid_only.has_numbers(command):
                raise replies.Bad(uid_only.REFUSED)
            if rule.writes and self.read_only:
                raise replies.Refused(b"NOPERM", READ_ONLY)
            if self.selected is not None and self.selected.account is not self.account:
                yield from counted(self.services.shared, self.user, self.selected, command)
            done = yield from rule.run(self, tag, command)
            if done is None:
                return
            if self.contexts is not None or self.listening is not None:
                yield from self._look_again(command)
            answer = b"OK " + done
        except replies.MailboxGone:
            self.close()
            yield tag + b" NO [NONEXISTENT] The mailbox was deleted.\r\n* BYE The selected mailbox was deleted.\r\n"
            return
        except replies.NoLongerShared:
            self.close()
            yield tag + b" NO [NOPERM] The mailbox is no longer shared with you.\r\n* BYE It is no longer shared.\r\n"
            return
        except (CleanmailError, replies.Refused, replies.Bad) as error:
            answer = replies.refusal(error)
            if isinstance(error, CleanmailError) and error.detail:
                _log.warning("session %s: %s: %s", self.id, type(error).__name__, error.detail)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the server goes on
            _log.error("session %s: %s failed: %s", self.id, type(command).__name__, where(error))
            self.services.counters.failures += 1
            answer = replies.UNEXPECTED
        if self.others is not None:
            self.others.let_go(but=self.selected.account if self.selected is not None else None)
        news = rule.news(command)
        if news is not News.NONE:
            if self.annotation_news is not None:
                yield self._annotations()
            expunges, arrivals = news is not News.FLAGS, news is News.ALL or self.tell_arrivals
            if self.listening is not None:
                yield from self.listening.tell(expunges=expunges, arrivals=arrivals)
            else:
                yield from self.news(expunges=expunges, arrivals=arrivals)
            if self.contexts is not None:
                yield from self.contexts.ready()
        yield b"%b %b\r\n" % (tag, answer)

    def _look_again(self, command: Command) -> Flow[None]:
        """Before news are told. Whatever comes of it, the command is done; the next that looks says what is wrong."""
        with suppress(CleanmailError, replies.MailboxGone):
            if self.contexts is not None:
                self.mailbox.refresh()
            if self.listening is not None:
                yield from self.listening.after(command)


def _nobody() -> None:
    """A session without a shell, whose client is told in answers only."""
