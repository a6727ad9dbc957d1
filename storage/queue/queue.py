"""The durable queue: messages that wait to be relayed, or to be delivered here together with others.

When `enqueue` returns, every entry's content is fsynced in its tenant's spool and all rows are in one FULL commit; when
it raises, nothing is queued and what is left of files goes with the sweep. When the last recipient of an entry is
settled its rows go in the same commit, and its content right after it. What follows from an outcome, a bounce for one,
is queued in the commit that notes the outcome: neither is there without the other, and neither twice.

Raises: NotFound, Conflict (the state doesn't allow it), Gone and NotFound of tenants' keys, StorageFull, Unavailable.
Standards: RFC 5321 §4.5.4, §6.1 (responsibility).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Self

from sqlalchemy import bindparam, or_, select, update

from storage.changes import QueueChanged
from storage.clock import Clock
from storage.database.batch import same_for_another
from storage.database.checkpointer import Checkpointer
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Conflict, Corrupt, Gone, NotFound
from storage.keys.source import KeySource
from storage.queue.destinations import Destinations
from storage.queue.entries import Entry, NewEntry, RecipientState, Reply
from storage.queue.listing import Listing
from storage.queue.operations import Operations
from storage.queue.retention import Retention
from storage.queue.rows import ENTRY_COLUMNS, RECIPIENT_COLUMNS, SCHEMA, NewRows, next_news, opened
from storage.queue.sent import count_sent
from storage.queue.spool import Spool, SpoolFile
from storage.queue.withdrawal import Withdrawal
from storage.schema import queue as schema
from storage.values import TenantId

__all__ = ["SCHEMA", "Queue"]

_log = logging.getLogger("cleanmail.storage")

_entry, _recipient = schema.entry, schema.recipient
_QUEUED, _HELD = RecipientState.QUEUED.value, RecipientState.HELD.value

_this = (_recipient.c.queue_id == bindparam("id"), _recipient.c.position == bindparam("place"))
# A recipient that was held while it was being delivered is settled or tried all the same: it did happen.
_waits = or_(_recipient.c.state == _QUEUED, _recipient.c.state == _HELD)

_OPEN_FILES = 4  # of one message: written before the first is made durable

_ONE_ENTRY = prepare(select(*ENTRY_COLUMNS).where(_entry.c.queue_id == bindparam("id")))
_RECIPIENTS = prepare(
    select(*RECIPIENT_COLUMNS).where(_recipient.c.queue_id == bindparam("id")).order_by(_recipient.c.position)
)
_RECIPIENTS_FOR = prepare(
    select(*RECIPIENT_COLUMNS)
    .where(_recipient.c.queue_id == bindparam("id"), _recipient.c.destination == bindparam("destination"))
    .order_by(_recipient.c.position)
)
_SETTLE = prepare(
    update(_recipient)
    .where(*_this, _waits)
    .values(state=bindparam("reached"), attempts=_recipient.c.attempts + 1, reply=bindparam("said"))
)
_POSTPONE = prepare(
    update(_recipient)
    .where(*_this, _waits)
    .values(next_attempt=bindparam("again"), attempts=_recipient.c.attempts + 1, reply=bindparam("said"))
)
_WARN = prepare(update(_recipient).where(*_this, _waits, _recipient.c.warned == 0).values(warned=1))
_COUNT_DOWN = prepare(
    update(_entry)
    .where(_entry.c.queue_id == bindparam("id"))
    .values(waiting=_entry.c.waiting - bindparam("settled"))
    .returning(_entry.c.waiting, _entry.c.file)
)


class Queue(Listing, Operations, Withdrawal, Destinations, Retention):
    """All of it. The parts are modules of their own, with the questions and changes that belong together."""

    @classmethod
    def create(cls, data: Path, keys: KeySource, clock: Clock, incarnation: str) -> Self:
        """Make queue.db in the data directory, empty."""
        database = Database.create(data / "queue.db", keys.service_key("queue"), SCHEMA, clock)
        return cls(database, Spool(data, incarnation), keys, clock)

    @classmethod
    def open(
        cls,
        data: Path,
        keys: KeySource,
        clock: Clock,
        incarnation: str,
        *,
        checkpointer: Checkpointer | None = None,
        announce: Callable[[QueueChanged], None] | None = None,
        using: Callable[[TenantId], AbstractContextManager[None]] | None = None,
    ) -> Self:
        """`incarnation` is the name of this process's writer, which spool files carry."""
        key = keys.service_key("queue")
        database = Database.open(data / "queue.db", key, SCHEMA, clock, checkpointer=checkpointer)
        return cls(database, Spool(data, incarnation), keys, clock, announce, using)

    def close(self) -> None:
        self._tenant_keys.clear()
        try:
            self._removals.flush()
            self.tls_results.flush()
        finally:
            self._database.close()

    # Taking responsibility

    def enqueue(self, entries: Sequence[NewEntry]) -> None:
        """All entries, or none. They belong to one message: one commit makes all of them durable."""
        [error] = self.enqueue_together([entries])
        if error is not None:
            raise error

    def enqueue_together(self, messages: Sequence[Sequence[NewEntry]]) -> list[Exception | None]:
        """`enqueue` for several messages in one commit: for each what kept it from the queue, or None.

        What is wrong with the content or the tenant of one keeps no other from it; a commit that fails keeps all.
        """
        outcomes: list[Exception | None] = [None] * len(messages)
        written: list[_Written] = []
        try:
            for number, entries in enumerate(messages):
                try:
                    written.append(_Written(self, entries))
                except Exception as error:  # noqa: BLE001 - it is its own message's
                    outcomes[number] = error
            for each in written:
                each.make_durable()
            if written:

                def insert(transaction: Transaction) -> None:
                    news = next_news(transaction)
                    for each in written:
                        each.insert(transaction, news)

                self._database.write(insert)
        except BaseException as error:
            for each in written:
                each.discard()
            if not isinstance(error, Exception):
                raise
            return [known or same_for_another(error) for known in outcomes]
        finally:
            for each in written:
                each.over()
        if written:
            self._changed()
        return outcomes

    # Outcomes

    def settle(
        self, entry: Entry, reached: Mapping[int, tuple[RecipientState, Reply]], follow_ups: Sequence[NewEntry] = ()
    ) -> bool:
        """Notes the final state, and the reply, of recipients by position; True if the entry is thereby gone.

        `follow_ups` are queued in the same commit. Repeated it changes nothing: a recipient that is settled stays as
        it is, and if all of them are, or the entry was withdrawn, nothing follows.
        """
        rows = self._settled_rows(entry, reached)
        return self._with_follow_ups(lambda transaction: self._settle(transaction, entry, rows), follow_ups)

    def settle_together(
        self, outcomes: Sequence[tuple[Entry, Mapping[int, tuple[RecipientState, Reply]]]]
    ) -> list[Exception | None]:
        """`settle` of several entries that nothing follows from, in one commit: for each what kept it from that."""
        errors: list[Exception | None] = []
        ready: list[tuple[Entry, list[dict[str, Any]]]] = []
        for entry, reached in outcomes:
            try:
                ready.append((entry, self._settled_rows(entry, reached)))
                errors.append(None)
            except Exception as error:  # noqa: BLE001 - it is its own entry's: the key of its tenant is gone
                errors.append(error)

        def work(transaction: Transaction) -> None:
            for entry, rows in ready:
                self._settle(transaction, entry, rows)

        try:
            if ready:
                self._database.write(work)
        except Exception as error:  # noqa: BLE001 - each of those who wait has to hear of it
            return [known or same_for_another(error) for known in errors]
        return errors

    def _settled_rows(self, entry: Entry, reached: Mapping[int, tuple[RecipientState, Reply]]) -> list[dict[str, Any]]:
        sealing = self._sealing(entry.tenant_id, entry.queue_id)
        rows = []
        for position, (state, reply) in reached.items():
            if not state.settled:
                raise Conflict(detail=f"queue {entry.queue_id}: {state} settles nothing")
            said = sealing.seal(reply.encode(), "reply", position)
            rows.append({"id": entry.queue_id, "place": position, "reached": state.value, "said": said})
        return rows

    def _settle(self, transaction: Transaction, entry: Entry, rows: list[dict[str, Any]]) -> tuple[bool, bool]:
        """Whether the entry is gone, and whether anything was newly settled."""
        settled = _SETTLE.run_many(transaction, rows)
        row = _COUNT_DOWN.one(transaction, id=entry.queue_id, settled=settled)
        if row is None:
            return True, False
        waiting, file = row
        if not waiting:
            self._removals.remove(transaction, entry.tenant_id, entry.queue_id, file)
        return not waiting, settled > 0

    def postpone(self, entry: Entry, until: Mapping[int, tuple[int, Reply]]) -> None:
        """Notes when recipients, by position, are tried again, and the reply that says why. What is held stays so."""
        sealing = self._sealing(entry.tenant_id, entry.queue_id)
        rows = [
            {
                "id": entry.queue_id,
                "place": position,
                "again": again,
                "said": sealing.seal(reply.encode(), "reply", position),
            }
            for position, (again, reply) in until.items()
        ]

        def work(transaction: Transaction) -> None:
            _POSTPONE.run_many(transaction, rows)

        self._database.write(work)

    def warn(self, entry: Entry, positions: Collection[int], follow_ups: Sequence[NewEntry] = ()) -> None:
        """Notes that recipients are late and their sender is told, by `follow_ups`, in the same commit.

        Repeated it changes nothing, and nothing follows.
        """
        rows = [{"id": entry.queue_id, "place": position} for position in positions]

        def work(transaction: Transaction) -> tuple[bool, bool]:
            warned = _WARN.run_many(transaction, rows) > 0
            return warned, warned

        self._with_follow_ups(work, follow_ups)

    def _with_follow_ups(
        self, work: Callable[[Transaction], tuple[bool, bool]], follow_ups: Sequence[NewEntry]
    ) -> bool:
        """`work` gives its result, and whether the follow-ups are called for."""
        written = _Written(self, follow_ups)

        def both(transaction: Transaction) -> tuple[bool, bool]:
            result, follow = work(transaction)
            if follow and follow_ups:
                written.insert(transaction, next_news(transaction))
            return result, follow

        try:
            written.make_durable()
            result, follow = self._database.write(both)
        except BaseException:
            written.discard()
            raise
        finally:
            written.over()
        if not follow:
            written.discard()
        elif follow_ups:
            self._changed()
        return result

    # Looking

    def show(self, queue_id: str, *, destination: str | None = None) -> Entry:
        """One entry with its addresses; only with recipients of one destination, if it is given. Raises NotFound."""
        with self._database.snapshot() as connection:
            row = _ONE_ENTRY.one(connection, id=queue_id)
            if row is None:
                raise NotFound("There is no such entry in the queue.")
            if destination is None:
                recipients = _RECIPIENTS.rows(connection, id=queue_id)
            else:
                recipients = _RECIPIENTS_FOR.rows(connection, id=queue_id, destination=destination)
        return opened(row, recipients, self._sealing(TenantId(row[1]), queue_id))

    def content(self, entry: Entry) -> bytes:
        """The message of `entry`. Raises Corrupt (its file is damaged or lost), NotFound (it was settled meanwhile)."""
        key = self._key(entry.tenant_id)
        try:
            return self._spool.read(entry.tenant_id, entry.file, key)
        except NotFound:
            with self._database.reading() as connection:
                if _ONE_ENTRY.one(connection, id=entry.queue_id) is None:
                    raise
            _log.error("queue entry %s: its content is lost", entry.queue_id)
            raise Corrupt(detail=f"queue {entry.queue_id}: its content is lost") from None


