"""The messages of one account: appending, flags, copying, removing, reading. By mailbox and UID, never by number.

Each method says what is durable when it returns; none of them loads a view. Sets of UIDs may name messages that are not
there: they are passed over.

Raises: NotFound (mailbox), NotPermitted (one that the server keeps), Gone (message), AlreadyExists (delivery id),
OverQuota, LimitReached, StorageFull, Unavailable, Corrupt.
Standards: RFC 9051 §6.3.12, §6.4; RFC 7162; RFC 4315; RFC 6851.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import partial

from storage.database.prepared import Row
from storage.files.metadata import FileMeta
from storage.mail.arrivals import Arrivals
from storage.mail.exchange import Crossing, Exchange
from storage.mail.flags import Change, Flags
from storage.mail.mailboxes import Mailboxes
from storage.mail.outcomes import Appended, Copied, Expunged, How, NewMessage, Stored
from storage.mail.reading import Reading
from storage.mail.removals import Removals
from storage.mail.replacements import Replacements
from storage.mail.transfers import Transfers
from storage.values import MailboxId, MessageId, UidSet

__all__ = ["Appended", "Copied", "Crossing", "Expunged", "How", "Messages", "NewMessage", "Stored"]


class Messages:
    def __init__(
        self,
        mailboxes: Mailboxes,
        arrivals: Arrivals,
        flags: Flags,
        transfers: Transfers,
        removals: Removals,
        exchange: Exchange,
        reading: Reading,
        replacements: Replacements,
    ) -> None:
        self._mailboxes = mailboxes
        self._arrivals = arrivals
        self._flags = flags
        self._transfers = transfers
        self._removals = removals
        self._exchange = exchange
        self._reading = reading
        self._replacements = replacements

    # Arriving

    def append(
        self,
        mailbox_id: MailboxId,
        data: bytes,
        *,
        flags: int = 0,
        keywords: Sequence[str] = (),
        internal_date: int | None = None,
        prefix: bytes = b"",
        delivery_id: str | None = None,
    ) -> Appended:
        """Durable on return. `data` has CRLF line ends; `prefix` are header fields that are put in front of it."""
        new = NewMessage(data, flags, keywords, internal_date, prefix, delivery_id)
        return self.append_many(mailbox_id, [new])[0]

    def append_many(
        self,
        mailbox_id: MailboxId,
        messages: Iterable[NewMessage],
        *,
        many: bool = False,
        by_server: bool = False,
        called: str | None = None,
        read_later: bool = False,
    ) -> list[Appended]:
        """All of them or none, in one commit; durable on return.

        `many`, `by_server`, `read_later`: see `Arrivals.append`.

        `called`: NotFound if the mailbox has another name when its rows are written.
        """
        name = called or self._mailboxes.last_name(mailbox_id)
        return self._arrivals.append(
            mailbox_id, name, messages, many=many, by_server=by_server, sure=called is None, read_later=read_later
        )

    def replace(self, mailbox_id: MailboxId, uid: int, target_id: MailboxId, new: NewMessage) -> Appended:
        """`new` in the target instead of a message: both in one commit, durable on return. Raises Gone."""
        return self._replacements.replace(mailbox_id, uid, target_id, self._mailboxes.last_name(target_id), new)

    def delivered(self, delivery_ids: Collection[str | None]) -> set[str]:
        """Those of the ids under which a message is stored."""
        return self._reading.delivered([each for each in delivery_ids if each is not None])

    # Flags

    def store(
        self,
        mailbox_id: MailboxId,
        uids: UidSet,
        how: How,
        flags: int,
        keywords: Sequence[str] = (),
        unchanged_since: int | None = None,
        *,
        only: int = -1,
    ) -> Stored:
        """Change flags, `only` these bits; a power loss (not a crash) may undo the last changes."""
        return self._flags.store(mailbox_id, uids, Change(how, flags, keywords, unchanged_since, only))

    def store_now(
        self,
        mailbox_id: MailboxId,
        uids: UidSet,
        how: How,
        flags: int,
        keywords: Sequence[str] = (),
        unchanged_since: int | None = None,
        *,
        only: int = -1,
    ) -> Stored:
        """Like `store`, but raises Busy where that would wait for a disk or another writer."""
        return self._flags.store_now(mailbox_id, uids, Change(how, flags, keywords, unchanged_since, only))

    # Between mailboxes, and out

    def copy(self, source_id: MailboxId, uids: UidSet, target_id: MailboxId) -> Copied:
        """All or nothing; durable on return."""
        return self._transfers.copy(source_id, uids, target_id)

    def move(self, source_id: MailboxId, uids: UidSet, target_id: MailboxId) -> Copied:
        """Each message is in exactly one of the mailboxes at any time; durable on return."""
        return self._transfers.move(source_id, uids, target_id)

    def crossing(
        self, other: Messages, source_id: MailboxId, uids: UidSet, target_id: MailboxId, *, only: int, move: bool
    ) -> Crossing:
        """All or nothing into a mailbox of another account, written anew, in slices that the caller asks for.

        Of the flags go along `only` these bits.
        """
        settled = partial(self.expunge, source_id, only_deleted=False) if move else None
        target = (target_id, other._mailboxes.last_name(target_id))
        return Crossing(self._exchange, (source_id, uids), other._arrivals, target, only, settled)

    def expunge(
        self, mailbox_id: MailboxId, uids: UidSet | None = None, *, only_deleted: bool = True, by_server: bool = False
    ) -> Expunged:
        r"""Remove messages (None: all), those that are \Deleted or all of them; durable on return.

        `by_server`: of a mailbox that its owner only reads.
        """
        return self._removals.expunge(mailbox_id, uids, only_deleted=only_deleted, by_server=by_server)

    # Reading

    def fetch_rows(
        self, mailbox_id: MailboxId, first: int, last: int, columns: tuple[str, ...], *, at_once: bool = False
    ) -> list[Row]:
        """Columns of membership, message and the content tables for a range of UIDs, by UID.

        `at_once`: raises Busy where files would have to be read first.
        """
        return self._reading.fetch_rows(mailbox_id, first, last, columns, at_once=at_once)

    def fetch_apart(
        self, mailbox_id: MailboxId, uids: Sequence[int], columns: tuple[str, ...], *, at_once: bool = False
    ) -> list[Row]:
        """The same of some messages that lie far apart."""
        return self._reading.fetch_apart(mailbox_id, uids, columns, at_once=at_once)

    def read(self, message_id: MessageId, file: str) -> bytes:
        """All octets of a message. Raises Gone if it was expunged meanwhile."""
        return self._reading.read(message_id, file)

    def read_message(self, message_id: MessageId) -> bytes:
        """All octets of a message that is known by its id alone."""
        return self._reading.read_message(message_id)

    def read_original(self, message_id: MessageId, most: int) -> tuple[FileMeta, bytes]:
        """How a message came here, and the beginning of it without the fields that we added."""
        return self._reading.read_original(message_id, most)

    def read_and_kept(self, most: int) -> list[MessageId]:
        r"""The newest messages that are \Seen and lie in neither Junk, Trash, Drafts nor Sent.

        None of those that the filter has still to learn to be spam.
        """
        return self._reading.read_and_kept(most)

    def read_span(self, message_id: MessageId, file: str, start: int, end: int) -> bytes:
        """The octets [start, end) of a message."""
        return self._reading.read_span(message_id, file, start, end)

    def deleted_octets(self, mailbox_id: MailboxId) -> int:
        r"""How many octets the \Deleted messages of a mailbox have."""
        return self._reading.deleted_octets(mailbox_id)
