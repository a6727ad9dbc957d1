r"""What the owner of an account says of messages by where they are put and how they are marked: spam, or not spam.

Opinions are written in the transaction of the MOVE, COPY or STORE that expresses them, and nothing is asked or written
for one that expresses none. They wait here until the filter has learned from them; the last one of a message counts.
Delivery and APPEND express nothing: the filter never learns from what it filed itself, nor from mail that is imported.

Standards: RFC 6154 (\Junk, \Trash), the IANA registry of keywords (RFC 5788: $Junk, $NotJunk).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import BindParameter, bindparam, delete, func, select
from sqlalchemy.dialects.sqlite import insert as upsert

from storage.clock import Clock
from storage.database.database import Database, Transaction
from storage.database.prepared import Row, prepare
from storage.mail.keywords import Keywords
from storage.schema.account import mailbox, membership, opinion
from storage.values import AccountId, MailboxId, MessageId

JUNK, TRASH = "\\Junk", "\\Trash"
SPAM_KEYWORDS = frozenset({"$junk", "junk"})  # Thunderbird writes them without "$"
HAM_KEYWORDS = frozenset({"$notjunk", "notjunk", "$nonjunk", "nonjunk"})
_KEYWORDS = SPAM_KEYWORDS | HAM_KEYWORDS

_ACCOUNT: BindParameter[int] = bindparam("account")
_USES = prepare(
    select(mailbox.c.special_use).where(mailbox.c.account_id == _ACCOUNT, mailbox.c.mailbox_id == bindparam("mailbox"))
)
_MESSAGES = prepare(
    select(membership.c.uid, membership.c.message_id).where(
        membership.c.account_id == _ACCOUNT,
        membership.c.mailbox_id == bindparam("mailbox"),
        membership.c.uid.in_(select(func.json_each(bindparam("uids")).table_valued("value").c.value)),
    )
)
_insert = upsert(opinion)
_GIVE = prepare(
    _insert.on_conflict_do_update(
        index_elements=[opinion.c.account_id, opinion.c.message_id],
        set_={name: _insert.excluded[name] for name in ("spam", "given")},
    )
)
_WAITING = prepare(
    select(opinion.c.message_id, opinion.c.spam, opinion.c.given)
    .where(opinion.c.account_id == _ACCOUNT)
    .order_by(opinion.c.given, opinion.c.message_id)
    .limit(bindparam("most"))
)
_SETTLE = prepare(
    delete(opinion).where(
        opinion.c.account_id == _ACCOUNT,
        opinion.c.message_id == bindparam("message"),
        opinion.c.given == bindparam("time"),
        opinion.c.spam.is_(bindparam("verdict")),
    )
)
_JUNK_NAMES = prepare(
    select(mailbox.c.name, mailbox.c.special_use).where(mailbox.c.account_id == _ACCOUNT, mailbox.c.special_use != "")
)


class Opinion(Enum):
    """The value is that of the column `spam`."""

    SPAM = True
    HAM = False
    NONE = None  # takes back what was said before


@dataclass(frozen=True, slots=True)
class Waiting:
    """An opinion that the filter has still to learn from."""

    message_id: MessageId
    opinion: Opinion
    given: int  # Unix seconds


def of_transfer(source: Collection[str], target: Collection[str]) -> Opinion | None:
    r"""What a MOVE or COPY between mailboxes with these special uses says of a message; None: nothing.

    Into Junk from anywhere else, also from Trash: somebody fetched it from there to say so. Out of Junk, unless into
    Trash: throwing spam away does not make it wanted.
    """
    if JUNK in target:
        return None if JUNK in source else Opinion.SPAM
    return Opinion.HAM if JUNK in source and TRASH not in target else None


def concerns(keywords: Collection[str]) -> bool:
    """Whether a STORE of these keywords may say anything."""
    return bool(keywords) and not _KEYWORDS.isdisjoint(name.casefold() for name in keywords)


def of_keywords(added: Collection[str], *, spam: bool, ham: bool) -> Opinion | None:
    """What a STORE says of a message: keywords that it added, and which kinds stand there after it. None: nothing.

    What was just added says it, whatever stands beside it; programs add one and remove the other in two commands.
    """
    names = {name.casefold() for name in added}
    says_spam, says_ham = bool(names & SPAM_KEYWORDS), bool(names & HAM_KEYWORDS)
    if says_spam != says_ham:
        return Opinion.SPAM if says_spam else Opinion.HAM
    if spam and ham:  # they contradict each other
        return None
    return Opinion.SPAM if spam else Opinion.HAM if ham else Opinion.NONE


class Opinions:
    """Of one account."""

    def __init__(self, database: Database, account_id: AccountId, keywords: Keywords, clock: Clock) -> None:
        self._database = database
        self._account_id = account_id
        self._keywords = keywords
        self._clock = clock
        # A mailbox's special use is given to it when it is made and never changes, so each is read once.
        self._uses: dict[MailboxId, frozenset[str]] = {}

    # Recording, in the transaction of what is done

    def transferred(
        self, transaction: Transaction, source_id: MailboxId, target_id: MailboxId, rows: Sequence[Row]
    ) -> None:
        """Messages, (uid, flags, message id, size), that were moved or copied."""
        said = of_transfer(self._use(transaction, source_id), self._use(transaction, target_id))
        if said is not None:
            self._give(transaction, {row[2]: said for row in rows})

    def marked(
        self,
        transaction: Transaction,
        mailbox_id: MailboxId,
        added: Collection[str],
        flags: Sequence[tuple[int, int, int]],
    ) -> None:
        """Messages, (uid, flags before, flags now), of a STORE that may have changed what their keywords say."""
        spam = self._keywords.known(transaction, mailbox_id, SPAM_KEYWORDS)
        ham = self._keywords.known(transaction, mailbox_id, HAM_KEYWORDS)
        said = {
            uid: of_keywords(added, spam=bool(new & spam), ham=bool(new & ham))
            for uid, old, new in flags
            if (old ^ new) & (spam | ham)
        }
        if Opinion.NONE in said.values() and JUNK in self._use(transaction, mailbox_id):
            # Without a mark of wanted mail it is what lies in Junk: that takes back the mark, not the way there.
            for uid, old, _ in flags:
                if said.get(uid) is Opinion.NONE and not old & spam:
                    said[uid] = Opinion.SPAM
        if not said:
            return
        messages: dict[int, int] = dict(
            _MESSAGES.rows(transaction, account=self._account_id, mailbox=mailbox_id, uids=json.dumps(list(said)))
        )
        self._give(transaction, {messages[uid]: each for uid, each in said.items() if each is not None})

    def _use(self, transaction: Transaction, mailbox_id: MailboxId) -> frozenset[str]:
        use = self._uses.get(mailbox_id)
        if use is None:
            row = _USES.one(transaction, account=self._account_id, mailbox=mailbox_id)
            use = self._uses[mailbox_id] = frozenset(row[0].split() if row else ())
        return use

    def _give(self, transaction: Transaction, said: dict[int, Opinion]) -> None:
        now = self._clock.now()
        _GIVE.run_many(
            transaction,
            [
                {"account_id": self._account_id, "message_id": message_id, "spam": each.value, "given": now}
                for message_id, each in said.items()
            ],
        )

    # Learning from them

    def waiting(self, most: int) -> list[Waiting]:
        """The oldest opinions that nobody has learned from."""
        with self._database.reading() as connection:
            rows = _WAITING.rows(connection, account=self._account_id, most=most)
        return [Waiting(MessageId(row[0]), Opinion(None if row[1] is None else bool(row[1])), row[2]) for row in rows]

    def settle(self, learned: Sequence[Waiting]) -> None:
        """They are learned from; what was said anew meanwhile stays."""
        rows = [
            {"account": self._account_id, "message": each.message_id, "time": each.given, "verdict": each.opinion.value}
            for each in learned
        ]
        if rows:
            self._database.write(lambda transaction: _SETTLE.run_many(transaction, rows), durable=False)

    def junk_names(self) -> set[str]:
        """The names of the mailboxes that are for spam."""
        with self._database.reading() as connection:
            rows = _JUNK_NAMES.rows(connection, account=self._account_id)
        return {name for name, use in rows if JUNK in use.split()}
