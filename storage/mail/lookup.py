"""One text search over the messages of an account, in steps that a session runs one after the other.

A step reads one range of the index or one slice of texts, in about 10 ms at most; when `step` has returned True,
`matches` are exactly the messages that contain the needle. What the index cannot narrow (needles under three
characters, messages that are not indexed yet) is verified text by text, so nothing is ever missed. Messages are
immutable: what was verified once is remembered.

Standards: RFC 9051 §6.4.4 (substrings, RFC 2047 and transfer encodings decoded), RFC 5051 (caseless).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from storage.database.database import Database
from storage.database.prepared import Connection
from storage.locks import new_lock
from storage.mail import trigrams
from storage.mail.field_columns import FieldColumns
from storage.mail.packed_columns import SPAN
from storage.mail.search_text import SearchTexts, unpack_all
from storage.mail.sought import Sought
from storage.mail.trigrams import FieldName, Part, searchable
from storage.mime.casemap import casemap

RANGE = 10_000  # message ids whose index entries one step reads …
RANGE_MAX, RARE = 80_000, 300  # … and of short fields four times as many after a step that found few, up to so many
SLICE = 100  # texts that the first step verifies; the next ones as many as have about SLICE_OCTETS packed
SLICE_MIN, SLICE_MAX, SLICE_OCTETS = 8, 400, 400_000
FIELDS_SLICE = 1000  # short fields that one step verifies
FILES = 8  # messages that one step reads from their files
MANY_CANDIDATES = 150  # from so many on a header field's name is looked for, too: it costs as much as verifying them
FEW = 16  # so few messages are verified without asking the index
_CHARACTERS = 80  # of a needle that take as much memory as one answer that is remembered

_FIELDS: dict[str, FieldName] = {"subject": "subject", "from": "from_", "to": "to_", "cc": "cc", "bcc": "bcc"}
_PARTS = {"body": Part.BODY, "header": Part.HEADER, "text": None}


@dataclass(frozen=True, slots=True)
class Question:
    """Whether a text of a message contains `needle`: a short field, or (field None) a part; part None is either one."""

    field: FieldName | None
    part: Part | None
    needle: str
    name: str = ""  # of the header field that must contain it (HEADER)

    @classmethod
    def of(cls, key: str, needle: str, name: str = "") -> Question:
        """From a search key: subject, from, to, cc, bcc, body, text, or header with the field's name."""
        needle = searchable(casemap(needle))
        if key in _FIELDS:
            return cls(_FIELDS[key], None, needle)
        return cls(None, _PARTS[key], needle, searchable(casemap(name)) if key == "header" else "")

    @property
    def narrowing(self) -> list[str]:
        """What the index is asked for, the needle first; empty if it cannot help."""
        needles = [self.needle, f"{self.name}:"] if self.name else [self.needle]
        return [needle for needle in needles if trigrams.can_narrow(needle)]

    @property
    def weight(self) -> int:
        """What remembering it takes, in answers: a needle may have 64 KB."""
        return (len(self.needle) + len(self.name)) // _CHARACTERS

    @property
    def is_exact(self) -> bool:
        """Whether what the index names needs no second look."""
        return not self.name and (self.field is not None or trigrams.is_exact(self.needle))

    def test(self) -> Callable[[bytes], bool]:
        """The check of one text in UTF-8."""
        needle = self.needle.encode()
        if not self.name:
            return lambda text: needle in text
        field = b"\n" + self.name.encode() + b":"

        def in_field(text: bytes) -> bool:
            """Whether a line of the header has it, not one of the fields of parts behind."""
            if needle not in text:
                return False
            text = b"\n" + text
            last = text.find(b"\n\n")
            last = len(text) if last < 0 else last
            at = text.find(field, 0, last)
            while at >= 0:
                start = at + len(field)
                end = text.find(b"\n", start)
                if text.find(needle, start, len(text) if end < 0 else end) >= 0:
                    return True
                at = text.find(field, start, last)
            return False

        return in_field


class Verified:
    """Answers that were verified, of a bounded number; the questions asked longest ago are forgotten first."""

    def __init__(self, answers_max: int = 20_000) -> None:
        self._answers_max = answers_max
        self._answers: OrderedDict[Question, dict[int, bool]] = OrderedDict()
        self._count = 0
        self._lock = new_lock()

    def known(self, question: Question, message_ids: Iterable[int]) -> dict[int, bool]:
        """Those of `message_ids` that are known, with their answers."""
        with self._lock:
            answers = self._answers.get(question)
            if not answers:
                return {}
            self._answers.move_to_end(question)
            return {message_id: answers[message_id] for message_id in message_ids if message_id in answers}

    def learn(self, question: Question, answers: dict[int, bool]) -> None:
        with self._lock:
            kept = self._answers.get(question)
            if kept is None:
                kept = self._answers[question] = {}
                self._count += question.weight
            self._count -= len(kept)
            kept.update(answers)
            self._count += len(kept)
            self._answers.move_to_end(question)
            while self._count > self._answers_max:
                forgotten, dropped = self._answers.popitem(last=False)
                self._count -= len(dropped) + forgotten.weight

    def forget(self) -> None:
        """Everything; any thread may call."""
        if self._answers:
            with self._lock:
                self._answers.clear()
                self._count = 0


