"""Random edits on both faces against a simple model: the same notes on both sides, nothing lost, no revision apart."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from notes_place import NotesPlace, journal

from storage.collections.conditions import PreconditionFailed
from storage.collections.names import checked_name
from storage.notes.notes import GRACE
from storage.values import UidSet

TITLES = st.sampled_from(["Shopping", "Trip", "Ünïcode"])
IDS = tuple(f"0F5CB8A7-0000-4000-8000-00000000000{number}" for number in range(4))


def plain(text: str) -> str:
    """What was written, of a conflict too."""
    return text.partition(" (conflict)\n")[2] or text


class Faces(RuleBasedStateMachine):
    """`written` holds each text that somebody has written and nobody has knowingly replaced or removed.

    A telephone is a client that has seen a revision: it appends what it made of that and expunges what it has seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self.place = NotesPlace(Path(self._folder.name))
        self.number = 0
        self.written: Counter[str] = Counter()

    phones = Bundle("phones")  # (identifier, UID seen, text seen)
    readers = Bundle("readers")  # (name, ETag seen, text seen)

    def text(self, title: str) -> str:
        self.number += 1
        return f"{title}\nedit {self.number}."

    def there(self) -> dict[str, tuple[int, str]]:
        """By identifier: the UID of the note's message, and what it says."""
        return {note.identifier: (uid, note.said.whole) for uid, note in self.place.messages()}

    # Over IMAP

    @rule(identifier=st.sampled_from(IDS), title=TITLES)
    def a_telephone_makes_a_note(self, identifier: str, title: str) -> None:
        if identifier in self.there():
            return
        text = self.text(title)
        self.place.append(identifier, text)
        self.written[text] += 1

    @rule(target=phones, which=st.integers(0, 9))
    def a_telephone_looks(self, which: int) -> object:
        notes = sorted(self.there().items())
        if not notes:
            return multiple()
        identifier, (uid, text) = notes[which % len(notes)]
        return identifier, uid, text

    @rule(phone=consumes(phones), title=TITLES, first=st.booleans())
    def a_telephone_edits_what_it_saw(self, phone: tuple[str, int, str], title: str, first: bool) -> None:
        identifier, uid, seen = phone
        was_there = any(uid == each for each, _ in self.place.messages())
        text = self.text(title)
        if first:
            self.place.expunge(uid)
        self.place.append(identifier, text)
        if not first:
            self.place.expunge(uid)
        self.written[text] += 1
        if was_there:
            self.written[plain(seen)] -= 1

    @rule(phone=consumes(phones))
    def a_telephone_deletes_what_it_saw(self, phone: tuple[str, int, str]) -> None:
        _, uid, seen = phone
        if any(uid == each for each, _ in self.place.messages()):
            self.written[plain(seen)] -= 1
        self.place.expunge(uid)

    @rule(phone=consumes(phones))
    def a_telephone_moves_it_away_and_back(self, phone: tuple[str, int, str]) -> None:
        uid = UidSet.of([phone[1]])
        trash = self.place.account.mailboxes.find("Trash").id
        moved = self.place.account.messages.move(self.place.mailbox, uid, trash)
        for _, there in moved.pairs:
            self.place.account.messages.move(trash, UidSet.of([there]), self.place.mailbox)

    # Over CalDAV

    @rule(target=readers, which=st.integers(0, 9))
    def a_calendar_client_looks(self, which: int) -> object:
        journals = sorted(self.place.journals(), key=lambda each: each[0].name)
        if not journals:
            return multiple()
        stored, read = journals[which % len(journals)]
        return stored.name, stored.etag, read.said.whole

    @rule(identifier=st.sampled_from(IDS), title=TITLES)
    def a_calendar_client_makes_a_note(self, identifier: str, title: str) -> None:
        if any(stored.uid == identifier for stored, _ in self.place.journals()):
            return
        text = self.text(title)
        heading, _, rest = text.partition("\n")
        self.place.put(checked_name(f"{identifier}-{self.number}.ics"), journal(identifier, heading, rest))
        self.written[text] += 1

    @rule(reader=consumes(readers), title=TITLES)
    def a_calendar_client_edits_what_it_saw(self, reader: tuple[str, str, str], title: str) -> None:
        name, etag, seen = reader
        text = self.text(title)
        heading, _, rest = text.partition("\n")
        there = {stored.name: stored for stored, _ in self.place.journals()}
        uid = there[name].uid if name in there else "gone"
        try:
            self.place.put(name, journal(str(uid), heading, rest), if_match=etag)
        except PreconditionFailed:
            assert name not in there or there[name].etag != etag
            return
        self.written[text] += 1
        self.written[plain(seen)] -= 1

    @rule(reader=consumes(readers))
    def a_calendar_client_deletes_what_it_saw(self, reader: tuple[str, str, str]) -> None:
        name, etag, seen = reader
        try:
            self.place.account.objects.delete(self.place.collection.id, name, if_match=(etag,))
        except PreconditionFailed:
            return
        self.written[plain(seen)] -= 1

    # Time, and other processes

    @rule(seconds=st.sampled_from([1, GRACE // 2, GRACE + 1]))
    def time_passes(self, seconds: int) -> None:
        self.place.clock.advance(seconds)
        self.place.account.note_settling.settle()

    @rule()
    def it_is_opened_again(self) -> None:
        self.place.account.close()
        self.place.open()
        self.place.settle()

    @initialize()
    def begin(self) -> None:
        self.place.append(IDS[0], "Shopping")
        self.written["Shopping"] += 1

    @invariant()
    def the_faces_agree(self) -> None:
        assert not list(self.place.account.note_settling.disagreements())
        journals = {each.said.whole for _, each in self.place.journals()}
        assert journals <= {text for _, text in self.there().values()} | {
            n.said.whole for _, n in self.place.messages()
        }

    def teardown(self) -> None:
        self.place.pass_grace()
        texts = Counter(plain(text) for text in self.place.texts())
        lost = {text for text, count in self.written.items() if count > 0} - texts.keys()
        assert not lost, (lost, texts)
        again = {text for text, count in self.written.items() if count <= 0} & texts.keys()
        assert not again, (again, texts)
        self.place.close()
        self._folder.cleanup()


TestFaces = Faces.TestCase
TestFaces.settings = settings(
    max_examples=10, stateful_step_count=12, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
