"""Withheld messages as rows of tenant.db, and what becomes of them: each change is one durable commit.

`NEXT` in `storage.quarantine.values` says which state may follow which. When nobody may get a message any more, its
rows go in the same commit and its files right after it. Whoever calls for a change that somebody else has made already
gets nothing to do, so every call may be repeated.

Raises: NotFound, Corrupt, StorageFull, Unavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, case, delete, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import prepare
from storage.errors import Corrupt, NotFound
from storage.keys.sealing import Key
from storage.quarantine.files import QuarantineFiles
from storage.quarantine.keys import body_key, fingerprint_key, header_key
from storage.quarantine.listing import Listing
from storage.quarantine.removal import Removals
from storage.quarantine.values import (
    NEXT,
    HeldRecipient,
    HeldState,
    Limits,
    NewWithheld,
    Query,
    ReleasedBy,
    Withheld,
    encode_details,
)
from storage.schema.tenant import quarantine, quarantine_recipient
from storage.values import AccountId

SLICE = 200  # messages in one transaction
STALLED = 3600  # seconds after which a release is taken up again though its process lives


_message, _recipient = quarantine, quarantine_recipient
_this = _message.c.quarantine_id == bindparam("id")
_his = _recipient.c.quarantine_id == bindparam("id")
_one = _recipient.c.position == bindparam("place")

_INSERT = prepare(insert(_message))
_INSERT_RECIPIENT = prepare(insert(_recipient))
_KNOWN = prepare(select(_message.c.quarantine_id).where(_message.c.fingerprint == bindparam("known")))
_CLAIM = prepare(
    update(_message)
    .where(_message.c.fingerprint == bindparam("known"))
    .values(
        claims=_message.c.claims + 1,
        expires=case((_message.c.expires < bindparam("until"), bindparam("until")), else_=_message.c.expires),
    )
    .returning(_message.c.quarantine_id)
)
_DISCLAIM = prepare(update(_message).where(_this).values(claims=_message.c.claims - 1).returning(_message.c.claims))
_TOTAL = prepare(select(func.count(), func.coalesce(func.sum(_message.c.size), 0)).select_from(_message))
_STATES = prepare(select(_recipient.c.position, _recipient.c.state).where(_his))
_MOVE = prepare(
    update(_recipient)
    .where(_his, _one, _recipient.c.state == bindparam("was"))
    .values(state=bindparam("becomes"), changed=bindparam("now"))
)
_BEGIN = prepare(
    update(_recipient)
    .where(_his, _one, _recipient.c.state == HeldState.HELD.value)
    .values(
        state=HeldState.RELEASING.value,
        changed=bindparam("now"),
        release_id=bindparam("queue_id"),
        released_by=bindparam("by"),
        releaser=bindparam("incarnation"),
    )
)
_RESUME = prepare(
    update(_recipient)
    .where(_his, _one, _recipient.c.release_id == bindparam("queue_id"))
    .values(releaser=bindparam("incarnation"))
)
_REPORT = prepare(
    update(_recipient)
    .where(_his, _one, _recipient.c.state == HeldState.HELD.value, _recipient.c.reported.is_(None))
    .values(reported=bindparam("now"))
)
_EXPIRED = prepare(
    select(_message.c.quarantine_id)
    .where(_message.c.expires <= bindparam("now"))
    .order_by(_message.c.expires)
    .limit(bindparam("most"))
)
_IS_OVER = prepare(select(_message.c.quarantine_id).where(_this, _message.c.expires <= bindparam("now")))
_OF_ACCOUNT = prepare(
    select(_recipient.c.quarantine_id).where(_recipient.c.account_id == bindparam("account")).distinct()
)
_DELETE_OF_ACCOUNT = prepare(delete(_recipient).where(_recipient.c.account_id == bindparam("account")))
_FILES = prepare(select(_message.c.file))


class QuarantineRows(Listing):
    """Of one tenant. Files of it are written by `storage.quarantine.store`."""

    def __init__(self, database: Database, key: Key, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self.header_key = header_key(key)
        self.body_key = body_key(key)
        self.fingerprint_key = fingerprint_key(key)
        self.files = QuarantineFiles(Path(database.path).parent / "quarantine")
        self._removals = Removals(database, self.files)

    # Keeping

    def claim(self, fingerprint: bytes, expires: int) -> str | None:
        """The id of the message that is held already and known by this; one more relies on it then, as long as that."""
        with self._database.reading() as connection:
            if _KNOWN.one(connection, known=fingerprint) is None:  # nearly always
                return None
        return self._database.write(lambda transaction: _claim(transaction, fingerprint, expires))

    def has_room(self, size: int, limits: Limits) -> bool:
        messages, octets = self._totals()
        return messages < limits.messages and octets + size <= limits.octets

    def fill(self, limits: Limits) -> float:
        """How much of the limits is used up, of the one that is nearer; 1 is full."""
        messages, octets = self._totals()
        return min(1.0, max(messages / max(1, limits.messages), octets / max(1, limits.octets)))

    def _totals(self) -> tuple[int, int]:
        """Messages and octets that are held."""
        with self._database.reading() as connection:
            [(messages, octets)] = _TOTAL.rows(connection)
        return messages, octets

    def insert(self, new: NewWithheld, row: Mapping[str, Any], fingerprint: bytes) -> str:
        """The id under which it is held: another one if the same message came at the same moment.

        Its files are fsynced; their names are with the commit.
        """
        now = self._clock.now()
        values = {
            "quarantine_id": new.quarantine_id,
            "fingerprint": fingerprint,
            "claims": 1,
            "received": now,
            "expires": new.expires,
            "size": len(new.prefix) + len(new.data),
            "sender": str(new.reverse_path or ""),
            "reason": new.recipients[0].reason,
            "score": new.score,
            "details": encode_details(new.parameters, new.facts),
            **row,
        }
        recipients = [_recipient_row(new, position, now) for position in range(len(new.recipients))]

        def work(transaction: Transaction) -> str:
            known = _claim(transaction, fingerprint, new.expires)
            if known is not None:
                return known
            _INSERT.run(transaction, **values)
            _INSERT_RECIPIENT.run_many(transaction, recipients)
            transaction.before_commit(self.files.sync, ("quarantine", self.files.folder))
            return new.quarantine_id

        return self._database.write(work)

    def forget(self, quarantine_id: str) -> bool:
        """Takes back what `claim` or `insert` did; True if the message is gone thereby.

        It stays while another transaction relies on it, or if somebody has decided on it meanwhile.
        """

        def work(transaction: Transaction) -> bool:
            row = _DISCLAIM.one(transaction, id=quarantine_id)
            if row is None or row[0] > 0:
                return False
            states = {state for _, state in _STATES.rows(transaction, id=quarantine_id)}
            if states != {HeldState.HELD.value}:
                return False
            self._removals.remove(transaction, quarantine_id)
            return True

        return self._database.write(work)

    # Deciding

    def begin_release(
        self,
        quarantine_id: str,
        positions: Collection[int],
        *,
        release_id: str,
        by: ReleasedBy,
        incarnation: str,
    ) -> tuple[Withheld, tuple[HeldRecipient, ...]]:
        """The message, and those of the recipients that were held and are being released from now on."""
        now = self._clock.now()

        def work(transaction: Transaction) -> list[int]:
            return [
                position
                for position in positions
                if _BEGIN.run(
                    transaction,
                    id=quarantine_id,
                    place=position,
                    now=now,
                    queue_id=release_id,
                    by=by.value,
                    incarnation=incarnation,
                )
            ]

        begun = self._database.write(work)
        message = self.show(quarantine_id)
        return message, tuple(each for each in message.recipients if each.position in begun)

    def resume_release(self, quarantine_id: str, recipients: Collection[HeldRecipient], incarnation: str) -> None:
        """Another process goes on with what `interrupted` told of."""
        rows = [
            {"id": quarantine_id, "place": each.position, "queue_id": each.release_id, "incarnation": incarnation}
            for each in recipients
        ]
        self._database.write(lambda transaction: _RESUME.run_many(transaction, rows))

    def move(self, quarantine_id: str, reached: Mapping[int, tuple[HeldState, HeldState]]) -> bool:
        """From one state to the next, by recipient's position; True if the message is gone thereby.

        Who is not in that state any more stays as he is.
        """
        now = self._clock.now()
        for was, becomes in reached.values():
            assert becomes in NEXT[was], f"{was} never becomes {becomes}"

        def work(transaction: Transaction) -> bool:
            for position, (was, becomes) in reached.items():
                _MOVE.run(transaction, id=quarantine_id, place=position, was=was.value, becomes=becomes.value, now=now)
            return self._remove_if_settled(transaction, quarantine_id)

        return self._database.write(work)

    def delete(self, quarantine_id: str, positions: Collection[int]) -> list[int]:
        """Recipients that are held get the message no more; whose it was."""
        now = self._clock.now()

        def work(transaction: Transaction) -> list[int]:
            deleted = [
                position
                for position in positions
                if _MOVE.run(
                    transaction,
                    id=quarantine_id,
                    place=position,
                    was=HeldState.HELD.value,
                    becomes=HeldState.DELETED.value,
                    now=now,
                )
            ]
            self._remove_if_settled(transaction, quarantine_id)
            return deleted

        return self._database.write(work)

    def report(self, quarantine_id: str, positions: Collection[int]) -> list[int]:
        """Notes that it was wrongly withheld; for whom that is new."""
        now = self._clock.now()
        return self._database.write(
            lambda transaction: [
                position
                for position in positions
                if _REPORT.run(transaction, id=quarantine_id, place=position, now=now)
            ]
        )

    def interrupted(self, is_alive: Callable[[str], bool]) -> list[tuple[Withheld, tuple[HeldRecipient, ...]]]:
        """Releases whose process is dead, or seems to be stuck: each with the recipients that it was for."""
        before = self._clock.now() - STALLED
        alive: dict[str, bool] = {}
        found: list[tuple[Withheld, tuple[HeldRecipient, ...]]] = []
        for state in (HeldState.RELEASING, HeldState.QUEUED):
            for message in self.each(Query(state=state)):
                batches: dict[str | None, list[HeldRecipient]] = {}
                for each in message.recipients:
                    if each.state is not state:
                        continue
                    name = each.releaser or ""
                    if name not in alive:
                        alive[name] = is_alive(name)
                    if not alive[name] or each.changed < before:
                        batches.setdefault(each.release_id, []).append(each)
                found += [(message, tuple(batch)) for batch in batches.values()]
        return found

    # Ending

    def expire(self) -> tuple[int, list[Withheld]]:
        """Removes what has been held long enough, some messages at a time: how many, and those that can be read.

        A release that is under way is finished first. Files that had to stay before go too.
        """
        self._removals.finish()
        now = self._clock.now()
        with self._database.reading() as connection:
            ids = [row[0] for row in _EXPIRED.rows(connection, now=now, most=SLICE)]
        read: dict[str, Withheld] = {}
        for quarantine_id in ids:
            with suppress(NotFound, Corrupt):  # a row that nobody can read goes all the same
                read[quarantine_id] = self.show(quarantine_id)

        def work(transaction: Transaction) -> list[str]:
            gone = []
            for quarantine_id in ids:
                if _IS_OVER.one(transaction, id=quarantine_id, now=now) is None:
                    continue  # it was sent, and accepted, again meanwhile
                states = {state for _, state in _STATES.rows(transaction, id=quarantine_id)}
                if states.isdisjoint(_UNDER_WAY):
                    self._removals.remove(transaction, quarantine_id)
                    gone.append(quarantine_id)
            return gone

        gone = self._database.write(work) if ids else []
        return len(gone), [read[quarantine_id] for quarantine_id in gone if quarantine_id in read]

    def remove_account(self, transaction: Transaction, account_id: AccountId) -> None:
        """In the commit that removes an account's rows: what is held for it alone goes."""
        ids = [row[0] for row in _OF_ACCOUNT.rows(transaction, account=account_id)]
        _DELETE_OF_ACCOUNT.run(transaction, account=account_id)
        for quarantine_id in ids:
            self._remove_if_settled(transaction, quarantine_id)

    def sweep(self, is_alive: Callable[[str], bool]) -> int:
        """Removes files that were to go, and those that no row names and whose writer is dead; of how many messages.

        Files first: what a living writer has yet to name is spared for its sake. While a backup copies them, they stay.
        """
        if self.files.are_being_copied():
            return 0
        removed = self._removals.finish()
        dead = [name for name, incarnation in self.files.names() if not is_alive(incarnation)]
        if not dead:
            return removed
        named = self.named_files()
        rubbish = [name for name in dead if name not in named]
        for name in rubbish:
            self.files.remove(name)
        return removed + len(rubbish)

    def named_files(self) -> set[str]:
        """The base names that rows have."""
        with self._database.reading() as connection:
            return {row[0] for row in _FILES.rows(connection)}

    def _remove_if_settled(self, transaction: Transaction, quarantine_id: str) -> bool:
        states = [HeldState(state) for _, state in _STATES.rows(transaction, id=quarantine_id)]
        if any(not state.settled for state in states):
            return False
        self._removals.remove(transaction, quarantine_id)
        return True


_UNDER_WAY = {HeldState.RELEASING.value, HeldState.QUEUED.value}


def _claim(transaction: Transaction, fingerprint: bytes, expires: int) -> str | None:
    row = _CLAIM.one(transaction, known=fingerprint, until=expires)
    return None if row is None else str(row[0])


def _recipient_row(new: NewWithheld, position: int, now: int) -> dict[str, Any]:
    recipient = new.recipients[position]
    return {
        "quarantine_id": new.quarantine_id,
        "position": position,
        "address": str(recipient.address),
        "address_key": recipient.address.key,
        "account_id": recipient.onward.account_id,
        "destination": recipient.onward.encode(),
        "reason": recipient.reason,
        "sentence": recipient.sentence,
        "counterfactual": recipient.counterfactual,
        "state": HeldState.HELD.value,
        "reported": None,
        "changed": now,
        "release_id": None,
        "released_by": None,
        "releaser": None,
    }
