"""A data directory with two tenants and a queue on real databases and files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.changes import QueueChanged
from storage.clock import FixedClock
from storage.files.incarnation import Incarnation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.queue.entries import (
    Entry,
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    Reply,
    new_queue_id,
)
from storage.queue.queue import Queue
from storage.values import AccountId, EmailAddress, TenantId

ONE, TWO = TenantId(1), TenantId(2)
ACCOUNT = AccountId(5)
ALICE = EmailAddress.parse("alice@one.example")
CONTENT = b"Subject: very secret token\r\n\r\n" + b"body of the message\r\n" * 5000
OK = Reply(250, "2.0.0", "")
NO = Reply(550, "5.1.1", "no such user", "mx.far.example")
LATER = Reply(451, "4.3.0", "try again", "mx.far.example")


class Place:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FixedClock()
        self.keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        for tenant_id in (ONE, TWO):
            self.keys.create_tenant_key(tenant_id)
            (data / "tenants" / str(tenant_id)).mkdir(parents=True)
        self.incarnation = Incarnation(data)
        self.announced: list[QueueChanged] = []
        Queue.create(data, self.keys, self.clock, self.incarnation.name).close()
        self.queue = self.another_queue()

    def another_queue(self, incarnation: str = "") -> Queue:
        """As another process has it."""
        name = incarnation or self.incarnation.name
        return Queue.open(self.data, self.keys, self.clock, name, announce=self.announced.append)

    def close(self) -> None:
        self.queue.close()
        self.incarnation.close()

    def entry(self, tenant_id: TenantId = ONE, **changes: object) -> NewEntry:
        """For a mailbox here and an address elsewhere."""
        entry = NewEntry(
            new_queue_id(self.clock),
            tenant_id,
            ACCOUNT,
            Origin.SUBMISSION,
            ALICE,
            EnvelopeParameters("HDRS", "x+2B", True, "8BITMIME"),
            (
                NewRecipient(EmailAddress.parse("bob@one.example"), AccountId(6)),
                NewRecipient(
                    EmailAddress.parse("jörg@bücher.example"), None, RecipientParameters(("FAILURE",), "rfc822;x")
                ),
            ),
            self.clock.now() + 1000,
            CONTENT,
        )
        return dataclasses.replace(entry, **changes)  # type: ignore[arg-type]

    def small(self, *recipients: str, **changes: Any) -> NewEntry:
        """For addresses elsewhere."""
        to = tuple(NewRecipient(EmailAddress.parse(address)) for address in recipients or ("x@far.example",))
        return self.entry(changes.pop("tenant_id", ONE), **{"recipients": to, "content": b"small\r\n", **changes})

    def enqueued(self, new: NewEntry | None = None) -> Entry:
        new = new or self.entry()
        self.queue.enqueue([new])
        return self.queue.show(new.queue_id)

    def enqueue_many(self, entries: Sequence[NewEntry]) -> list[str]:
        """In one commit; their ids."""
        self.queue.enqueue(entries)
        return [entry.queue_id for entry in entries]

    def spooled(self, tenant_id: TenantId = ONE) -> list[Path]:
        return sorted((self.data / "tenants" / str(tenant_id) / "spool").glob("*"))
