"""What calendars, address books and folders of files hold about a person, and what is shared, mailboxes included.

Of an account its collections are told, with how much is in them; the entries themselves are in its archive. Of
everybody it is told in how many entries of a customer's users the address stands, and not whose they are: what a user
writes into a calendar or an address book is that user's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from sqlalchemy import bindparam, or_, select

from storage.database.prepared import prepare
from storage.directory.rows import State, TenantRow
from storage.mail.account import Account
from storage.persons.item import Item, moment
from storage.persons.sought import Sought
from storage.schema.collections import scheduling as under_way
from storage.schema.control import public_link
from storage.schema.tenant import mailbox_right, share

_SHARES = prepare(
    select(share.c.owner_id, share.c.kind, share.c.may_write, share.c.state, share.c.display_name, share.c.invited)
    .where(or_(share.c.owner_id == bindparam("account"), share.c.sharee_id == bindparam("account")))
    .order_by(share.c.owner_id, share.c.collection_id, share.c.sharee_id)
)
_MAILBOXES = prepare(
    select(mailbox_right.c.owner_id, mailbox_right.c.rights, mailbox_right.c.changed)
    .where(or_(mailbox_right.c.owner_id == bindparam("account"), mailbox_right.c.identifier == bindparam("account")))
    .order_by(mailbox_right.c.owner_id, mailbox_right.c.mailbox_id, mailbox_right.c.identifier)
)
_LINKS = prepare(
    select(public_link.c.created)
    .where(public_link.c.tenant_id == bindparam("tenant"), public_link.c.account_id == bindparam("account"))
    .order_by(public_link.c.created)
)
_UNDER_WAY = prepare(select(under_way.c.method, under_way.c.recipient, under_way.c.created))

_FOLD = re.compile(rb"\r?\n[ \t]")
_AT_ONCE = 200  # objects that are read together


def collections(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        naming: Counter[str] = Counter()
        for account in _accounts(sought, row):
            mine = row.tenant_id == sought.tenant_id and account.account_id == sought.account_id
            for each in account.collections.list():
                if mine:
                    yield {
                        "record": "account.collection",
                        "kind": each.kind.value,
                        "name": each.name,
                        "display_name": each.display_name,
                        "entries": each.objects,
                        "octets": each.bytes,
                        "created": moment(each.created),
                    }
            naming.update(_naming(account, names))
        for kind, entries in sorted(naming.items()):
            yield {
                "record": "account.object",
                "tenant": row.slug,
                "kind": kind,
                "entries_that_name_the_address": entries,
            }


def _naming(account: Account, names: Callable[[str], bool]) -> Iterator[str]:
    """The component of each entry in which the address stands; of files nothing is told, whatever they are."""
    for collection in account.collections.list():
        after = 0
        while rows := account.objects.some(collection.id, after, _AT_ONCE):
            after = rows[-1].object_id
            for stored, octets in account.objects.read_many(each for each in rows if each.component):
                if names(_FOLD.sub(b"", octets).decode("utf-8", "replace")):
                    yield stored.component


def scheduling(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        for account in _accounts(sought, row):
            mine = row.tenant_id == sought.tenant_id and account.account_id == sought.account_id
            with account.database.reading() as connection:
                rows = _UNDER_WAY.rows(connection)
            for method, recipient, created in rows:
                if mine or names(recipient):
                    yield {
                        "record": "account.scheduling",
                        "tenant": row.slug,
                        "method": method,
                        "since": moment(created),
                        "to_the_address": names(recipient),
                    }


def _accounts(sought: Sought, row: TenantRow) -> Iterator[Account]:
    """One customer's accounts, one after the other; what cannot be opened is said in the report."""
    with sought.reading(f"accounts of {row.slug}"):
        for each in sought.installation.tenant(row.tenant_id).accounts():
            if each.state is not State.ENDED:
                with (
                    sought.reading(f"calendars of account {each.account_id} of {row.slug}"),
                    sought.installation.account(row.tenant_id, each.account_id) as account,
                ):
                    yield account


def shares(sought: Sought) -> Iterator[Item]:
    """What the account shares and what is shared with it; with whom, and by whom, is the others'."""
    account_id, tenant_id = sought.account_id, sought.tenant_id
    if account_id is None or tenant_id is None:
        return
    with sought.installation.tenant(tenant_id).database.reading() as connection:
        rows = _SHARES.rows(connection, account=account_id)
        mailboxes = _MAILBOXES.rows(connection, account=account_id)
    for owner_id, kind, may_write, state, display_name, invited in rows:
        mine = owner_id == account_id
        yield {
            "record": "tenant.share",
            "kind": kind,
            "shared": "by this account" if mine else "with this account",
            "may_write": bool(may_write),
            "state": state,
            "display_name": "" if mine else display_name,  # the sharee's own
            "invited": moment(invited),
        }
    for owner_id, rights, changed in mailboxes:
        yield {
            "record": "tenant.mailbox_right",
            "kind": "mailbox",
            "shared": "by this account" if owner_id == account_id else "with this account",
            "rights": rights,
            "changed": moment(changed),
        }
    with sought.installation.control.database.reading() as connection:
        links = _LINKS.rows(connection, tenant=tenant_id, account=account_id)
    for (created,) in links:
        yield {"record": "control.public_link", "created": moment(created), "kept_as": "a hash of the link"}
