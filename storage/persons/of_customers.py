"""What a customer's databases hold about a person: the mailbox, the account and its addresses, rules, withheld mail.

Of an account nothing is told but to whom it belongs; of a stranger what names his address, and of messages that others
got as well only that he is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from sqlalchemy import select

from storage.database.prepared import prepare
from storage.filter.rules import of_account
from storage.mail.account import Account
from storage.persons.item import Item, moment
from storage.persons.sought import Sought
from storage.quarantine.store import Quarantine
from storage.quarantine.values import Query
from storage.schema.account import moving
from storage.schema.tenant import srs

_SRS = prepare(select(srs.c.address, srs.c.expires))
_MOVING = prepare(select(moving.c.source, moving.c.folder).order_by(moving.c.folder_id))


@contextmanager
def _opened(sought: Sought) -> Iterator[Account | None]:
    """The person's account, if there is one that opens; what fails is said in the report."""
    with ExitStack() as stack:
        account = None
        if sought.account_id is not None and sought.tenant_id is not None:
            with sought.reading("the mailbox"):
                account = stack.enter_context(sought.installation.account(sought.tenant_id, sought.account_id))
        yield account


def mail(sought: Sought) -> Iterator[Item]:
    """Folders with their counts; messages only where they are asked for (`storage.persons.report`).

    Of what clients keep beside them the names; the values are in the account's archive.
    """
    with _opened(sought) as account:
        if account is not None:
            names = {mailbox.id: mailbox.name for mailbox in account.mailboxes.list()}
            for mailbox in account.mailboxes.list():
                yield {"record": "account.mailbox", "folder": mailbox.name, "messages": mailbox.messages}
            for owner_id, mailbox_id, entry, value in account.annotations.all():
                folder = names.get(mailbox_id, "") if owner_id == account.account_id else "of another account"
                yield {"record": "account.annotation", "folder": folder, "entry": entry, "octets": len(value)}


def moving_in(sought: Sought) -> Iterator[Item]:
    with _opened(sought) as account:
        if account is not None:
            with account.database.reading() as connection:
                rows = _MOVING.rows(connection)
            for source, folder in rows:
                yield {"record": "account.moving", "source": source, "folder": folder}


def accounts(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"accounts of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            account = sought.account if row.tenant_id == sought.tenant_id else None
            if account is not None:
                yield {
                    "record": "tenant.account",
                    "tenant": row.slug,
                    "address": str(account.login),
                    "name": account.name,
                    "state": account.state.value,
                    "created": moment(account.created),
                    "quota_bytes": account.quota_bytes,
                    "quota_messages": account.quota_messages,
                    "catch_all_sender": account.catch_all_sender,
                }
                for password in tenant.app_passwords.list(account.account_id):
                    yield {
                        "record": "tenant.app_password",
                        "tenant": row.slug,
                        "name": password.name,
                        "protocols": sorted(password.protocols),
                        "created": moment(password.created),
                        "revoked": moment(password.revoked),
                    }
            for alias in tenant.addresses.aliases():
                leads = account is not None and account.account_id in alias.accounts
                if leads or names(alias.address) or any(names(str(each)) for each in alias.addresses):
                    yield {
                        "record": "tenant.address",
                        "tenant": row.slug,
                        "address": alias.address,
                        "leads_to": [str(account.login)] if leads and account is not None else [],
                        "also_to": [str(each) for each in alias.addresses if names(str(each))],
                    }


def settings(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"settings of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            own = of_account(sought.account_id) if sought.account_id and row.tenant_id == sought.tenant_id else None
            for scope, name, text in tenant.filter_rules.all_rules():
                if scope == own:
                    yield {"record": "tenant.filter_setting", "tenant": row.slug, "rule": name, "value": text}
            for entry in tenant.filter_rules.entries():
                if entry.scope == own or names(entry.pattern):
                    yield {
                        "record": "tenant.filter_list",
                        "tenant": row.slug,
                        "list": entry.kind.value,
                        "pattern": entry.pattern,
                        "created": moment(entry.created),
                        "of_this_account": entry.scope == own,
                    }
            for name, value in tenant.settings("").items():
                if names(value):
                    yield {"record": "tenant.setting", "tenant": row.slug, "setting": name, "value": value}


def stopped(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        found = sought.installation.tenant(sought.tenant_id).frozen.find(sought.account_id)
        if found is not None:
            yield {"record": "tenant.frozen", "since": moment(found.since), "reason": found.reason}


def forwarded(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    for row in sought.living():
        with sought.reading(f"forwarded senders of {row.slug}"):
            with sought.installation.tenant(row.tenant_id).database.reading() as connection:
                rows = _SRS.rows(connection)
            for address, expires in rows:
                if names(address):
                    yield {"record": "tenant.srs", "tenant": row.slug, "address": address, "until": moment(expires)}


def withheld(sought: Sought) -> Iterator[Item]:
    names = sought.namer()
    quarantine = Quarantine(sought.installation)
    for row in sought.living():
        with sought.reading(f"withheld mail of {row.slug}"):
            for message in quarantine.of(row.tenant_id).each(Query()):
                wrote = names(str(message.sender or "")) or names(message.author)
                mine = [
                    each
                    for each in message.recipients
                    if names(str(each.address)) or sought.account_id in {each.onward.account_id} - {None}
                ]
                if wrote or mine:
                    yield {
                        "record": "tenant.quarantine",
                        "tenant": row.slug,
                        "id": message.quarantine_id,
                        "received": moment(message.received),
                        "until": moment(message.expires),
                        "sender": str(message.sender or ""),
                        "author": message.author,
                        "subject": message.subject,
                        "size": message.size,
                        # Who else would have got it is nobody's business but theirs.
                        "recipients": [str(each.address) for each in mine],
                        "reason": message.reason,
                    }


def experience(sought: Sought) -> Iterator[Item]:
    for row in sought.living():
        with sought.reading(f"experience of {row.slug}"):
            tenant = sought.installation.tenant(row.tenant_id)
            tenant.correspondents.flush()
            for address in sought.addresses:
                accounts = tenant.correspondents.knowing(address)
                if accounts:
                    yield {
                        "record": "tenant.correspondent",
                        "tenant": row.slug,
                        "address": str(address),
                        "accounts_that_wrote_to_it": accounts,
                        "kept_as": "a keyed hash of the address",
                    }


def corrections(sought: Sought) -> Iterator[Item]:
    if sought.account_id is not None and sought.tenant_id is not None:
        revisions = sought.installation.tenant(sought.tenant_id).corrections.revisions(sought.account_id)
        if revisions.own:
            yield {"record": "tenant.correction", "what": "weights of words that this account's lessons add up to"}
