"""CREATE, DELETE and RENAME where a mailbox may be another's, and what becomes of access control lists thereby.

A new mailbox has the list of the one above it, whoever makes it, and a deleted one leaves none behind; a renamed one
keeps its own. A mailbox stays in the account of its owner, and at the top of an account only its owner makes mailboxes.
Whoever renames one has to have the right `x` to all that are moved along.

Raises: NotFound, NotPermitted, AlreadyExists, InvalidInput, LimitReached, Conflict.
Standards: RFC 4314 §4.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

from hosting.imap import places
from hosting.imap.effects import Flow, blocking
from hosting.imap.place import Place
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.other_users import Owner
from storage.errors import CleanmailError, NotPermitted
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.mail.names import INBOX, SEPARATOR, canonical, parents

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Home:
    """The account in which a name lies."""

    account: Account
    owner: Owner | None  # None: it is the user's own

    def name_of(self, mailbox: str) -> str:
        """What the user calls a mailbox of it."""
        return mailbox if self.owner is None else self.owner.name_of(mailbox)


def home_of_new(session: Session, name: str) -> Flow[tuple[Home, str]]:
    """Where a mailbox of this name would be made, and how it is called there. Raises NotPermitted."""
    if not places.is_of_others(name):
        return Home(session.mail, None), name
    split = (yield from places.shared(session)).split(name)
    if split is None or not split[1]:
        raise _refused()
    owner, called = split
    account = yield from places.opened(session, owner)
    above = account.mailboxes.above(called)
    if above is None or rights.NEEDED["CREATE"] not in owner.rights.get(above.id, ""):
        raise _refused()
    return Home(account, owner), called


def create(session: Session, home: Home, called: str, uses: tuple[str, ...]) -> Flow[Mailbox]:
    """The new mailbox, with the access control list of the one above it."""
    mailboxes, owner_id = home.account.mailboxes, home.account.account_id
    shared, tenant_id = session.services.shared, session.user.tenant_id

    def work() -> Mailbox:
        above, made = mailboxes.create_below(called, uses)
        if above is not None:
            try:
                shared.directory.inherit(tenant_id, owner_id, above.id, [each.id for each in made])
            except CleanmailError:
                for each in made:
                    mailboxes.delete(each.name, only=each.id)
                raise
        return made[-1]

    mailbox = yield from blocking(work)
    if SEPARATOR in called:
        shared.forget(tenant_id)
    return mailbox


def delete(session: Session, place: Place) -> Flow[None]:
    """With its access control list."""
    mailboxes, owner_id = place.account.mailboxes, place.account.account_id
    shared, tenant_id = session.services.shared, session.user.tenant_id

    def work() -> None:
        mailboxes.delete(place.mailbox.name, only=place.mailbox.id)
        try:
            shared.directory.remove_mailbox(tenant_id, owner_id, place.mailbox.id)
        except CleanmailError as error:  # its number is never used again: the rows give nobody anything
            _log.warning("account %d: rights to a deleted mailbox stay: %s", owner_id, type(error).__name__)

    yield from blocking(work)
    shared.forget(tenant_id)


def rename(session: Session, old: str, new: str) -> Flow[None]:
    """One of another's, within his account; or one of the user's own that is older than the namespace of others."""
    shared = yield from places.shared(session)
    source = shared.split(old) if places.is_of_others(old) else None
    if source is None:
        if places.is_of_others(new):
            raise NotPermitted("A mailbox stays with its owner.")
        mailboxes = session.mail.mailboxes
        yield from blocking(lambda: mailboxes.rename(old, new))
        return
    place = yield from places.find(session, old, rights.NEEDED["RENAME"])
    if place.mailbox.name == INBOX:
        raise NotPermitted("INBOX is renamed by its owner only.")
    owner = source[0]
    target = shared.split(new)
    if target is None or target[0].account_id != owner.account_id or not target[1]:
        raise NotPermitted("A mailbox stays with its owner.")
    yield from _rename(place.account, owner, place.mailbox.name, target[1])


def _rename(account: Account, owner: Owner, old: str, new: str) -> Flow[None]:
    listed = account.mailboxes.list()
    moved = [each for each in listed if each.name == old or each.name.startswith(old + SEPARATOR)]
    for each in moved:
        if rights.NEEDED["RENAME"] not in owner.rights.get(each.id, ""):
            raise NotPermitted("Its owner does not let you do that.")
    going = {each.id for each in moved}
    above = _above([each for each in listed if each.id not in going], new)
    if above is None or rights.NEEDED["RENAME to"] not in owner.rights.get(above.id, ""):
        raise _refused()
    mailboxes = account.mailboxes
    yield from blocking(lambda: mailboxes.rename(old, new, only=going))


def canonical_name(session: Session, name: str) -> Flow[str]:
    """The one spelling of a name for subscriptions, whether there is such a mailbox or not."""
    name = canonical(name)
    if not places.is_of_others(name):
        return name
    split = (yield from places.shared(session)).split(name)
    return split[0].name_of(split[1]) if split is not None and split[1] else name


def _above(mailboxes: Collection[Mailbox], name: str) -> Mailbox | None:
    """The nearest mailbox above a name."""
    by_name = {mailbox.name: mailbox for mailbox in mailboxes}
    found = [by_name[above] for above in parents(name) if above in by_name]
    return found[-1] if found else None


def _refused() -> CleanmailError:
    """The same whether it is there and may not be seen, or is not there."""
    return NotPermitted("No mailbox can be made there.")
