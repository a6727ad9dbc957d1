"""Accounts that sessions watch as a whole (NOTIFY): what changed in them is found out once, for all who watch.

A `Watch` has the mailboxes of one account as they were told of last. What the change feed says is compared with it, and
what is new goes to the watchers of that account and to no other; each then decides whether it was asked for that.

Confined to the event loop, but for `Watch.read`. Accounts of others are leased while somebody watches them.
Standards: RFC 5465 §5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from hosting.imap.news.annotation_news import AnnotationNews
from hosting.imap.news.interests import EXPUNGE, FLAGS, NEW
from storage.changes import (
    AccountChanged,
    AccountEnded,
    Change,
    Gap,
    MailboxesChanged,
    Published,
    RightsChanged,
    TenantEnded,
)
from storage.errors import CleanmailError, NotFound
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.values import AccountId, MailboxId, TenantId

_log = logging.getLogger(__name__)
SEEN_COUNT: Final = 1 << 10  # beside FLAGS: the number of unseen messages is another


class Watcher(Protocol):
    """A session that asked to be told."""

    def messages_changed(self, watch: Watch, mailbox: Mailbox, events: int) -> None: ...
    def name_changed(self, watch: Watch, mailbox_id: MailboxId, name: str, old: str | None) -> None: ...
    def subscription_changed(self, watch: Watch, name: str) -> None: ...
    def annotations_changed(self, watch: Watch, mailbox_id: MailboxId, entries: Collection[str]) -> None: ...
    def rights_changed(self) -> None: ...
    def wake(self) -> None:
        """All of a turn was said."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """All mailboxes and subscriptions of an account at one moment."""

    mailboxes: dict[MailboxId, Mailbox]
    subscribed: frozenset[str]


class Watch:
    __slots__ = ("_again", "_annotations", "_lease", "_reading", "account", "listing", "watchers")

    def __init__(self, account: Account, listing: Listing, lease: AbstractContextManager[Account] | None) -> None:
        self.account = account
        self.listing = listing
        self.watchers: set[Watcher] = set()
        self._annotations = AnnotationNews(account)
        self._lease = lease
        self._reading = self._again = False

    @staticmethod
    def read(account: Account) -> Listing:
        """Blocks."""
        listed = {mailbox.id: mailbox for mailbox in account.mailboxes.list()}
        return Listing(listed, frozenset(account.mailboxes.subscriptions()))

    @staticmethod
    def opened(lease: AbstractContextManager[Account]) -> tuple[Account, Listing]:
        """An account of another, open from here on, and what is in it. Blocks."""
        account = lease.__enter__()
        return account, Watch.read(account)

    def begin_reading(self) -> bool:
        """Whether to read now; else it is read once more when the reading under way is done."""
        self._again, started = self._reading, not self._reading
        self._reading = True
        return started

    def end_reading(self) -> bool:
        """Whether to read once more."""
        self._reading = False
        return self._again

    def look(self, mailbox_id: MailboxId, by: Watcher | None = None) -> bool:
        """Messages of a mailbox changed; False: it is not a known one. `by` did it, and is not told."""
        try:
            now = self.account.mailboxes.by_id(mailbox_id)
        except NotFound:
            return mailbox_id not in self.listing.mailboxes
        before = self.listing.mailboxes.get(mailbox_id)
        if before is None or before.name != now.name:
            return False
        self.listing.mailboxes[mailbox_id] = now
        self._compare(before, now, by)
        return True

    def take(self, listing: Listing, by: Watcher | None = None, own: Collection[str] = ()) -> None:
        """Everything was read anew. What `by` did to the names `own` is no news to it."""
        before, self.listing = self.listing, listing
        gone = [each for each in before.mailboxes.values() if each.id not in listing.mailboxes]
        come = [each for each in listing.mailboxes.values() if each.id not in before.mailboxes]
        for mailbox in (*gone, *come):
            self._tell_name(mailbox.id, mailbox.name, None, by, own)
        renamed = {
            before.mailboxes[each.id].name: each
            for each in listing.mailboxes.values()
            if each.id in before.mailboxes and before.mailboxes[each.id].name != each.name
        }
        for old, mailbox in renamed.items():
            if not _follows(old, mailbox.name, renamed):  # of its children no more is told (RFC 5465 §5.4)
                self._tell_name(mailbox.id, mailbox.name, old, by, own)
        for name in before.subscribed ^ listing.subscribed:
            for watcher in self._others(by if name in own else None):
                watcher.subscription_changed(self, name)
        for mailbox in listing.mailboxes.values():
            known = before.mailboxes.get(mailbox.id)
            if known is not None:
                self._compare(known, mailbox, by)
        self.look_at_annotations(by)

    def look_at_annotations(self, by: Watcher | None = None) -> None:
        for mailbox_id, entries in self._annotations.take().items():
            for watcher in self._others(by):
                watcher.annotations_changed(self, mailbox_id, entries)

    def _compare(self, before: Mailbox, now: Mailbox, by: Watcher | None) -> None:
        if before.highest_modseq == now.highest_modseq and before.messages == now.messages:
            return
        events = 0
        if now.uidnext > before.uidnext:
            events |= NEW
        if now.messages - before.messages != now.uidnext - before.uidnext:
            events |= EXPUNGE
        if not events or now.highest_modseq - before.highest_modseq > 1:
            events |= FLAGS
        if now.unseen != before.unseen:
            events |= SEEN_COUNT
        for watcher in self._others(by):
            watcher.messages_changed(self, now, events)

    def _tell_name(
        self, mailbox_id: MailboxId, name: str, old: str | None, by: Watcher | None, own: Collection[str]
    ) -> None:
        for watcher in self._others(by if name in own or old in own else None):
            watcher.name_changed(self, mailbox_id, name, old)

    def _others(self, but: Watcher | None) -> Iterable[Watcher]:
        return [watcher for watcher in self.watchers if watcher is not but]

    def take_lease(self, lease: AbstractContextManager[Account]) -> None:
        """Whoever began to watch may hold his account open by his session alone, and leave before the others."""
        if self._lease is None:
            self._lease = lease
        else:
            lease.__exit__(None, None, None)

    def release(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.__exit__(None, None, None)


def _follows(old: str, new: str, renamed: Mapping[str, Mailbox]) -> bool:
    """Whether a mailbox was renamed only because one above it was."""
    cut = old.rfind("/")
    while cut > 0:
        above = renamed.get(old[:cut])
        if above is not None:
            return new == above.name + old[cut:]
        cut = old.rfind("/", 0, cut)
    return False


class Attention(Protocol):
    """What this process is told of (`hosting.imap.shell.attention`)."""

    look: Callable[[Published], None]

    def pay(self, account_id: AccountId) -> None: ...
    def withdraw(self, account_id: AccountId) -> None: ...


class Watches:
    """Of one worker."""

    __slots__ = ("_accounts", "_attention", "_tenants")

    def __init__(self, attention: Attention | None = None) -> None:
        self._attention = attention
        self._accounts: dict[AccountId, Watch] = {}
        self._tenants: dict[TenantId, set[Watcher]] = {}  # whom changes of rights may concern

    def of(self, account_id: AccountId) -> Watch | None:
        return self._accounts.get(account_id)

    def __len__(self) -> int:
        return len(self._accounts)

    def add(
        self, watcher: Watcher, account: Account, listing: Listing, lease: AbstractContextManager[Account] | None = None
    ) -> Watch:
        """Who watches already an account shares what is known of it; a lease too many is given back."""
        watch = self._accounts.get(account.account_id)
        if watch is None or watch.account is not account:
            if self._attention is not None:
                if watch is None:
                    self._attention.pay(account.account_id)
                self._attention.look(MailboxesChanged(account.account_id))  # the listing is of a while ago
            watch = self._accounts[account.account_id] = Watch(account, listing, lease)
        elif lease is not None:
            watch.take_lease(lease)
        watch.watchers.add(watcher)
        return watch

    def remove(self, watcher: Watcher, watch: Watch) -> None:
        watch.watchers.discard(watcher)
        if not watch.watchers:
            if self._accounts.get(watch.account.account_id) is watch:
                self._leave(watch.account.account_id)
            watch.release()

    def _leave(self, account_id: AccountId) -> Watch:
        if self._attention is not None:
            self._attention.withdraw(account_id)
        return self._accounts.pop(account_id)

    def follow_rights(self, watcher: Watcher, tenant_id: TenantId) -> None:
        self._tenants.setdefault(tenant_id, set()).add(watcher)

    def leave_rights(self, watcher: Watcher, tenant_id: TenantId) -> None:
        watchers = self._tenants.get(tenant_id, set())
        watchers.discard(watcher)
        if not watchers:
            self._tenants.pop(tenant_id, None)

    def changed(self, changes: Iterable[Published | Gap]) -> list[Watch]:
        """What the feed told of; those that have to be read anew, after which `take` and `wake` are called."""
        anew: dict[int, Watch] = {}
        touched: list[Watch] = []
        if not self._accounts and not self._tenants:
            return []
        for change in dict.fromkeys(changes):
            match change:
                case Change(account_id=account_id, mailbox_id=mailbox_id) if account_id in self._accounts:
                    watch = self._accounts[account_id]
                    touched.append(watch)
                    try:
                        if not watch.look(mailbox_id):
                            anew[id(watch)] = watch
                    except CleanmailError as error:
                        _log.warning("account %d could not be looked at: %s", account_id, type(error).__name__)
                case MailboxesChanged(account_id=account_id) if account_id in self._accounts:
                    anew[id(self._accounts[account_id])] = self._accounts[account_id]
                case RightsChanged(tenant_id=tenant_id) | AccountChanged(tenant_id=tenant_id):
                    self._look_at_rights(tenant_id)  # an owner may have been suspended, or be back
                case AccountEnded(tenant_id=tenant_id, account_id=account_id):
                    if account_id in self._accounts:
                        self._leave(account_id).release()
                    self._look_at_rights(tenant_id)
                case TenantEnded(tenant_id=tenant_id):
                    for watch in [each for each in self._accounts.values() if each.account.tenant_id == tenant_id]:
                        self._leave(watch.account.account_id).release()
                case Gap():
                    anew.update((id(watch), watch) for watch in self._accounts.values())
        self.wake(touched)
        return list(anew.values())

    def _look_at_rights(self, tenant_id: TenantId) -> None:
        for watcher in list(self._tenants.get(tenant_id, ())):
            watcher.rights_changed()
            watcher.wake()

    def wake(self, watches: Iterable[Watch]) -> None:
        """Lets those tell who have something to tell, each once."""
        for watcher in {watcher: None for watch in watches for watcher in watch.watchers}:
            watcher.wake()
