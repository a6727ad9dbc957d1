"""NOTIFY: tells a session of what it asked for, in answers, in IDLE and between commands.

A `Listener` notes which mailboxes and names have news, and nothing else: what is told is looked up when it may be
told. So many changes of one mailbox are one STATUS, a session that reads slowly keeps a bounded number of ids, and one
without news nothing. Beyond the bound, or where it asks for too much, it is told so and gets no more
(NOTIFICATIONOVERFLOW).

Messages of the selected mailbox: what others bring is told with EXISTS and the items asked for. An expunge is told
between commands with SELECTED, and with SELECTED-DELAYED where every session is told; never inside the answer to a
command by message numbers. A mailbox of others is watched in its owner's account, as far as he lets the user see it.

Standards: RFC 5465; RFC 5464 §4.4.2 (METADATA).
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Final

from hosting.imap import places
from hosting.imap.commands import Command, Create, Delete, Rename, Subscribe, Unsubscribe
from hosting.imap.effects import Flow, Handling, blocking
from hosting.imap.mailboxes.metadata_grammar import SetMetadata
from hosting.imap.news import newcomers
from hosting.imap.news.interests import (
    EVENTS,
    EXPUNGE,
    FLAGS,
    MESSAGES,
    METADATA,
    NAME,
    NEW,
    NOTHING,
    SUBSCRIPTION,
    Interests,
)
from hosting.imap.news.notify_grammar import Notify
from hosting.imap.news.notify_news import Key, News, list_lines, lost_line, metadata_line, no_access_line, status_line
from hosting.imap.news.watches import SEEN_COUNT, Watch
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing.other_users import Owner
from storage.errors import CleanmailError
from storage.mail.annotations import SERVER
from storage.mail.mailboxes import Mailbox
from storage.values import AccountId, MailboxId

_log = logging.getLogger(__name__)
_WAITING: Final = 2000  # mailboxes and names that one session may have news of
_NAMES: Final = 1000  # that one command may name
_GROUPS: Final = 100
_OWNERS: Final = 100  # accounts of others that one session may watch
_EVENTS: Final = " ".join(EVENTS)
_TOO_MUCH: Final = (b"NOTIFICATIONOVERFLOW", "That is more than one session may ask for.")


def notify(session: Session, _: bytes, command: Notify) -> Flow[bytes]:
    if len(command.groups) > _GROUPS or sum(len(group.names) for group in command.groups) > _NAMES:
        raise Refused(*_TOO_MUCH)
    try:
        interests = Interests.of(command.groups)
    except KeyError:
        raise Refused(f"BADEVENT ({_EVENTS})".encode("ascii"), "There is an event that cannot be told.") from None
    listener = Listener(session, interests)
    try:
        yield from listener.begin()
    except BaseException:
        listener.close()
        raise
    before, session.listening = session.listening, listener
    if before is not None:
        before.close()
    if any(item.name == "MODSEQ" for item in interests.items):
        session.condstore = True  # RFC 7162 §3.1
    yield from listener.first(with_status=command.status)
    if command.groups and session.selected is not None:  # an implicit NOOP (RFC 5465 §3.1)
        session.looked()
        session.selected.refresh()
        yield from listener.tell_selected(MESSAGES, expunges=True, arrivals=True)
    return b"That will be told." if command.groups else b"Nothing will be told."


class Listener:
    """What one session asked for; see `hosting.imap.session.Listening` and `hosting.imap.news.watches.Watcher`."""

    __slots__ = ("_interests", "_is_overflowing", "_news", "_own", "_owners", "_rights_changed", "_session", "_watched")

    def __init__(self, session: Session, interests: Interests) -> None:
        self._session = session
        self._interests = interests
        self._own: Watch | None = None
        self._owners: dict[AccountId, Owner] = {}  # whose mailboxes are watched, too
        self._watched: dict[AccountId, Watch] = {}
        self._news: News | None = None
        self._rights_changed = self._is_overflowing = False

    # --- beginning and end ---

    def begin(self) -> Flow[None]:
        """Watches what is asked for."""
        session, interests = self._session, self._interests
        if not interests.elsewhere:
            return
        account, watches = session.mail, session.services.watches
        known = watches.of(account.account_id)
        listing = known.listing if known is not None else (yield from blocking(lambda: Watch.read(account)))
        self._own = watches.add(self, account, listing)
        if interests.may_mean_others:
            watches.follow_rights(self, session.user.tenant_id)
            yield from self._watch_others()

    def _watch_others(self) -> Flow[None]:
        """Watches the accounts in which mailboxes of interest may be shared with the user, and no others."""
        session, watches = self._session, self._session.services.watches
        shared = yield from places.shared(session)
        subscribed = self._own.listing.subscribed if self._own is not None else frozenset()
        self._owners = {
            account_id: owner
            for account_id, owner in shared.owners.items()
            if self._interests.may_mean(owner.root, subscribed)
        }
        if len(self._owners) > _OWNERS:
            raise Refused(*_TOO_MUCH)
        for account_id in self._watched.keys() - self._owners.keys():
            watches.remove(self, self._watched.pop(account_id))
        for account_id, owner in self._owners.items():
            if account_id in self._watched:
                continue
            lease = session.services.installation.account(session.user.tenant_id, account_id, limits=owner.limits)
            try:  # in one step: a client that hangs up meanwhile leaves nothing open
                account, listing = yield from blocking(partial(Watch.opened, lease))
            except CleanmailError:  # he has ended a moment ago
                lease.__exit__(None, None, None)
                continue
            self._watched[account_id] = watches.add(self, account, listing, lease)

    def close(self) -> None:
        session, watches = self._session, self._session.services.watches
        for watch in (self._own, *self._watched.values()):
            if watch is not None:
                watches.remove(self, watch)
        self._own, self._watched = None, {}
        if session.principal is not None and self._interests.may_mean_others:
            watches.leave_rights(self, session.principal.tenant_id)
        self._interests, self._news = NOTHING, None

    # --- names and rights ---

    def _name(self, watch: Watch, name: str) -> str:
        """What the session calls a mailbox of a watched account."""
        owner = self._owners.get(watch.account.account_id)
        return name if watch is self._own or owner is None else owner.name_of(name)

    def _rights(self, watch: Watch, mailbox_id: MailboxId) -> str:
        owner = self._owners.get(watch.account.account_id)
        if watch is self._own:
            return "lr"
        return owner.rights.get(mailbox_id, "") if owner is not None else ""

    def _asked(self, watch: Watch, name: str) -> int:
        """Which events were asked for of a name."""
        subscribed = self._own is not None and name in self._own.listing.subscribed
        return self._interests.of_mailbox(name, is_own=watch is self._own, is_subscribed=subscribed)

    def _wanted(self, watch: Watch, mailbox: Mailbox) -> int:
        """Which events are wanted of a mailbox, and may be told (RFC 5465 §5: "l" and "r")."""
        rights = self._rights(watch, mailbox.id)
        return self._asked(watch, self._name(watch, mailbox.name)) if "l" in rights and "r" in rights else 0

    def _is_selected(self, key: Key) -> bool:
        selected = self._session.selected
        return selected is not None and (selected.account.account_id, selected.mailbox_id) == key

    # --- what is noticed (hosting.imap.news.watches.Watcher) ---

    def messages_changed(self, watch: Watch, mailbox: Mailbox, events: int) -> None:
        key = (watch.account.account_id, mailbox.id)
        wanted = self._wanted(watch, mailbox)
        told = events & wanted & MESSAGES
        if not told or self._is_selected(key):
            return
        if told == FLAGS and not (self._session.condstore or events & SEEN_COUNT):
            return  # nothing that a STATUS could show (RFC 5465 §5.1)
        messages = self._noting().messages
        messages[key] = messages.get(key, 0) | told
        self._check()

    def name_changed(self, watch: Watch, mailbox_id: MailboxId, name: str, old: str | None) -> None:
        if "l" not in self._rights(watch, mailbox_id):  # also of one that is gone: it was none of the user's business
            return
        mine, before = self._name(watch, name), None if old is None else self._name(watch, old)
        if not (self._asked(watch, mine) | (self._asked(watch, before) if before is not None else 0)) & NAME:
            return
        names = self._noting().names
        names[mine] = before
        above = mine.rpartition("/")[0]
        if before is None and above and self._asked(watch, above) & NAME:
            names.setdefault(above, None)  # its parent is affected, too (RFC 5465 §5.4)
        self._check()

    def subscription_changed(self, watch: Watch, name: str) -> None:
        if watch is not self._own:  # what others are subscribed to is their own business
            return
        is_own = not places.is_of_others(name)
        self._rights_changed = self._rights_changed or (not is_own and bool(self._interests.subscribed))
        if self._interests.of_mailbox(name, is_own=is_own, is_subscribed=True) & SUBSCRIPTION:
            self._noting().names.setdefault(name, None)
            self._check()

    def annotations_changed(self, watch: Watch, mailbox_id: MailboxId, entries: Collection[str]) -> None:
        if mailbox_id == SERVER:
            wanted = watch is self._own and self._interests.server
        else:
            mailbox = watch.listing.mailboxes.get(mailbox_id)
            wanted = mailbox is not None and bool(self._wanted(watch, mailbox) & METADATA)
        told = [entry for entry in entries if watch is self._own or entry.startswith("/shared/")]
        if wanted and told:
            self._noting().annotations.setdefault((watch.account.account_id, mailbox_id), set()).update(told)
            self._check()

    def rights_changed(self) -> None:
        self._rights_changed = True

    def wake(self) -> None:
        self._session.wake()

    def _noting(self) -> News:
        self._news = self._news or News()
        return self._news

    def _check(self) -> None:
        if self._news is not None and len(self._news) > _WAITING:
            self.close()
            self._is_overflowing = True

    # --- what is told ---

    def first(self, *, with_status: bool) -> Flow[None]:
        """After NOTIFY itself: what may not be read, and with STATUS where everything stands (RFC 5465 §3.1)."""
        for watch in (self._own, *self._watched.values()):
            for mailbox in watch.listing.mailboxes.values() if watch is not None else ():
                assert watch is not None
                rights, name = self._rights(watch, mailbox.id), self._name(watch, mailbox.name)
                if "l" in rights and "r" not in rights and self._asked(watch, name):
                    yield no_access_line(name, utf8=self._session.utf8)
                wanted = self._wanted(watch, mailbox) & MESSAGES
                if with_status and wanted and not self._is_selected((watch.account.account_id, mailbox.id)):
                    yield self._status(name, mailbox, wanted, with_modseq=bool(wanted & FLAGS))

    def between(self) -> Handling | None:
        if not (self._news or self._rights_changed or self._is_overflowing or self._has_news_of_selected()):
            return None
        return self._between()

    def _has_news_of_selected(self) -> bool:
        selected, wanted = self._session.selected, self._interests.selected
        if selected is None or not wanted:
            return False
        selected.absorb()
        if wanted & NEW and selected.has_arrivals:
            return True
        if wanted & FLAGS and (selected.has_changed or selected.has_new_keywords):
            return True
        return bool(wanted & EXPUNGE and self._interests.at_once and selected.has_vanished)

    def _between(self) -> Handling:
        self._session.tell_arrivals, self._session.own_arrivals = False, ()
        yield from self._session.tell(expunges=self._interests.at_once, arrivals=True)

    def tell(self, *, expunges: bool, arrivals: bool) -> Flow[None]:
        try:
            yield from self.tell_selected(self._interests.selected, expunges=expunges, arrivals=arrivals)
            if self._rights_changed:
                yield from self._look_at_rights()
            if self._news is not None:
                yield self._elsewhere()
        except (CleanmailError, Refused) as error:
            _log.warning("session %s: news could not be told: %s", self._session.id, type(error).__name__)
            self.close()
            self._is_overflowing = True
        if self._is_overflowing:
            self._is_overflowing = False
            yield b"* OK [NOTIFICATIONOVERFLOW] There was too much to tell; ask again.\r\n"

    def tell_result(self, *, arrivals: bool) -> Flow[None]:
        yield from self.tell_selected(MESSAGES, expunges=True, arrivals=arrivals)

    def tell_selected(self, wanted: int, *, expunges: bool, arrivals: bool) -> Flow[None]:
        session = self._session
        selected = session.selected
        if selected is None:
            return
        last = selected.last_uid
        yield from session.news(
            expunges=expunges and bool(wanted & EXPUNGE),
            arrivals=arrivals and bool(wanted & NEW or session.tell_arrivals),
            flags=bool(wanted & FLAGS),
        )
        first = bisect_right(selected.uids, last, 0, selected.told)
        positions: Sequence[int] = range(first, selected.told)
        if session.own_arrivals:  # the client knows them (RFC 5465 §5.2)
            positions = [at for at in positions if selected.uids[at] not in session.own_arrivals]
        if self._interests.selected & NEW:
            yield from newcomers.tell(session, positions, self._interests.items)

    def _look_at_rights(self) -> Flow[None]:
        """Of what others share something is another's or may be done by others: all of it is looked at again."""
        self._rights_changed = False
        before = self._visible()
        yield from self._watch_others()
        now = self._visible()
        for name in before ^ now:
            if self._asked_of_others(name) & NAME:
                self._noting().names.setdefault(name, None)
        for name in sorted(before - now):
            yield lost_line(name, utf8=self._session.utf8)
            if self._news is not None:
                self._news.names.pop(name, None)

    def _asked_of_others(self, name: str) -> int:
        subscribed = self._own is not None and name in self._own.listing.subscribed
        return self._interests.of_mailbox(name, is_own=False, is_subscribed=subscribed)

    def _visible(self) -> set[str]:
        return {
            self._name(watch, mailbox.name)
            for watch in self._watched.values()
            for mailbox in watch.listing.mailboxes.values()
            if "l" in self._rights(watch, mailbox.id)
        }

    def _elsewhere(self) -> bytes:
        news, self._news = self._news, None
        if news is None:
            return b""
        lines = [self._lists(news.names)] if news.names else []
        for key, events in news.messages.items():
            watch, mailbox = self._find(key)
            wanted = self._wanted(watch, mailbox) & events if watch is not None and mailbox is not None else 0
            if wanted and not self._is_selected(key):
                assert watch is not None and mailbox is not None
                lines.append(self._status(self._name(watch, mailbox.name), mailbox, wanted))
        for key, entries in news.annotations.items():
            watch, mailbox = self._find(key)
            name = self._name(watch, mailbox.name) if watch is not None and mailbox is not None else ""
            if name or key[1] == SERVER:
                lines.append(metadata_line(name, entries, utf8=self._session.utf8))
        return b"".join(lines)

    def _find(self, key: Key) -> tuple[Watch | None, Mailbox | None]:
        own = self._own
        watch = own if own is not None and own.account.account_id == key[0] else self._watched.get(key[0])
        return watch, None if watch is None else watch.listing.mailboxes.get(key[1])

    def _status(self, name: str, mailbox: Mailbox, events: int, *, with_modseq: bool = False) -> bytes:
        session = self._session
        return status_line(name, mailbox, events, with_modseq=with_modseq or session.condstore, utf8=session.utf8)

    def _lists(self, names: Mapping[str, str | None]) -> bytes:
        there: dict[str, tuple[str, ...]] = {}
        for watch in (self._own, *self._watched.values()):
            for mailbox in watch.listing.mailboxes.values() if watch is not None else ():
                assert watch is not None
                if "l" in self._rights(watch, mailbox.id):
                    there[self._name(watch, mailbox.name)] = mailbox.special_use if watch is self._own else ()
        subscribed = self._own.listing.subscribed if self._own is not None else frozenset()
        return list_lines(names, there, subscribed, utf8=self._session.utf8)

    # --- what the session does itself ---

    def after(self, command: Command) -> Flow[None]:
        """It is told to all others here, and so is no news any more when the change feed brings it."""
        own = self._own
        if own is None or isinstance(command, Notify):
            return
        account, services = own.account, self._session.services
        if isinstance(command, Create | Delete | Rename | Subscribe | Unsubscribe):
            names = {command.mailbox.rstrip("/")}
            if isinstance(command, Rename):
                names.add(command.new.rstrip("/"))
            names |= {name[:cut] for name in names for cut in range(len(name)) if name[cut] == "/"}
            listing = yield from blocking(lambda: Watch.read(account))
            own.take(listing, self, names)
        elif isinstance(command, SetMetadata):
            own.look_at_annotations(self)
        elif (name := getattr(command, "mailbox", None)) is not None and self._session.services.rules[
            type(command)
        ].writes:
            for mailbox in own.listing.mailboxes.values():
                if mailbox.name == name:
                    own.look(mailbox.id, self)
                    break
        else:
            return
        services.watches.wake([own])
