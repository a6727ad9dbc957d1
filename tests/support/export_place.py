"""An installation for tests of exports: a tenant, accounts, and what tells whether two accounts hold the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.export.values import INDEX
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.mail.account import Account
from storage.mail.messages import NewMessage
from storage.values import UID_MAX, AccountId, Domain, EmailAddress


class Held(NamedTuple):
    """A message as its owner sees it; `group` is the same for the same message in several folders."""

    octets: bytes
    flags: int
    keywords: frozenset[str]
    internal_date: int
    saved: int
    group: int
    internal_zone: int = 0


class ExportPlace:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FixedClock()
        keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        Installation.create(data, keys, self.clock)
        self.installation = Installation(data, keys, self.clock)
        self.provisioning = Provisioning(self.installation)
        self.tenant_id = self.provisioning.create_tenant("one", "One").tenant_id
        self.installation.control.add_domain(self.tenant_id, Domain.parse("one.test"))
        self._accounts = 0

    def new_account(self, name: str = "") -> AccountId:
        self._accounts += 1
        address = EmailAddress.parse(f"{name or f'u{self._accounts}'}@one.test")
        return self.provisioning.create_account(self.tenant_id, address).account_id

    def account(self, account_id: AccountId) -> Any:
        return self.installation.account(self.tenant_id, account_id)

    def fill(self, account_id: AccountId) -> None:
        """Folders of all kinds, flags, keywords, dates, copies, odd octets."""
        with self.account(account_id) as account:
            fill(account, self.clock)

    def view(self, account_id: AccountId) -> dict[str, Any]:
        with self.account(account_id) as account:
            return view(account)

    def close(self) -> None:
        self.installation.close()


ODD = (
    b"Subject: plain\r\n\r\nA line.\r\n",
    b"Subject: From\r\n\r\nFrom me\r\n>From you\r\n>>From all\r\nend\r\n",
    b"Subject: no end\r\n\r\nno line end",
    b"Subject: eight\r\n\r\n\xc3\xa4\xff\x00\x00nul\r\n",
    b"Subject: lone\nLF and\rCR\r\n\r\nFrom here\n>From there\r\n",
    b"From a Thu Aug 22 12:36:23 2002\r\nSubject: begins so\r\n\r\n\r\nFrom b Thu Aug 22 12:36:23 2002\r\n\r\n",
    b"",
    b"\r\n",
    b"no header at all",
    b"Status: RO\r\nX-Status: A\r\nSubject: has status\r\n\r\nx\r\n\r\n",
    b"Subject: long\r\n\r\n" + 30_000 * b"x" + b"\r\n",
)


def fill(account: Account, clock: FixedClock) -> None:
    mailboxes, messages = account.mailboxes, account.messages
    mailboxes.create("Work/2024.Q1/Ünïcode ✉", ("\\Flagged",))
    for name in (".leading", "a.b", "a_b", "A.B", "~tilde", "&amp", "x" * 300, "INBOX/Sub", "empty"):
        mailboxes.create(name)
    mailboxes.delete("Archive")
    mailboxes.keep("Trash", 30)
    mailboxes.subscribe("a.b")
    mailboxes.subscribe("Long gone")
    mailboxes.unsubscribe("Drafts")
    inbox = mailboxes.find("INBOX").id
    for number, octets in enumerate(ODD):
        clock.advance(10)
        words = [f"word{n}" for n in range(number * 4)] + (["$Forwarded"] if number % 2 else [])
        messages.append(
            inbox, octets, flags=number % 32, keywords=words, internal_date=1_000_000_000 + number * 86_400_000
        )
    clock.advance(10)
    for name in ("a.b", "a_b", "Work/2024.Q1/Ünïcode ✉"):
        target = mailboxes.find(name).id
        messages.append_many(target, [NewMessage(ODD[0], internal_date=5, internal_zone=-570)] * 2)
        messages.copy(inbox, uids(2, 4), target)
    messages.copy(inbox, uids(2, 2), inbox)
    messages.expunge(inbox, uids(3, 3), only_deleted=False)


def uids(first: int, last: int) -> Any:
    from storage.values import UidSet

    return UidSet(((first, last),))


def view(account: Account) -> dict[str, Any]:
    """Everything that a round trip keeps."""
    found: dict[str, Any] = {"subscriptions": account.mailboxes.subscriptions()}
    groups: dict[int, int] = {}
    for mailbox in sorted(account.mailboxes.list(), key=lambda each: each.name):
        keywords = account.mailboxes.keywords(mailbox.id)
        columns = ("uid", "message_id", "file", "flags", "internal_date", "saved", "internal_zone")
        held = []
        for _, message_id, file, flags, internal_date, saved, zone in account.messages.fetch_rows(
            mailbox.id, 1, UID_MAX, columns
        ):
            words = frozenset(word for bit, word in keywords.items() if flags >> bit & 1)
            octets = account.messages.read(message_id, file)
            group = groups.setdefault(message_id, len(groups))
            held.append(Held(octets, flags & 31, words, internal_date, saved, group, zone))
        counted = (mailbox.messages, mailbox.unseen, mailbox.deleted, mailbox.bytes)
        words = frozenset(keywords.values())
        found[mailbox.name] = (mailbox.special_use, mailbox.keep_days, words, counted, held)
    return found


def index_of(archive: Path) -> list[dict[str, Any]]:
    """The index without what another account cannot have again: numbers, and names that are made of them."""
    lines = [json.loads(line) for line in (archive / INDEX).read_bytes().splitlines()]
    groups: dict[str, int] = {}
    for line in lines:
        if "email_id" in line:
            line["email_id"] = groups.setdefault(line["email_id"], len(groups))
        for name in ("mailbox", "uid", "uidvalidity", "uidnext", "file", "thread_id", "path"):
            line.pop(name, None)
        if line["kind"] == "folder":
            line["keywords"] = sorted(line["keywords"])
    return lines
