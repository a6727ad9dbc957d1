"""A mailbox in memory: UIDs, flags and modseqs of all its messages, shared by the sessions of a process.

A view belongs to one thread, the event loop's; it may be loaded on another and handed over. `refresh` brings it up to
date in place: arrivals are appended, flags are changed where they stand. When messages vanish, the arrays are replaced
by new ones and `generation` rises, so that a session that has not told its client yet can keep the old ones.

What this process itself wrote comes to the view without a database read (`Views.tell`), because the modseqs follow each
other without gaps; what others wrote is read (`ViewRows.changed_since`).

Raises: Gone (the mailbox was deleted). Standards: RFC 9051 §2.3.1, RFC 7162 §3.1, §3.2.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import reduce
from operator import or_

from storage.mail.columns import Columns, first_without, from_snapshot, overwrite, places_of, without
from storage.mail.kept import NAMES, Kept
from storage.mail.ledger import Delta
from storage.mail.packing import Packed
from storage.mail.snapshots import Picture
from storage.mail.view_rows import Anew, Changed, Entry, FarBehind, MailboxState, ViewRows
from storage.values import FIRST_KEYWORD_BIT, SEEN, MailboxId, UidSet

_LOG_MAX = 20_000  # UIDs that the log of changes remembers
_PENDING_MAX = 200  # transactions of this process that wait for a refresh
_FAR = 20  # transactions of other processes that are read in the event loop
_STALE = 2000  # changes after which a new snapshot is due, or a twentieth of the messages


class MailboxView:
    __slots__ = (
        "__weakref__",
        "_ahead",
        "_columns",
        "_data_version",
        "_kept",
        "_log",
        "_log_size",
        "_pending",
        "_prepared",
        "_rows",
        "_save",
        "_since_snapshot",
        "_unseen",
        "expunged_horizon",
        "flags",
        "generation",
        "highest_modseq",
        "keywords",
        "mailbox_id",
        "modseqs",
        "recent_claimed",
        "uidnext",
        "uids",
        "uidvalidity",
    )

    def __init__(
        self,
        mailbox_id: MailboxId,
        rows: ViewRows,
        state: MailboxState,
        arrays: Sequence[array[int]] | Packed,
        keywords: dict[int, str],
        save: Callable[[MailboxId, Picture], None],
    ) -> None:
        self.mailbox_id = mailbox_id
        if isinstance(arrays, Packed):
            self._kept: Kept | None = Kept(arrays)  # … makes flags and modseqs
            self.uids = arrays.array(0)
        else:
            self._kept = None
            self.uids, self.flags, self.modseqs = arrays
        self.keywords = keywords
        self.generation = 0
        self.highest_modseq, self.uidnext, self.uidvalidity, self.expunged_horizon = state
        self.recent_claimed = (
            0  # up to this UID some session of this process told of messages as \Recent (RFC 3501 §2.3.2)
        )
        self._rows = rows
        self._save = save  # keeps a snapshot, in the background
        self._data_version = -1  # of the database, when this was up to date
        self._columns: Columns | None = None
        self._prepared: tuple[int, Columns] | None = None  # generation, and columns read on another thread
        self._ahead: tuple[int, Changed | Anew] | None = None  # read on another thread: what changed after a modseq
        self._pending: dict[int, Delta] = {}
        self._log: deque[Entry] | tuple[()] = ()  # a deque from the first change on: an empty one takes 760 octets
        self._log_size = 0
        self._since_snapshot = 0
        self._unseen = (-1, 0)  # as of which modseq, and the answer of `first_unseen`

    def __len__(self) -> int:
        return len(self.uids)

    def __getattr__(self, name: str) -> array[int]:
        """Called for what is not there: flags and modseqs of a snapshot, before somebody asks for them."""
        if name not in NAMES:
            raise AttributeError(name)
        kept = self._kept
        with kept.lock if kept is not None else nullcontext():
            try:
                made: array[int] = object.__getattribute__(self, name)  # by another thread meanwhile
            except AttributeError:
                if kept is None:
                    raise
                made = kept.values(name, self.uids)
                setattr(self, name, made)
                if not any(map(kept.has, NAMES)):
                    self._kept = None
        return made

    def _unpack(self) -> None:
        """What still is packed, before the UIDs that it belongs to go."""
        for name in NAMES:
            getattr(self, name)

    def first_unseen(self) -> int:
        r"""The number of the first message without \Seen; 0: none. Looked for once for each state of the mailbox."""
        if self._unseen[0] != self.highest_modseq:
            kept = self._kept
            packed = kept is not None and kept.has("flags")
            first = kept.first_without(SEEN, self.uids) if kept and packed else first_without(self.flags, SEEN)
            self._unseen = (self.highest_modseq, first)
        return self._unseen[1]

    # Bringing it up to date

    def is_current(self) -> bool:
        """Nobody has committed since it was brought up to date."""
        return self._rows.database.data_version() == self._data_version

    def refresh(self, *, patient: bool = False) -> bool:
        """Take in what was committed since; False if nothing was. `patient`: raises FarBehind rather than take long."""
        database = self._rows.database
        version = database.data_version()  # before the state is read: what is committed in between is seen later
        if version == self._data_version:
            return False
        with database.reading() as connection:
            state = self._rows.state(connection, self.mailbox_id)
        if state.highest_modseq == self.highest_modseq:
            self._data_version = version
            return False
        if not self._take_pending(state):
            if patient and state.highest_modseq - self.highest_modseq > _FAR:
                raise FarBehind
            while self.highest_modseq < state.highest_modseq:  # what was read ahead may be of a while ago
                self._read_changes(patient=patient)
        self._data_version = version
        if self._since_snapshot > max(_STALE, len(self.uids) // 20):
            self.save_snapshot()
        return True

    def take_own(self, modseq: int, most: int = _PENDING_MAX) -> bool:
        """Take in what this process wrote, without looking at the database; False if that does not reach `modseq`.

        Of works that shared a commit each tells its own change, in any order: what stands before it may be missing yet.
        """
        deltas: list[Delta] = []  # of at most so many transactions
        pending, first = self._pending, self.highest_modseq + 1
        while len(deltas) < most and (delta := pending.pop(first + len(deltas), None)) is not None:
            deltas.append(delta)
        if deltas:
            self._take_all(deltas)
            uidnext = max(self.uidnext, 1 + max([delta.uids[-1] for delta in deltas if delta.uids], default=0))
            self._move_to(MailboxState(deltas[-1].modseq, uidnext, self.uidvalidity, self.expunged_horizon))
        return self.highest_modseq >= modseq

    def tell(self, delta: Delta) -> None:
        """A transaction of this process was committed; called on any thread."""
        if len(self._pending) < _PENDING_MAX:
            self._pending[delta.modseq] = delta

    def _take_pending(self, state: MailboxState) -> bool:
        """Whether this process wrote everything up to `state` itself; then it is taken in."""
        pending, first, last = self._pending, self.highest_modseq + 1, state.highest_modseq
        if last - first >= len(pending) or any(modseq not in pending for modseq in range(first, last + 1)):
            return False
        self._take_all([pending.pop(modseq) for modseq in range(first, last + 1)])
        self._move_to(state)
        return True

    def _take_all(self, deltas: Sequence[Delta]) -> None:
        """In their order; what only went is taken out together, since each time all arrays are made anew."""
        if len(deltas) == 1:
            self._take(deltas[0])
            return
        gone = array("I")
        for delta in deltas:
            if len(delta.vanished) and not len(delta.uids):
                gone += delta.vanished
                self._note(delta.modseq, delta.uids, delta.vanished)
                continue
            self._remove_all(gone)
            gone = array("I")
            self._take(delta)
        self._remove_all(gone)

    def _remove_all(self, vanished: array[int]) -> None:
        if vanished:
            self._remove(array("I", sorted(vanished)))

    def _take(self, delta: Delta) -> None:
        if delta.vanished:
            self._remove(delta.vanished)
        self._put(delta.uids, delta.flags, delta.modseq)
        self._learn_keywords(delta.flags)
        self._note(delta.modseq, delta.uids, delta.vanished)

    def prepare_changes(self) -> None:
        """Read what others wrote on another thread, so that `refresh` need not."""
        modseq = self.highest_modseq
        ahead = modseq, self._rows.changed_since(self.mailbox_id, modseq, self.uids[:], many=True)
        self._ahead = ahead if self.highest_modseq == modseq else None  # others may have brought it up to date

    def _read_changes(self, *, patient: bool) -> None:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == self.highest_modseq:
            found = ahead[1]
        else:
            found = self._rows.changed_since(self.mailbox_id, self.highest_modseq, self.uids, patient=patient)
        if isinstance(found, Anew):
            self._take_anew(found)
            return
        vanished = array("I", sorted(found.vanished))
        if vanished:
            self._remove(vanished)
        known = bisect_right(found.uids, self.uids[-1]) if self.uids else 0
        kept = self._kept  # another thread, which asks for flags, may let go of it
        if vanished or kept is None or not kept.note(found, known):
            overwrite((self.uids, self.flags, self.modseqs), (found.uids[:known], found.flags, found.modseqs))
            self.flags.extend(found.flags[known:])
            self.modseqs.extend(found.modseqs[known:])
        self.uids.extend(found.uids[known:])
        self._learn_keywords(found.flags)
        self._note(found.state.highest_modseq, found.uids, vanished)
        self._move_to(found.state)

    def _take_anew(self, found: Anew) -> None:
        self._unpack()
        self.uids, self.flags, self.modseqs = found.uids, found.flags, found.modseqs
        self.generation += 1
        self._columns = self._prepared = None
        self._learn_keywords(found.flags)
        self._note(found.state.highest_modseq, found.changed, found.vanished)
        self._move_to(found.state)

    def _move_to(self, state: MailboxState) -> None:
        self.highest_modseq, self.uidnext, self.uidvalidity, self.expunged_horizon = state
        self._ahead = None
        if self._pending:
            for modseq in list(self._pending):  # other threads put more into it
                if modseq <= state.highest_modseq:
                    self._pending.pop(modseq, None)

    def _put(self, changed: array[int], new_flags: array[int], modseq: int) -> None:
        """Flags of messages, ascending; those behind the last one arrive."""
        uids, flags, modseqs, count = self.uids, self.flags, self.modseqs, len(changed)
        if count == 1 and (at := bisect_left(uids, changed[0])) < len(uids):
            if uids[at] == changed[0]:
                flags[at], modseqs[at] = new_flags[0], modseq
            return
        if not count:
            return
        if not uids or changed[0] > uids[-1]:
            uids.extend(changed)
            flags.extend(new_flags)
            modseqs.extend(array("Q", (modseq,)) * count)
            return
        overwrite((uids, flags, modseqs), (changed, new_flags, array("Q", (modseq,)) * count))

    def _remove(self, vanished: array[int]) -> None:
        """Ascending UIDs leave; those that the view never had are passed over."""
        positions = places_of(vanished, self.uids)
        if not positions:
            return
        self.flags, self.modseqs = without(self.flags, positions), without(self.modseqs, positions)
        self.uids = without(self.uids, positions)  # last: what is packed yet is unpacked by them
        if self._columns is not None:
            self._columns = self._columns.without(positions)
        self._prepared = None
        self.generation += 1

    def _learn_keywords(self, flags: Iterable[int]) -> None:
        """Read the names again if one of these has a bit that has none."""
        unnamed = reduce(or_, set(flags), 0) >> FIRST_KEYWORD_BIT << FIRST_KEYWORD_BIT
        for bit in self.keywords:
            unnamed &= ~(1 << bit)
        if unnamed:
            with self._rows.database.reading() as connection:
                self.keywords = self._rows.keywords(connection, self.mailbox_id)

    # What changed

    def would_change(self, uids: UidSet, keep: int, bits: int) -> bool:
        """Whether flags & keep | bits makes a difference to any of these messages, as far as is known here."""
        mine, flags = self.uids, self.flags
        for first, last in uids.ranges:
            at = bisect_left(mine, first)
            end = at + 1 if first == last else bisect_right(mine, last, at)
            for old in flags[at:end]:
                if old & keep | bits != old:
                    return True
        return False

    def lately_changed(self, modseq: int, most: int) -> set[int] | None:
        """UIDs that arrived or changed since then, gone ones too; None: more than `most`, or too long ago to know."""
        changed: set[int] = set()
        count = 0
        for entry in reversed(self._log):
            count += len(entry.changed)
            if count > most:
                return None
            changed.update(entry.changed)
            if entry.since <= modseq:
                return changed if entry.since == modseq else None
        return None

    def vanished_since(self, modseq: int) -> list[int] | None:
        """UIDs that left it; None: too long ago, nobody knows all of them."""
        vanished: list[int] = []
        for entry in reversed(self._log):
            vanished += entry.vanished
            if entry.since == modseq:
                return vanished
            if entry.since < modseq:
                break
        return self._rows.vanished_since(self.mailbox_id, modseq, self.highest_modseq)

    def _note(self, modseq: int, changed: array[int], vanished: array[int]) -> None:
        log = self._log
        if not isinstance(log, deque):
            log = self._log = deque()
        entry = Entry(log[-1].modseq if log else self.highest_modseq, modseq, changed, vanished)
        log.append(entry)
        self._log_size += len(entry) + 1
        self._since_snapshot += len(entry)
        while self._log_size > _LOG_MAX and len(log) > 1:
            self._log_size -= len(log.popleft()) + 1

    # Sizes and dates

    def columns(self) -> Columns:
        """Aligned with `uids`; what is missing is read now."""
        columns, prepared = self._columns, self._prepared
        if prepared is not None:
            self._prepared = None
            if prepared[0] == self.generation:
                columns = self._columns = prepared[1] if columns is None else columns.followed_by(prepared[1])
        if columns is None:
            columns = self._columns = from_snapshot(self._rows, self.mailbox_id, self.uids)
        if len(columns) < len(self.uids):
            missing = len(self.uids) - len(columns)
            columns.extend(self._rows, self.mailbox_id, self.uids)
            self._since_snapshot += missing
        return columns

    @property
    def columns_missing(self) -> int:
        """How many messages `columns` would read rows of."""
        return len(self.uids) - len(self._columns) if self._columns is not None else len(self.uids)

    def forget_answers(self) -> None:
        """What was searched for is remembered no longer; any thread may call."""
        columns = self._columns
        if columns is not None:
            columns.answers.clear()

    def prepare_columns(self) -> None:
        """Read them on another thread, so that `columns` need not."""
        generation, uids = self.generation, self.uids[:]
        known = self._columns
        columns = from_snapshot(self._rows, self.mailbox_id, uids) if known is None else known.copied()
        columns.extend(self._rows, self.mailbox_id, uids)
        self._prepared = generation, columns

    def save_snapshot(self) -> None:
        """Have the view as it is now kept for the next cold start."""
        self._since_snapshot = 0
        columns = self._columns
        kept = [each[:] for each in columns.arrays] if columns is not None and len(columns) == len(self.uids) else None
        self._save(self.mailbox_id, Picture(self.highest_modseq, [self.uids[:], self.flags[:], self.modseqs[:]], kept))
