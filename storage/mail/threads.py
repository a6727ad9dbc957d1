"""THREADID: messages that refer to each other share one, decided once when a message is stored.

A thread is found by keyed hashes of message ids, so that no content stands in an index. A message takes the thread of
the nearest message that it refers to, of one that referred to it before, or begins one; it never changes later.

Standards: RFC 8474 §5.2, RFC 5322 §3.6.4.
"""

from __future__ import annotations

from sqlalchemy import bindparam, select
from sqlalchemy.dialects.sqlite import insert

from storage.database.database import Transaction
from storage.database.prepared import prepare
from storage.keys.sealing import Key, derive, keyed_hash
from storage.schema.account import thread_reference
from storage.values import AccountId, MessageId

_NEAREST = 10  # references that are looked at, from the last one backwards
_HASH_SIZE = 16

_select = prepare(
    select(thread_reference.c.thread_id).where(
        thread_reference.c.account_id == bindparam("account"), thread_reference.c.reference == bindparam("hash")
    )
)
_insert = prepare(insert(thread_reference).on_conflict_do_nothing())


class Threads:
    """Of one account."""

    def __init__(self, account_id: AccountId, key: Key) -> None:
        self._account_id = account_id
        self._secret = derive(key.secret, "thread references")

    def hashes(self, message_id_field: str, references: str) -> tuple[bytes, ...]:
        """Of the message's own id and of the ids that it refers to, the nearest first."""
        nearest = references.split()[: -_NEAREST - 1 : -1]
        ids = dict.fromkeys(text for text in (message_id_field, *nearest) if text)
        return tuple(keyed_hash(self._secret, text.encode("utf-8", "replace"))[:_HASH_SIZE] for text in ids)

    def thread_of(self, transaction: Transaction, hashes: tuple[bytes, ...], message_id: MessageId) -> str:
        """The thread that a new message belongs to. One that it begins follows from its id: it is never another."""
        thread_id, unknown = "", []
        for each in hashes:
            row = _select.one(transaction, account=self._account_id, hash=each)
            if row is None:
                unknown.append(each)
            elif not thread_id:
                thread_id = row[0]
        thread_id = thread_id or "T" + keyed_hash(self._secret, b"thread of %d" % message_id)[:10].hex()
        for each in unknown:
            _insert.run(transaction, account_id=self._account_id, reference=each, thread_id=thread_id)
        return thread_id
