"""What threads are made of, and subjects to sort by, collected for the messages of a search.

Of very many messages it comes from columns that the search index keeps (storage.mail.field_columns), of the others from
their rows; a worker reads either in pieces. Texts become numbers on the way, so that each is compared once.

Standards: RFC 5256 §3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate

from hosting.imap.completing import completed
from hosting.imap.effects import Flow, blocking
from hosting.imap.searching.by_position import values_of
from hosting.imap.searching.ordering import stable
from hosting.imap.searching.progress import Progress
from hosting.imap.searching.thread import Threadable
from hosting.imap.selected import Selected
from storage.mail.field_columns import FieldColumns
from storage.mail.packed_columns import SHIFT, SPAN

_WORTH = 256  # messages of a span from which on its column is read instead of their rows
_ROWS = 500  # messages whose rows are read at a time
_SLICE = 4000  # positions looked at before others are served


def gathered(
    selected: Selected, found: Sequence[int], progress: Progress | None, *, only_subjects: bool = False
) -> Flow[Gathered]:
    """Of the messages at ascending positions `found`."""
    yield from completed(selected.account)
    message_ids = values_of(selected, selected.view.columns().message_ids)
    sought = array("Q")
    for start in range(0, len(found), _SLICE):
        sought.extend([message_ids[at] for at in found[start : start + _SLICE]])
        yield b""  # others are served between slices
    gathered = Gathered(sought, selected.account.index.columns, only_subjects=only_subjects)
    spans = yield from blocking(gathered.begin)
    for span in spans:
        yield from blocking(lambda span=span: gathered.take_span(span))  # type: ignore[misc]
        yield b"" if progress is None else progress.told()
    for start in range(0, len(gathered.left), _ROWS):
        yield from blocking(lambda start=start: gathered.take_rows(start))  # type: ignore[misc]
        yield b"" if progress is None else progress.told()
    return gathered


class Gathered:
    """Columns of messages in the order of `message_ids`, while they are filled."""

    def __init__(self, message_ids: Sequence[int], columns: FieldColumns, *, only_subjects: bool = False) -> None:
        self.left = array("I")  # places of messages that no column tells of
        self._message_ids = message_ids
        self._columns = columns
        self._only_subjects = only_subjects
        self._places: dict[int, list[int]] = {}  # by span
        count = len(message_ids)
        self._numbers: dict[str, int] = {"": 0}
        self._subject_numbers: dict[str, int] = {"": 0}
        self._ids = [0] * count
        self._references = array("I")
        self._starts, self._ends = [0] * count, [0] * count
        self._subjects = [-1] * count  # nothing is known of it
        self._replies = bytearray(count)

    def begin(self) -> list[int]:
        """The spans whose columns are to be read."""
        if len(self._message_ids) < _WORTH:
            self.left.extend(range(len(self._message_ids)))
            return []
        places = self._places
        for place, message_id in enumerate(self._message_ids):
            try:
                places[message_id >> SHIFT].append(place)
            except KeyError:
                places[message_id >> SHIFT] = [place]
        there = self._columns.threaded()
        for span in [each for each, found in places.items() if len(found) < _WORTH or each not in there]:
            self.left.extend(places.pop(span))
        return sorted(places)

    def take_span(self, span: int) -> None:
        """Everything of the messages of one span."""
        places, column = self._places.pop(span), self._columns.threads(span)
        if column is None:
            self.left.extend(places)
            return
        subject_numbers = _numbered(self._subject_numbers, column.subjects)
        line_of = [-1] * SPAN
        for line, offset in enumerate(column.offsets):
            line_of[offset] = line
        lines = [line_of[message_id % SPAN] for message_id in map(self._message_ids.__getitem__, places)]
        if -1 in lines:
            self.left.extend([place for place, line in zip(places, lines, strict=True) if line < 0])
            places = [place for place, line in zip(places, lines, strict=True) if line >= 0]
            lines = [line for line in lines if line >= 0]
        of_subject = [subject_numbers[each] for each in column.subject]
        subjects = self._subjects
        if self._only_subjects:
            for place, line in zip(places, lines, strict=True):
                subjects[place] = of_subject[line]
            return
        numbers = _numbered(self._numbers, column.ids)
        own, is_reply = [numbers[each] for each in column.own], column.replies
        bounds = list(accumulate(column.counts, initial=len(self._references)))
        self._references.extend([numbers[each] for each in column.references])
        ids, replies, starts, ends = self._ids, self._replies, self._starts, self._ends
        for place, line in zip(places, lines, strict=True):
            ids[place], subjects[place], replies[place] = own[line], of_subject[line], is_reply[line]
            starts[place], ends[place] = bounds[line], bounds[line + 1]

    def take_rows(self, start: int) -> None:
        """The same of some of those that are left."""
        places: dict[int, list[int]] = {}
        for place in self.left[start : start + _ROWS]:
            places.setdefault(self._message_ids[place], []).append(place)
        for message_id, own, chain, subject, is_reply in self._columns.thread_rows(list(places)):
            [number], [subject_number] = _numbered(self._numbers, [own]), _numbered(self._subject_numbers, [subject])
            start = len(self._references)
            self._references.extend(_numbered(self._numbers, chain.split()))
            for place in places[message_id]:  # one may stand in a mailbox twice
                self._ids[place], self._subjects[place] = number, subject_number
                self._replies[place] = is_reply
                self._starts[place], self._ends[place] = start, len(self._references)

    def finished(self, found: Sequence[int], order: Sequence[int]) -> Threadable:
        """All of it, once, with the positions `found` and the same by date.

        A worker that has no more use for it lets go of it, which takes as long as a slice may.
        """
        ids, starts, ends, subjects = self._ids, self._starts, self._ends, self._subjects
        self._ids, self._starts, self._ends, self._subjects = [], [], [], []
        gone = {place for place, subject in enumerate(subjects) if subject < 0}
        texts = max(len(self._numbers), len(self._subject_numbers))
        for subject, place in enumerate(gone, texts):
            subjects[place] = subject
        self._forget_texts()
        if len(found) and (found[0] != 0 or found[-1] != len(found) - 1):
            place_of = {position: place for place, position in enumerate(found)}
            order = [place_of[position] for position in order]
        return Threadable(
            ids=ids,
            references=self._references,
            starts=starts,
            ends=ends,
            subjects=subjects,
            replies=self._replies,
            order=order,
            texts=texts + len(gone),
            gone=gone,
        )

    def subjects(self, found: Sequence[int], count: int) -> array[int]:
        """Which place the base subjects at positions `found`, of `count`, have among all of them, equal ones the same.

        By position, and once, like `finished`.
        """
        texts, numbers = list(self._subject_numbers), self._subjects
        ranks = array("I", bytes(array("I").itemsize * (len(texts) + 1)))
        for rank, number in enumerate(stable(range(len(texts)), texts.__getitem__)):
            ranks[number] = rank
        placed = array("I", bytes(array("I").itemsize * count))
        for at, number in zip(found, numbers, strict=True):
            placed[at] = ranks[number]  # of one that has gone it is -1, and the last of the ranks
        del texts
        self._ids, self._starts, self._ends, self._subjects = [], [], [], []
        self._forget_texts()
        while numbers:
            del numbers[-_SLICE:]
        return placed

    def _forget_texts(self) -> None:
        """One by one: letting go of all of them is a call that nothing interrupts."""
        for known in (self._numbers, self._subject_numbers):
            while known:
                known.popitem()


def _numbered(known: dict[str, int], texts: Iterable[str]) -> list[int]:
    return [known.setdefault(text, len(known)) for text in texts]
