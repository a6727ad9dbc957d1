"""Finds the messages that match a search key, among those that the client was told of.

The tree is walked with a list of positions that every key narrows: what is known already and what an index answers
first, then flags, numbers, dates and sizes, other text last and only among what is left. Text goes to the index in
steps, the first of them inline; the rest are Work. What messages' unchanging content decides (text, dates, sizes) is
remembered with the columns of the view (storage.mail.answers), and looked for again among later messages only.

Standards: RFC 9051 §6.4.4, RFC 3501 §6.4.4 (RECENT), RFC 5032 (WITHIN), RFC 6203 (FUZZY), RFC 7162 §3.1.5, RFC 8474 §6.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import compress
from typing import Final

from hosting.imap import commands as c
from hosting.imap.completing import completed
from hosting.imap.effects import Flow, blocking
from hosting.imap.locating import located
from hosting.imap.searching import dates, relevance
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.by_position import Column, marked, values_of
from hosting.imap.searching.merging import common, either, within, without
from hosting.imap.searching.ordering import by_number, stable
from hosting.imap.searching.progress import Progress
from hosting.imap.searching.savedate import find as saved_then
from hosting.imap.selected import Selected
from storage.mail.answers import joined
from storage.mail.columns import marks
from storage.mail.sought import Sought
from storage.mail.trigrams import TRIGRAM

_MANY_COLUMNS = 1000  # messages whose sizes and dates are read by a worker rather than in the event loop
_MANY = 50_000  # messages whose texts are looked for by a worker from the first step on
_SLICE = 16_000  # positions that a cheap key looks at before others are served
_SCORED = 4000  # positions whose scores are noted before others are served
_SHORT: Final = frozenset({"subject", "from", "to", "cc", "bcc"})
_LASTING: Final = (sc.TextKey, sc.DateKey, sc.SizeKey)  # a message answers them the same way for ever
_BY_ID: Final = "positions by message id"  # an order that is remembered
_UNORDERED = 2000  # messages that arrived after such an order was made, and are looked at one by one
_OF_COLUMNS: Final = (sc.TextKey, sc.DateKey, sc.SizeKey, sc.WithinKey)
_OF_VIEW: Final = (
    sc.FlagKey, sc.KeywordKey, sc.RecentKey, sc.NumbersKey, sc.ModSeqKey, sc.SizeKey, sc.WithinKey,
)  # fmt: skip
_COST: Final[dict[type[sc.Key], int]] = {
    sc.FuzzyKey: 10, sc.TextKey: 9, sc.ObjectKey: 6, sc.SavedKey: 6, sc.EitherKey: 5, sc.NotKey: 4, sc.AllKeys: 3,
    sc.DateKey: 1, sc.SizeKey: 1, sc.WithinKey: 1,
}  # fmt: skip


def of_view(key: sc.Key) -> bool:
    """Whether flags, numbers, sizes and dates of arrival decide, which are in memory."""
    match key:
        case sc.AllKeys(keys):
            return all(map(of_view, keys))
        case sc.NotKey(inner):
            return of_view(inner)
        case sc.EitherKey(left, right):
            return of_view(left) and of_view(right)
        case sc.DateKey():
            return not key.sent
    return isinstance(key, _OF_VIEW)


def uses_columns(key: sc.Key) -> bool:
    """Whether it looks at columns that a view reads when they are wanted."""
    match key:
        case sc.AllKeys(keys):
            return any(map(uses_columns, keys))
        case sc.NotKey(inner):
            return uses_columns(inner)
        case sc.EitherKey(left, right):
            return uses_columns(left) or uses_columns(right)
    return isinstance(key, _OF_COLUMNS)


def saved_sets(key: sc.Key) -> Iterator[tuple[c.SequenceSet, bool]]:
    """The sets of messages below it that are "$"."""
    match key:
        case sc.NumbersKey(numbers, by_uid):
            if numbers.saved:
                yield numbers, by_uid
        case sc.AllKeys(keys):
            for one in keys:
                yield from saved_sets(one)
        case sc.NotKey(inner):
            yield from saved_sets(inner)
        case sc.EitherKey(left, right):
            yield from saved_sets(left)
            yield from saved_sets(right)


class Matcher:
    """One search over a mailbox. `now` is the time for YOUNGER and OLDER; `scoring` fills `scores` for FUZZY keys."""

    def __init__(
        self, selected: Selected, now: float, *, progress: Progress | None = None, scoring: bool = False
    ) -> None:
        self._selected = selected
        self._view = selected.view
        self._now = int(now)
        self._progress = progress
        self._scoring = scoring
        self._scores = relevance.Scores(selected.told if scoring else 0)
        self._sets: dict[tuple[c.SequenceSet, bool], Sequence[int]] = {}

    def _values(self, column: Sequence[int]) -> Column:
        return values_of(self._selected, column)

    @property
    def scores(self) -> Mapping[int, int]:
        """How well positions match what was asked for loosely, from 1 to 100 (RFC 6203 §4)."""
        return self._scores

    def find(self, key: sc.Key, among: Sequence[int] | None = None) -> Flow[Sequence[int]]:
        """Ascending positions of the messages that match, of all or of some (ascending, too)."""
        selected = self._selected
        if among is None:
            among = range(selected.told)
        if selected.stale:
            present: list[int] = []
            for start in range(0, len(among), _SLICE // 4):
                present += selected.view_positions(among[start : start + _SLICE // 4])[0]
                yield b""  # others are served between slices
            among = present
        return (yield from self._narrow(key, among))

    def _columns_ready(self) -> Flow[None]:
        if self._view.columns_missing > _MANY_COLUMNS:
            yield from blocking(self._view.prepare_columns)

    def _narrow(self, key: sc.Key, among: Sequence[int]) -> Flow[Sequence[int]]:
        if not among:
            return among
        if uses_columns(key):
            yield from self._columns_ready()
        if isinstance(key, _LASTING) and not self._selected.stale:
            return (yield from self._lasting(key, among))
        return (yield from self._looked_through(key, among))

    def _lasting(self, key: sc.Key, among: Sequence[int]) -> Flow[Sequence[int]]:
        """What is known of messages looked through before; only those behind them are looked at."""
        selected, columns = self._selected, self._view.columns()
        asked, told = self._asked(key), selected.told
        known = columns.answers.get(asked)
        whole = len(among) == told
        if known is None and not whole:
            return (yield from self._looked_through(key, among))
        if known is None or known.count < told:
            behind = range(known.count if known else 0, told)
            if not whole and len(behind) > len(among):
                return (yield from self._looked_through(key, among))
            found = yield from self._looked_through(key, behind)
            if known:
                found = joined(known.positions, found)
            if selected.stale or self._view.columns() is not columns:  # messages have left meanwhile
                return (yield from common(among, found))
            known = columns.answers.put(asked, told, found)
        return (yield from common(among, known.positions))  # of more messages than were told of, maybe

    def _asked(self, key: sc.Key) -> Hashable:
        """What an answer is remembered by."""
        return (key, self._selected.account.index.texts_as_of()) if isinstance(key, sc.TextKey) else key

    def _price(self, key: sc.Key, count: int) -> int:
        """What is asked first costs least: what is known or an index answers, of many messages."""
        if isinstance(key, _LASTING) and count > _MANY_COLUMNS and not self._selected.stale:
            if (
                self._view.columns_missing <= _MANY_COLUMNS
                and self._view.columns().answers.get(self._asked(key)) is not None
            ):
                return -2
            if isinstance(key, sc.TextKey) and key.field in _SHORT and len(key.needle) >= TRIGRAM:
                return -1
        return _COST.get(type(key), 0)

    def _looked_through(self, key: sc.Key, among: Sequence[int]) -> Flow[Sequence[int]]:
        if isinstance(key, sc.AllKeys):
            count = len(among)
            for one in sorted(key.keys, key=lambda each: self._price(each, count)):
                among = yield from self._narrow(one, among)
            return among
        if of_view(key):
            yield from self._sets_ready(key)
            size = _SLICE // 4 if self._selected.stale else _SLICE  # positions are looked up one by one then
            if len(among) <= size:
                return self._cheap(key, among)
            kept: list[int] = []
            for start in range(0, len(among), size):
                kept += self._cheap(key, among[start : start + size])
                yield b""  # others are served between slices
            return among if len(kept) == len(among) else kept
        if isinstance(key, sc.TextKey | sc.DateKey | sc.ObjectKey):
            yield from completed(self._selected.account)
        match key:
            case sc.NotKey(inner):
                return (yield from without(among, (yield from self._narrow(inner, among))))
            case sc.EitherKey():
                left, right = sorted((key.left, key.right), key=lambda each: self._price(each, len(among)))
                first = yield from self._narrow(left, among)
                rest = yield from without(among, first)
                second = yield from self._narrow(right, rest)
                return (yield from either(among, first, second))
            case sc.FuzzyKey(inner):
                return (yield from self._fuzzy(inner, among))
            case sc.TextKey():
                return (yield from self._text(key, among))
            case sc.DateKey():
                return (yield from dates.sent(self._selected, key, among))
            case sc.ObjectKey():
                return (yield from self._object(key, among))
            case sc.SavedKey():
                return (yield from saved_then(self._selected, key, among))
        raise TypeError(type(key).__name__)

    def _fuzzy(self, key: sc.Key, among: Sequence[int]) -> Flow[Sequence[int]]:
        found = yield from self._narrow(relevance.loosened(key), among)
        if not self._scoring:
            return found
        looked_at = False
        for text in relevance.texts(key):
            looked_at = True
            best = bytearray(self._selected.told)
            near = found
            for closer, score in relevance.levels(text):
                near = yield from self._narrow(closer, near)
                for start in range(0, len(near), _SCORED):
                    for at in near[start : start + _SCORED]:
                        best[at] = score
                    yield b""  # others are served between slices
            yield from self._score(found, best.__getitem__)
        if not looked_at:
            yield from self._score(found, lambda _: relevance.EXACT)
        return found

    def _score(self, found: Sequence[int], score: Callable[[int], int]) -> Flow[None]:
        for start in range(0, len(found), _SCORED):
            part = found[start : start + _SCORED]
            self._scores.add(part, map(score, part))
            yield b""  # others are served between slices

    def _cheap(self, key: sc.Key, among: Sequence[int]) -> Sequence[int]:
        """For keys that the view alone decides."""
        view, selected = self._view, self._selected
        match key:
            case sc.AllKeys(keys):
                for one in keys:
                    among = self._cheap(one, among)
                return among
            case sc.NotKey(sc.FlagKey(bit, is_set)):
                return self._cheap(sc.FlagKey(bit, not is_set), among)
            case sc.NotKey(inner):
                found = set(self._cheap(inner, among))
                return [at for at in among if at not in found]
            case sc.EitherKey(left, right):
                first, second = set(self._cheap(left, among)), set(self._cheap(right, among))
                return [at for at in among if at in first or at in second]
            case sc.FlagKey(bit, is_set):
                if isinstance(among, range) and not selected.stale:
                    return marked(among, marks(view.flags[among.start : among.stop], bit, present=is_set))
                flags = self._values(view.flags)
                if is_set:
                    return [at for at in among if flags[at] & bit]
                return [at for at in among if not flags[at] & bit]
            case sc.KeywordKey(name, is_set):
                bits = [bit for bit, known in view.keywords.items() if known.lower() == name.lower()]
                if not bits:
                    return () if is_set else among
                return self._cheap(sc.FlagKey(1 << bits[0], is_set), among)
            case sc.RecentKey(kind):
                flags, uids, is_recent = self._values(view.flags), selected.uids, selected.is_recent
                if kind == "OLD":
                    return [at for at in among if not is_recent(uids[at])]
                return [at for at in among if is_recent(uids[at]) and (kind == "RECENT" or not flags[at] & 1)]
            case sc.NumbersKey(numbers, by_uid):
                return within(among, self._positions(numbers, by_uid))
            case sc.ModSeqKey(modseq):
                modseqs = self._values(view.modseqs)
                return [at for at in among if modseqs[at] >= modseq]
            case sc.SizeKey(larger, size):
                sizes = self._values(view.columns().sizes)
                if larger:
                    return [at for at in among if sizes[at] > size]
                return [at for at in among if sizes[at] < size]
            case sc.DateKey():
                return dates.arrived(selected, key, among)
            case sc.WithinKey(younger, seconds):
                arrived, since = self._values(view.columns().internal_dates), self._now - seconds
                return [at for at in among if (arrived[at] >= since) is younger]
        raise TypeError(type(key).__name__)

    def _sets_ready(self, key: sc.Key) -> Flow[None]:
        """Finds out what "$" means of very many messages."""
        for numbers, by_uid in saved_sets(key) if len(self._selected.saved) > _SLICE else ():
            if (numbers, by_uid) not in self._sets:
                self._sets[numbers, by_uid] = yield from located(self._selected, numbers, by_uid, lenient=True)

    def _positions(self, numbers: c.SequenceSet, by_uid: bool) -> Sequence[int]:
        """What a set means, found out once for all slices."""
        known = self._sets.get((numbers, by_uid))
        if known is None:
            known = self._sets[numbers, by_uid] = self._selected.positions(numbers, by_uid, lenient=True)
        return known

    def _text(self, key: sc.TextKey, among: Sequence[int]) -> Flow[Sequence[int]]:
        column = self._view.columns().message_ids
        ids = self._values(column)
        field, name = (key.field, "") if not key.header or key.field in _SHORT else ("header", key.field)
        if not key.needle:
            if not key.header and key.field not in _SHORT:
                return among
            field, name = "header", key.field  # an empty needle: the field is there at all
        if ids is column and isinstance(among, range):
            order = (yield from self._by_id()) if len(among) > _UNORDERED and len(among) == self._selected.told else ()
            sought = Sought(column[among.start : among.stop], order)
        else:
            wanted = array("Q")
            for start in range(0, len(among), _SLICE):
                wanted.extend([ids[at] for at in among[start : start + _SLICE]])
                yield b""  # others are served between slices
            sought = Sought(wanted)
        account = self._selected.account
        begin = partial(account.index.lookup, field, key.needle, sought, name)
        # It reads the files of messages that came meanwhile, or could not be read before.
        lookup = (yield from blocking(begin)) if account.completion.is_due() else begin()
        finished = lookup.step() if len(sought) <= _MANY else (yield from blocking(lookup.step))
        while not finished:
            finished = yield from blocking(lookup.step)
            if self._progress is not None:
                yield self._progress.told()
        if sought.is_rare(len(lookup.found)):
            return sought.positions(lookup.found)
        found: list[int] = []
        for start in range(0, len(among), _SLICE):
            part = slice(start, start + _SLICE)
            found += compress(among[part], map(lookup.found.__contains__, sought.ids[part]))
            yield b""  # others are served between slices
        return found

    def _by_id(self) -> Flow[Sequence[int]]:
        """The positions of all messages, or all but those that came last, by their message ids."""
        columns, told = self._view.columns(), self._selected.told
        known = columns.answers.get(_BY_ID)
        if known is not None and known.count <= told <= known.count + _UNORDERED:
            return known.positions
        ids = columns.message_ids
        start = known.positions if known is not None and known.count <= told else range(0)

        def work() -> Sequence[int]:
            order = by_number(ids, told)
            if order is None:
                order = stable([*start, *range(len(start), told)], ids.__getitem__)
            return array("I", order)

        order = yield from blocking(work)
        if self._selected.stale or self._view.columns() is not columns:
            return ()
        return columns.answers.put(_BY_ID, told, order).positions

    def _object(self, key: sc.ObjectKey, among: Sequence[int]) -> Flow[Sequence[int]]:
        messages, mailbox_id, uids = self._selected.account.messages, self._selected.mailbox_id, self._selected.uids
        column = "thread_id" if key.thread else "email_id"

        def work() -> array[int]:
            rows = messages.fetch_rows(mailbox_id, uids[among[0]], uids[among[-1]], ("uid", column))
            return array("I", [uid for uid, name in rows if name == key.id])

        found = yield from blocking(work)
        positions = array("I")
        for start in range(0, len(found), _SLICE // 4):
            positions.extend(self._selected.positions_of(found[start : start + _SLICE // 4]))
            yield b""  # others are served between slices
        return (yield from common(among, positions))