class Lookup:
    """The messages among some that answer a question with yes."""

    __slots__ = (
        "_among", "_columns", "_database", "_pending", "_question", "_rest", "_slice", "_started", "_test", "_texts",
        "_unindexed", "_verified", "_width", "found",
    )  # fmt: skip

    def __init__(
        self,
        database: Database,
        texts: SearchTexts,
        columns: FieldColumns,
        verified: Verified,
        unindexed: Callable[[], Collection[int]],
        question: Question,
        among: Sought,
    ) -> None:
        self._database = database
        self._texts = texts
        self._columns = columns
        self._verified = verified
        self._unindexed = unindexed
        self._question = question
        self._test = question.test()
        self._among = among
        self._started = False
        self._rest = range(0)  # of the index, still to be asked
        self._width = RANGE  # of it at a time
        self._pending: list[int] = []  # to be verified, in descending order once the index has been asked
        self._slice = SLICE
        self.found: set[int] = set()  # message ids that match; others that match, but are not sought, may be there, too

    @property
    def matches(self) -> set[int]:
        """The messages that match. `Sought.positions` of `found` is the shorter way."""
        return self._among.common(self.found)

    def step(self) -> bool:
        """Do one slice of the work. True: `matches` is complete."""
        if not self._started:
            self._started = True
            self._begin()
        if self._rest:
            width = self._width if not self._question.name else 2 * SPAN - self._rest[0] % SPAN  # whole columns
            part, self._rest = self._rest[:width], self._rest[width:]
            self._narrow(part)
            if not self._rest:
                self._recall()
        if not self._rest and self._pending:
            self._verify()
        return not self._rest and not self._pending

    def _begin(self) -> None:
        if len(self._among) > FEW and self._question.narrowing:
            low, high = self._among.bounds
            self._rest = range(low, high + 1)
            # Read before the index is asked: a message that is indexed in between is verified, not missed.
            self._pending = list(self._among.common(set(self._unindexed())))
        else:
            self._pending = list(self._among)
            self._recall()

    def _narrow(self, ids: range) -> None:
        question, first, last = self._question, ids[0], ids[-1]
        with self._database.reading() as connection:
            if question.field is not None:
                found = trigrams.with_field(connection, question.field, question.needle, first, last)
                if len(found) <= RARE:
                    self._width = min(4 * self._width, RANGE_MAX)
                else:
                    self._width = RANGE
            elif question.name:
                exact, unknown = self._columns.containing(connection, question.name, question.needle, first, last)
                self.found |= exact
                found = set()
                for start, end in unknown:
                    found |= self._may_contain(connection, start, end)
            else:
                found = self._may_contain(connection, first, last)
        if question.is_exact:
            self.found |= found
        else:
            self._pending.extend(self._among.common(found))

    def _may_contain(self, connection: Connection, first: int, last: int) -> set[int]:
        question = self._question
        needle, *others = question.narrowing
        found = trigrams.may_contain(connection, question.part, [needle], first, last)
        if others and len(found) > MANY_CANDIDATES:
            found &= trigrams.may_contain(connection, question.part, others, first, last)
        return found

    def _recall(self) -> None:
        """Answer what was verified before; put the rest in the order of the rows."""
        known = self._verified.known(self._question, self._pending)
        self.found.update(message_id for message_id, answer in known.items() if answer)
        self._pending = sorted(set(self._pending).difference(known, self.found), reverse=True)

    def _verify(self) -> None:
        count = FIELDS_SLICE if self._question.field else self._slice
        message_ids = self._pending[-count:]
        answers = self._field_answers(message_ids) if self._question.field else self._part_answers(message_ids)
        self._verified.learn(self._question, answers)
        self.found.update(message_id for message_id, answer in answers.items() if answer)
        self._pending[-count:] = [message_id for message_id in message_ids if message_id not in answers]

    def _field_answers(self, message_ids: list[int]) -> dict[int, bool]:
        assert self._question.field is not None
        with self._database.reading() as connection:
            rows = self._texts.field(connection, self._question.field, message_ids)
        answers = dict.fromkeys(message_ids, False)
        answers.update((message_id, self._test(text)) for message_id, text in rows)
        return answers

    def _part_answers(self, message_ids: list[int]) -> dict[int, bool]:
        """Answers from the kept texts, and for the first few messages without one from their files."""
        part, test = self._question.part, self._test
        with self._database.reading() as connection:
            rows = self._texts.packed(connection, part, message_ids)
        answers: dict[int, bool] = {}
        for message_id, text in unpack_all(rows):
            answers[message_id] = answers.get(message_id, False) or test(text)
        if rows:
            octets = sum(len(row) for _, row in rows) or 1
            self._slice = max(SLICE_MIN, min(SLICE_MAX, len(rows) * SLICE_OCTETS // octets))
        for message_id in [each for each in message_ids if each not in answers][:FILES]:
            texts = self._texts.from_file(message_id)
            parts = Part if part is None else (part,)
            answers[message_id] = texts is not None and any(test(texts[each].encode()) for each in parts)
        return answers