class _Written:
    """Entries of one message whose content is in the spool and whose rows are sealed: what is left to do is short."""

    def __init__(self, queue: Queue, entries: Sequence[NewEntry]) -> None:
        self._spool = queue._spool
        self._entries = entries
        self._files: list[SpoolFile] = []
        self._rows: list[NewRows] = []
        self._now = queue._clock.now()
        self._tenants = ExitStack()
        try:
            for entry in entries:
                self._tenants.enter_context(queue._using(entry.tenant_id))
                if (entry.tenant_id, entry.account_id) in queue._refused:
                    raise Gone("The account has ended.")
                key = queue._key(entry.tenant_id)
                file = self._spool.write(entry.tenant_id, entry.queue_id, key, entry.content, self._now)
                self._files.append(file)
                if len(entries) > _OPEN_FILES:  # recipients of many tenants: their files are not kept open together
                    file.make_durable()
                self._rows.append(NewRows(entry, file.name, queue._sealing(entry.tenant_id, entry.queue_id), self._now))
        except BaseException:
            self.discard()
            self.over()
            raise

    def over(self) -> None:
        """It is committed, or failed: who waits for the tenants to be out of use waits no longer."""
        self._tenants.close()

    def make_durable(self) -> None:
        for file in self._files:
            file.make_durable()

    def insert(self, transaction: Transaction, news: int) -> None:
        for entry, rows in zip(self._entries, self._rows, strict=True):
            rows.insert(transaction, news)
            count_sent(transaction, entry, self._now)
            # Concurrent messages of a tenant share this fsync too.
            transaction.before_commit(partial(self._spool.sync, entry.tenant_id), ("spool", entry.tenant_id))

    def discard(self) -> None:
        """Nothing names the files: gone, or left to the sweep."""
        for file in self._files:
            file.close()
            self._spool.remove(file.tenant_id, file.name)
