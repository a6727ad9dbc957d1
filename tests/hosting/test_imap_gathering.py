"""THREAD and SORT by subject say the same of columns of the search index as of messages' own rows (RFC 5256 §3)."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.searching.gathering import Gathered
from hosting.imap.searching.threads import Threads
from storage.mail.messages import NewMessage

KEYS = ("ALL", "2:9,13,20:39", "SEEN")
COUNT = 48


@pytest.fixture
def town(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MailTown]:
    """Spans of 8 messages; threads go across them."""
    for module in ("storage.mail.field_columns", "storage.mail.search_index", "hosting.imap.searching.gathering"):
        monkeypatch.setattr(f"{module}.SHIFT", 3)
    for name, value in (("field_columns.SPAN", 8), ("field_columns.LEAST", 6), ("search_index._LATE", 0)):
        monkeypatch.setattr(f"storage.mail.{name}", value)
    for name, value in (("gathering.SPAN", 8), ("gathering._WORTH", 3), ("gathering._ROWS", 5), ("sorting._MANY", 12)):
        monkeypatch.setattr(f"hosting.imap.searching.{name}", value)
    random = Random(7)
    with new_mail_town(tmp_path) as town, town.account() as account:
        inbox = account.mailboxes.find("INBOX").id
        messages = []
        for number in range(COUNT):
            of = random.randrange(number + 1)
            fields = {
                "Message_ID": f"<m{number % 40}@x>",
                "Date": f"Sun, {random.randint(1, 28)} Nov 2026 10:46:34 +0000",
            }
            if of % 3:
                fields["References"] = " ".join(f"<m{random.randrange(50)}@x>" for _ in range(of % 4))
            subject = f"{random.choice(('', 'Re: '))}{random.choice(('one', 'two', 'three', ''))}"
            messages.append(NewMessage(mail(subject, **fields), flags=number % 2))
        account.messages.append_many(inbox, messages)
        while account.index.work():
            pass
        assert len(account.index.columns.threaded()) == COUNT // 8
        yield town


def answers(town: MailTown, command: str) -> list[str]:
    """To a client of a server that remembers nothing."""
    with town.account() as account:
        account.views.forget_answers()
    client = CoreClient(replace(town.services, threads=Threads()))
    client.send(f'a LOGIN alice@example.test "{PASSWORD}"\r\nb SELECT INBOX\r\n'.encode())
    client.receive(0)
    texts = []
    for key in KEYS:
        client.send(f"c UID {command} UTF-8 {key}\r\n".encode())
        [text, ending] = client.receive(2)
        assert ending.startswith("c OK ")
        texts.append(text)
    client.close()
    return texts


@pytest.mark.parametrize("command", ["THREAD REFERENCES", "THREAD REFS", "THREAD ORDEREDSUBJECT", "SORT (SUBJECT)"])
def test_columns_and_rows_say_the_same(town: MailTown, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_columns = answers(town, command)
    with town.account() as account:
        account.database.write(lambda transaction: account.index.columns.forget(transaction, range(1000)))
        assert not account.index.columns.threaded()
    assert with_columns == answers(town, command)
    if command.startswith("SORT"):
        monkeypatch.setattr("hosting.imap.searching.sorting._MANY", 1000)  # by the texts themselves
        assert with_columns == answers(town, command)
    assert [len(text) > 30 for text in with_columns] == [True] * len(KEYS)


def test_places_of_subjects_are_told_by_position_and_nothing_else_is_kept(town: MailTown) -> None:
    with town.account() as account:
        gathered = Gathered(array("Q", range(1, COUNT + 1)), account.index.columns, only_subjects=True)
        for span in gathered.begin():
            gathered.take_span(span)
        gathered.take_rows(0)
        everywhere = range(0, 2 * COUNT, 2)
        placed = gathered.subjects(everywhere, 2 * COUNT)
        subjects = [row[3] for row in sorted(account.index.columns.thread_rows(range(1, COUNT + 1)))]
    known = sorted(set(subjects) | {""})
    assert [known[rank] for rank in placed[::2]] == subjects
    assert not any(placed[1::2])
    assert not any((gathered._numbers, gathered._subject_numbers, gathered._subjects, gathered._ids))
