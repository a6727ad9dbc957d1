"""The search index of one account: answers text searches, and is filled and purged in the background.

`lookup` gives a search in steps (see `storage.mail.lookup`). The jobs role calls `work` until it says that nothing is
left; each call is one short transaction, so that flags and arrivals wait some 10 ms. A crash between loses nothing:
what no commit marked as indexed is indexed again.

Texts that an earlier version read out of messages otherwise are renewed in the background too (`renew`): every message
is read once more, and what differs is indexed anew. Until then it is found by what that version read.

Erasure: deleting a message row notes its id in the same commit (a trigger). The next `work` deletes its searchable text
and marks its trigrams, which stay in the segments until the merges begun `PURGE_AFTER` seconds later are done.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import and_, bindparam, delete, func, insert, select, update

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Connection, prepare
from storage.errors import Corrupt, Unavailable
from storage.mail import trigrams
from storage.mail.field_columns import FieldColumns
from storage.mail.lookup import Lookup, Question, Verified
from storage.mail.packed_columns import SHIFT
from storage.mail.search_text import Packed, SearchTexts, pack
from storage.mail.sought import Sought
from storage.schema.account import forgotten, info, message
from storage.values import AccountId, MessageId

BATCH = 10  # messages indexed in one transaction …
BATCH_CHARACTERS = 60_000  # … unless they are long
FORGET_BATCH = 50
MERGE_PAGES = 100  # of 4 KB, written in one transaction
PURGE_AFTER = 6 * 3600  # seconds from the first deletion to the merge that removes its trigrams from the file
_NO_FIELDS = ("",) * len(trigrams.FIELDS)

TEXTS = 2  # of what is read out of messages (`storage.mime.text`); raised when that changes: 2, names of attachments

_FORGOTTEN_SINCE = "search_forgotten_since"  # rows of `info`
_TEXTS_ARE = "search_texts"
_RENEWED_TO = "search_renewed_to"  # for which of TEXTS, and up to which message
_LATE = 500  # ids behind which few messages come: processes take some of them beforehand

_PASSED = 64  # spans without columns that are looked at in one step
_COLUMNS_TO = "search_columns_to"  # up to which span it was seen whether columns are to be made
_COLUMNS_LOST = "search_columns_lost"  # when some were first deleted because a message came late into their span
_RENEWED = "renewed"

_is_unindexed = and_(message.c.account_id == bindparam("account_id"), message.c.indexed.is_(False))
_unindexed = prepare(select(message.c.message_id).where(_is_unindexed))
_next_unindexed = prepare(
    select(message.c.message_id).where(_is_unindexed).order_by(message.c.message_id).limit(bindparam("limit"))
)
_is_indexed = and_(message.c.account_id == bindparam("account_id"), message.c.indexed.is_(True))
_next_indexed = prepare(
    select(message.c.message_id)
    .where(_is_indexed, message.c.message_id > bindparam("after"))
    .order_by(message.c.message_id)
    .limit(bindparam("limit"))
)
_still_indexed = prepare(select(message.c.message_id).where(_is_indexed, message.c.message_id == bindparam("id")))
_count_unindexed = prepare(select(func.count()).select_from(message).where(_is_unindexed))
_newest = prepare(select(func.max(message.c.message_id)).where(message.c.account_id == bindparam("account_id")))
_mark_indexed = prepare(
    update(message)
    .where(
        message.c.account_id == bindparam("owner"),
        message.c.message_id == bindparam("id"),
        message.c.indexed.is_(False),
    )
    .values(indexed=True)
)
_forgotten = prepare(
    select(forgotten.c.message_id).where(forgotten.c.account_id == bindparam("account_id")).limit(bindparam("limit"))
)
_done_forgetting = prepare(
    delete(forgotten).where(
        forgotten.c.account_id == bindparam("account_id"), forgotten.c.message_id == bindparam("message_id")
    )
)
_this_info = and_(info.c.account_id == bindparam("account_id"), info.c.name == bindparam("name"))
_info = prepare(select(info.c.value).where(_this_info))
_insert_info = prepare(insert(info))
_delete_info = prepare(delete(info).where(_this_info))


class SearchIndex:
    """Text search in one account. `read` gives the whole octets of a message with its prefix, or raises Gone.

    `complete`: what has come so far is complete afterwards (storage.mail.completion).
    """

    def __init__(
        self,
        database: Database,
        account_id: AccountId,
        read: Callable[[MessageId], bytes],
        clock: Clock,
        complete: Callable[[], object] = lambda: None,
    ) -> None:
        self._complete = complete
        self._database = database
        self._account_id = account_id
        self._clock = clock
        self._texts = SearchTexts(account_id, read)
        self.columns = FieldColumns(database, account_id, self._texts, complete)
        self._verified = Verified()
        self._as_of = ""  # what `texts_as_of` said last
        self._may_merge = False

    def begin(self, transaction: Transaction) -> None:
        """The account is new: no text is of an earlier version."""
        self._set(transaction, _TEXTS_ARE, str(TEXTS))

    def lookup(self, key: str, needle: str, among: Sought, name: str = "") -> Lookup:
        """A search for `needle` among messages. Keys: subject from to cc bcc body text; header with a field's name.

        The empty needle is in every text; with header it asks whether the field is there (RFC 9051 §6.4.4).
        """
        question = Question.of(key, needle, name)
        self._complete()
        self.texts_as_of()  # forgets what was verified in other texts
        return Lookup(self._database, self._texts, self.columns, self._verified, self._unindexed_ids, question, among)

    def texts_as_of(self) -> str:
        """Another word after any process has renewed texts: until then what was found in them stays true."""
        if self._as_of != _RENEWED:
            with self._database.reading() as connection:
                renewed = self.is_renewed()
                as_of = _RENEWED if renewed else self._get(connection, _RENEWED_TO) or "0"
            if as_of != self._as_of:
                self._as_of, self._verified = as_of, Verified()
        return self._as_of

    def forget_answers(self) -> None:
        """Nothing that was searched for is remembered; a search under way ends as it would have."""
        self._verified.forget()

    def unindexed(self) -> int:
        """How many messages wait to be indexed."""
        with self._database.reading() as connection:
            row = _count_unindexed.one(connection, account_id=self._account_id)
        return int(row[0]) if row else 0

    def work(self) -> bool:
        """Do the next piece of what is due: forget, index, merge, make columns. False: nothing is left for now."""
        if self._may_merge:  # small segments are merged as they come, so that searches have few to look at
            self._may_merge = self.merge()
            return True
        try:
            self._may_merge = bool(self.forget_batch() or self.index_batch())
        except Unavailable:
            if self.merge():  # what was erased leaves the file, whatever cannot be read
                return True
            raise
        return self._may_merge or self.merge() or self.make_columns()

    def index_batch(self) -> int:
        """Index the next messages; how many, 0 when none is left. Raises Unavailable if none can be read for now."""
        with self._database.reading() as connection:
            rows = _next_unindexed.rows(connection, account_id=self._account_id, limit=BATCH)
        message_ids = [row[0] for row in rows]
        failed = None
        try:
            self._complete()
        except Unavailable as error:
            failed = error
        with self._database.reading() as connection:
            fields = self._texts.fields(connection, message_ids)
        if failed is not None:  # those that are not complete wait, the others do not
            message_ids = [each for each in message_ids if each in fields]
            if not message_ids:
                raise failed
        batch: dict[int, Packed] = {}
        characters = 0
        for message_id in message_ids:
            # A message that cannot be read is indexed by its fields, not tried for ever; `storage.check` reports it.
            batch[message_id] = pack(self._texts.from_file(message_id) or ("", ""))
            characters += batch[message_id].size
            if characters > BATCH_CHARACTERS:
                break

        def insert_all(transaction: Transaction) -> None:
            if self.columns.forget(transaction, batch) and self._get(transaction, _COLUMNS_LOST) is None:  # it is late
                self._set(transaction, _COLUMNS_LOST, str(self._clock.now()))
            for message_id, packed in batch.items():
                if _mark_indexed.run(transaction, owner=self._account_id, id=message_id):  # it is still there
                    trigrams.insert(transaction, message_id, fields.get(message_id, _NO_FIELDS), packed.indexed)
                    self._texts.keep(transaction, message_id, packed)

        if batch:
            self._database.write(insert_all, durable=False)
        return len(batch)

    def is_renewed(self) -> bool:
        """Whether no text is of an earlier version."""
        with self._database.reading() as connection:
            return self._get(connection, _TEXTS_ARE) == str(TEXTS)

    def renew(self) -> bool:
        """Read the next messages again if their texts are of an earlier version. False: none is left."""
        if self._may_merge:  # as in `work`
            self._may_merge = self.merge()
            return True
        with self._database.reading() as connection:
            if self._get(connection, _TEXTS_ARE) == str(TEXTS):
                return False
            after = self._renewed_to(connection)
            rows = _next_indexed.rows(connection, account_id=self._account_id, after=after, limit=BATCH)
            message_ids = [row[0] for row in rows]
            fields = self._texts.fields(connection, message_ids)
            kept = self._texts.kept(connection, message_ids)
        anew: dict[int, Packed] = {}
        for message_id in message_ids:
            after = message_id
            texts = self._texts.from_file(message_id)
            if texts is not None and texts != kept.get(message_id):
                anew[message_id] = pack(texts)
                if sum(packed.size for packed in anew.values()) > BATCH_CHARACTERS:
                    break

        def replace(transaction: Transaction) -> None:
            there = [each for each in anew if _still_indexed.one(transaction, account_id=self._account_id, id=each)]
            self._texts.forget(transaction, there)
            self.columns.forget(transaction, there)
            trigrams.forget(transaction, there)
            for message_id in there:
                trigrams.insert(transaction, message_id, fields.get(message_id, _NO_FIELDS), anew[message_id].indexed)
                self._texts.keep(transaction, message_id, anew[message_id])
            if there and self._get(transaction, _FORGOTTEN_SINCE) is None:
                self._set(transaction, _FORGOTTEN_SINCE, str(self._clock.now()))
            self._set(transaction, _RENEWED_TO, f"{TEXTS} {after}" if message_ids else None)
            if not message_ids:
                self._set(transaction, _TEXTS_ARE, str(TEXTS))
                self._set(transaction, _COLUMNS_TO, None)

        self._database.write(replace, durable=False)
        self._may_merge = bool(anew)
        return bool(message_ids)

    def _renewed_to(self, connection: Connection) -> int:
        """Up to which message; 0 also if it is one up to which another version came."""
        of, _, after = (self._get(connection, _RENEWED_TO) or "").partition(" ")
        return int(after) if of == str(TEXTS) else 0

    def forget_batch(self) -> int:
        """Delete the texts of deleted messages and mark their trigrams; how many messages, 0 when none is left."""
        with self._database.reading() as connection:
            rows = _forgotten.rows(connection, account_id=self._account_id, limit=FORGET_BATCH)
        message_ids = [row[0] for row in rows]

        def forget_all(transaction: Transaction) -> None:
            self._texts.forget(transaction, message_ids)
            self.columns.forget(transaction, message_ids)
            trigrams.forget(transaction, message_ids)
            _done_forgetting.run_many(
                transaction, [{"account_id": self._account_id, "message_id": message_id} for message_id in message_ids]
            )
            if self._get(transaction, _FORGOTTEN_SINCE) is None:
                self._set(transaction, _FORGOTTEN_SINCE, str(self._clock.now()))

        if message_ids:
            self.columns.forget_apart(message_ids)
            self._database.write(forget_all, durable=False)
        return len(message_ids)

    def merge(self) -> bool:
        """One step of merging segments, and of purging deleted trigrams when that is due. True: there is more to do."""

        def step(transaction: Transaction) -> bool:
            since = self._get(transaction, _FORGOTTEN_SINCE)
            if since is not None and self._clock.now() - int(since) >= PURGE_AFTER:
                self._set(transaction, _FORGOTTEN_SINCE, None)
                self._set(transaction, _COLUMNS_TO, None)  # those that were deleted with messages are made again
                trigrams.merge(transaction, MERGE_PAGES, whole=True)
                return True
            return trigrams.merge(transaction, MERGE_PAGES)

        return self._database.write(step, durable=False)

    def make_columns(self) -> bool:
        """Make the columns of the next span that is full and has none. False: nothing is left."""
        with self._database.reading() as connection:
            row = _newest.one(connection, account_id=self._account_id)
            end = max((row[0] or 0) - _LATE, 0) >> SHIFT if row else 0
            number = int(self._get(connection, _COLUMNS_TO) or 0) if end else 0
            lost = self._get(connection, _COLUMNS_LOST)
            again = number >= end > 0 and lost is not None and self._clock.now() - int(lost) >= PURGE_AFTER
            number = 0 if again else number
            if number >= end or self._get(connection, _TEXTS_ARE) != str(TEXTS):
                return False
        there, span = self.columns.threaded(), None
        for _ in range(_PASSED):  # ids have gaps, and of few messages there are no columns: no commit for each of these
            found = self.columns.next_without(number, there)
            if found is None or found >= end:
                number = end
                break
            span, number = self.columns.read(found), found + 1
            if span is not None:
                break

        def keep(transaction: Transaction) -> None:
            if span is not None:
                self.columns.keep(transaction, span)
            self._set(transaction, _COLUMNS_TO, str(number))
            if again:
                self._set(transaction, _COLUMNS_LOST, None)

        self._database.write(keep, durable=False)
        return True

    def verify(self) -> bool:
        """Whether the index is sound in itself; reads all of it."""
        try:
            self._database.write(trigrams.verify, durable=False)
        except Corrupt:
            return False
        return True

    def _unindexed_ids(self) -> list[int]:
        with self._database.reading() as connection:
            return [row[0] for row in _unindexed.rows(connection, account_id=self._account_id)]

    def _get(self, connection: Connection, name: str) -> str | None:
        row = _info.one(connection, account_id=self._account_id, name=name)
        return str(row[0]) if row else None

    def _set(self, transaction: Transaction, name: str, value: str | None) -> None:
        _delete_info.run(transaction, account_id=self._account_id, name=name)
        if value is not None:
            _insert_info.run(transaction, account_id=self._account_id, name=name, value=value)
