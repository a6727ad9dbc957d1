"""What searches remember never shows: every answer is that of a plain look at all messages (RFC 9051 §6.4.4, RFC 5256).

Two sessions of one server search and sort while messages arrive, are copied (also beside themselves), and leave, by
them and by another process; one of the two is told late, so that its numbers are older than the view.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.searching import esearch, matching, sorting
from storage.installation import Installation
from storage.mail import answers, lookup, sought
from storage.mail.answers import Answers, Remembered, joined
from storage.mail.columns import marks
from storage.mail.sought import Sought
from storage.values import FLAGGED, SEEN, UidSet

WORDS = ("apple", "pear", "plum")
_DAY = 1_700_000_000  # 14 November 2023


class Fruit:
    """Messages by UID, as whoever put them there knows them."""

    def __init__(self, town: MailTown, rng: random.Random) -> None:
        self.town, self.rng = town, rng
        self.known: dict[int, tuple[str, int, int, bool]] = {}  # word, day, size, seen
        self.other = Installation(town.data, town.keys, town.clock)  # another process
        for name in ("bench", "cellar"):
            with town.account() as account:
                account.mailboxes.create(name)

    def change(self) -> None:
        elsewhere = self.other if self.rng.random() < 0.3 else self.town.installation
        with elsewhere.account(*self.town.accounts["alice@example.test"]) as account:
            bench, cellar = account.mailboxes.find("bench").id, account.mailboxes.find("cellar").id
            chance, uids = self.rng.random(), sorted(self.known)
            if chance < 0.15 and uids:
                gone = self.rng.sample(uids, min(len(uids), self.rng.randrange(1, 4)))
                account.messages.expunge(bench, UidSet.of(gone), only_deleted=False)
                for uid in gone:
                    del self.known[uid]
            elif chance < 0.3 and uids:
                uid = self.rng.choice(uids)
                word, day, size, seen = self.known[uid]
                account.messages.store(bench, UidSet.of([uid]), "remove" if seen else "add", SEEN)
                self.known[uid] = (word, day, size, not seen)
            elif chance < 0.4 and uids:  # an older message id behind younger ones, or one twice
                uid = self.rng.choice(uids)
                copied = account.messages.copy(bench, UidSet.of([uid]), bench)
                self.known[copied.pairs[0][1]] = self.known[uid]
            else:
                into = cellar if chance < 0.5 else bench
                word, day = self.rng.choice(WORDS), self.rng.randrange(5)
                octets = mail(f"{word} {self.rng.random()}", X_Fruit=word, body="x" * self.rng.randrange(300))
                uid = account.messages.append(into, octets, internal_date=_DAY + day * 86400).uid
                if into == bench:
                    self.known[uid] = (word, day, len(octets), False)
            while self.rng.random() < 0.4 and account.index.work():
                pass


@contextmanager
def small() -> Iterator[None]:
    """What is worth it for many messages is so for few."""
    with (
        mock.patch.object(matching, "_UNORDERED", 3),
        mock.patch.object(matching, "_MANY_COLUMNS", 2),
        mock.patch.object(sorting, "_REMEMBERED", 2),
        mock.patch.object(esearch, "_FEW", 3),
        mock.patch.object(esearch, "CHUNK", 4),
        mock.patch.object(answers, "CHUNK", 4),
        mock.patch.object(sought, "_DENSE", 2),
        mock.patch.object(answers, "_LEAST", 900),
        mock.patch.object(lookup, "FEW", 1),
    ):
        yield


def signed_in(town: MailTown) -> CoreClient:
    client = CoreClient(town.services)
    client.send(f'a LOGIN alice@example.test "{PASSWORD}"\r\nb SELECT bench\r\n'.encode())
    client.receive(0)
    return client


QUESTIONS: dict[str, Callable[[tuple[str, int, int, bool]], bool]] = {
    "SUBJECT apple": lambda each: each[0] == "apple",
    "HEADER X-Fruit plum": lambda each: each[0] == "plum",
    "HEADER Subject pear UNSEEN": lambda each: each[0] == "pear" and not each[3],
    "SINCE 16-Nov-2023": lambda each: each[1] >= 2,
    "BEFORE 16-Nov-2023 SUBJECT plum": lambda each: each[1] < 2 and each[0] == "plum",
    "NOT SEEN": lambda each: not each[3],
    "LARGER 300 NOT SUBJECT apple": lambda each: each[2] > 300 and each[0] != "apple",
    "OR SUBJECT plum SMALLER 250": lambda each: each[0] == "plum" or each[2] < 250,
    "ALL": lambda each: True,
}


@pytest.mark.parametrize("seed", range(1))
def test_answers_are_those_of_a_plain_look(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with new_mail_town(tmp_path) as town, small():
        fruit = Fruit(town, rng)
        prompt, late = signed_in(town), signed_in(town)
        for _ in range(40):
            fruit.change()
            prompt.send(b"n NOOP\r\n")
            prompt.receive(0)
            asked, fits = rng.choice(list(QUESTIONS.items()))
            for client in (prompt, late) if rng.random() < 0.4 else (prompt,):
                selected = client.session.mailbox
                visible = [uid for uid in selected.uids[: selected.told] if uid in fruit.known]
                expected = [uid for uid in visible if fits(fruit.known[uid])]
                if rng.random() < 0.3:
                    client.send(f"s UID SORT (REVERSE SIZE) UTF-8 {asked}\r\n".encode())
                    expected.sort(key=lambda uid: fruit.known[uid][2], reverse=True)
                else:
                    client.send(f"s UID SEARCH {asked}\r\n".encode())
                [told] = [line for line in client.receive(0) if line.startswith(("* SEARCH", "* SORT"))]
                assert (asked, [int(word) for word in told.split()[2:]]) == (asked, expected)
        prompt.close()
        late.close()
        fruit.other.close()


def test_memory_is_bounded_and_forgets_what_was_asked_longest_ago() -> None:
    kept = Answers(Remembered())
    for number in range(100):
        kept.put(number, 1000, array("I", range(1, 1000, 2)))
        kept.get(0)
    assert kept.get(0) is not None
    assert kept.get(99) is not None
    assert sum(kept.get(number) is not None for number in range(100)) < 10
    kept.put("all", 1000, [*range(1000)])
    assert kept.get("all") == answers.Answer(1000, range(1000))


def test_positions_are_found_by_message_ids() -> None:
    for ids in ([3, 5, 5, 9, 12, 40], [40, 3, 9, 5, 3, 12]):
        order = sorted(range(len(ids)), key=ids.__getitem__)
        for count in (6, 4):  # all of them, or all but those that came last, are ordered
            known = [at for at in order if at < count]
            if known == [*range(count)]:
                known = range(count)  # type: ignore[assignment]
            among = Sought(array("Q", ids), known)
            assert among.bounds == (3, 40)
            assert among.positions({5, 3, 7, 41}) == [at for at, each in enumerate(ids) if each in (3, 5)]
            assert among.common({5, 7, 40}) == {5, 40}
    assert joined(range(4), range(4, 9)) == range(9)
    assert list(joined(array("I", [1, 3]), range(4, 6))) == [1, 3, 4, 5]


def test_marks_of_any_bit() -> None:
    flags = array("Q", [SEEN, 1 << 40, SEEN | FLAGGED, 0])
    assert marks(flags, SEEN, present=True) == bytes([1, 0, 1, 0])
    assert marks(flags, 1 << 40, present=False) == bytes([1, 0, 1, 1])
