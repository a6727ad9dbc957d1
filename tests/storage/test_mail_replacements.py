"""REPLACE and several messages at once in storage: one commit, what views, quota and notes see, what a crash leaves.

Standards: RFC 8508 §3.4, §4.5, §4.6; RFC 3502; RFC 7162 §3.2.10.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from notes_place import NotesPlace, apple_note
from statements import Statements
from view_changes import changes_since

from storage.check import check_account
from storage.errors import Gone, NotFound, NotPermitted, OverQuota
from storage.mail.account import Account
from storage.mail.messages import NewMessage
from storage.mail.quota import Limits, Usage
from storage.sweep import Swept, sweep_account
from storage.values import DELETED, SEEN, MailboxId, UidSet

OLD, NEW = b"Subject: old\r\n\r\n" + b"x" * 100, b"Subject: new\r\n\r\n" + b"y" * 120
NOTE = "0F5CB8A7-0000-4000-8000-000000000001"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[NotesPlace]:
    place = NotesPlace(tmp_path)
    yield place
    place.close()


@pytest.fixture
def account(place: NotesPlace) -> Account:
    return place.account


@pytest.fixture
def inbox(account: Account) -> MailboxId:
    found = account.mailboxes.find("INBOX").id
    account.messages.append_many(found, [NewMessage(OLD, flags=SEEN), NewMessage(OLD)])
    return found


def texts(account: Account, mailbox_id: MailboxId) -> dict[int, bytes]:
    rows = account.messages.fetch_rows(mailbox_id, 1, 1 << 31, ("uid", "message_id", "file"))
    return {row[0]: account.messages.read(row[1], row[2]) for row in rows}


def files(place: NotesPlace) -> list[str]:
    place.settle()
    return [name for folder in ("tmp", "new", "cur") for name in place.account.maildir.names(folder)]


def test_the_new_message_stands_there_and_the_old_one_is_gone(
    place: NotesPlace, account: Account, inbox: MailboxId
) -> None:
    before = account.views.load(inbox)
    modseq = before.highest_modseq
    [ids] = account.messages.fetch_rows(inbox, 1, 1, ("message_id", "email_id"))
    appended = account.messages.replace(inbox, 1, inbox, NewMessage(NEW, flags=DELETED, keywords=["$Label1"]))
    assert texts(account, inbox) == {2: OLD, 3: NEW}
    [row] = account.messages.fetch_rows(inbox, 3, 3, ("message_id", "email_id", "flags"))
    assert row[:2] != ids and row[0] == appended.message_id and row[2] & 0xFF == DELETED
    found = account.mailboxes.find("INBOX")
    assert (found.messages, found.unseen, found.deleted, found.bytes) == (2, 2, 1, len(OLD) + len(NEW))
    assert account.usage() == Usage(len(OLD) + len(NEW), 2)
    assert before.refresh() and list(before.uids) == [2, 3]
    changes = changes_since(before, modseq)
    assert (changes.changed, changes.vanished) == ([3], [1])
    assert before.highest_modseq == appended.modseq == found.highest_modseq
    assert len(files(place)) == 2
    assert not list(check_account(account, place.incarnation, contents=True))


def test_another_process_sees_it_by_modseq(place: NotesPlace, account: Account, inbox: MailboxId) -> None:
    other = Account.open(place.root, account.tenant_id, account.account_id, account.key, place.surroundings)
    try:
        view = other.views.load(inbox)
        modseq = view.highest_modseq
        account.messages.replace(inbox, 2, inbox, NewMessage(NEW))
        view.refresh()
        changes = changes_since(view, modseq)
        assert (list(view.uids), changes.changed, changes.vanished) == ([1, 3], [3], [2])
    finally:
        other.close()


def test_into_another_mailbox(account: Account, inbox: MailboxId) -> None:
    sent = account.mailboxes.find("Sent").id
    appended = account.messages.replace(inbox, 2, sent, NewMessage(NEW))
    assert (appended.uid, texts(account, inbox), texts(account, sent)) == (1, {1: OLD}, {1: NEW})


def test_a_message_that_stands_elsewhere_too_stays_there(account: Account, inbox: MailboxId) -> None:
    archive = account.mailboxes.find("Archive").id
    account.messages.copy(inbox, UidSet.of([1]), archive)
    account.messages.replace(inbox, 1, inbox, NewMessage(NEW))
    assert texts(account, archive) == {1: OLD}


def test_nothing_changes_when_it_fails(place: NotesPlace, account: Account, inbox: MailboxId) -> None:
    before, kept = account.mailboxes.find("INBOX"), files(place)
    with pytest.raises(Gone):
        account.messages.replace(inbox, 7, inbox, NewMessage(NEW))
    with pytest.raises(NotFound):
        account.messages.replace(inbox, 1, MailboxId(99), NewMessage(NEW))
    account.ledger.limits = Limits(bytes=2 * len(OLD) + 19)
    with pytest.raises(OverQuota):
        account.messages.replace(inbox, 1, inbox, NewMessage(NEW))
    account.ledger.limits = Limits(bytes=2 * len(OLD), messages=2)
    account.messages.replace(inbox, 1, inbox, NewMessage(OLD))
    account.ledger.limits = Limits(bytes=2 * len(OLD), messages=1)  # it was lowered: any replacement is one too many
    with pytest.raises(OverQuota):
        account.messages.replace(inbox, 2, inbox, NewMessage(OLD))
    now = account.mailboxes.find("INBOX")
    assert (now.messages, now.bytes, len(files(place))) == (before.messages, before.bytes, len(kept))
    assert texts(account, inbox) == {2: OLD, 3: OLD}


def test_what_its_owner_only_reads(account: Account, inbox: MailboxId) -> None:
    kept = account.mailboxes.create("Kept", read_only=True).id
    account.messages.append_many(kept, [NewMessage(OLD)], by_server=True)
    for source, uid, target in ((kept, 1, inbox), (inbox, 1, kept)):
        with pytest.raises(NotPermitted):
            account.messages.replace(source, uid, target, NewMessage(NEW))
    assert texts(account, kept) == {1: OLD} and len(texts(account, inbox)) == 2


def test_messages_are_made_one_after_the_other(place: NotesPlace, account: Account, inbox: MailboxId) -> None:
    """The file of one is written before the next is made; what fails in between leaves none of them."""
    seen: list[int] = []

    def messages(fail: bool) -> Iterator[NewMessage]:
        for _ in range(3):
            seen.append(len(files(place)))
            yield NewMessage(NEW)
        if fail:
            raise OverQuota

    with pytest.raises(OverQuota):
        account.messages.append_many(inbox, messages(True))
    assert (seen, len(files(place)), len(texts(account, inbox))) == ([2, 3, 4], 2, 2)
    assert [each.uid for each in account.messages.append_many(inbox, messages(False), many=True)] == [3, 4, 5]


def test_a_note_that_is_replaced_is_edited(place: NotesPlace) -> None:
    """As by an append and an expunge, but for the message of the revision before, which nobody has to wait for."""
    uid = place.append(NOTE, "Shopping")
    [(stored, _)] = place.journals()
    now = place.account.messages.replace(place.mailbox, uid, place.mailbox, NewMessage(apple_note(NOTE, "Milk"))).uid
    [(after, entry)] = place.journals()
    assert (after.name, entry.said.title) == (stored.name, "Milk")
    assert [each[0] for each in place.messages()] == [now]
    place.settle()
    place.account.messages.replace(place.mailbox, now, place.account.mailboxes.find("Trash").id, NewMessage(NEW))
    assert not place.journals() and not place.messages()


def test_what_it_costs(account: Account, inbox: MailboxId, place: NotesPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more statements than an append and an expunge; each further message of a command costs its rows alone."""
    messages = account.messages
    messages.append(inbox, NEW)
    place.settle()
    place.background.close()
    statements = Statements(monkeypatch)
    appended = statements.of(lambda: messages.append(inbox, NEW))
    expunged = statements.of(lambda: messages.expunge(inbox, UidSet.of([2]), only_deleted=False))
    assert statements.of(lambda: messages.replace(inbox, 1, inbox, NewMessage(NEW))) <= appended + expunged
    account.completion.ensure()
    two, three = (statements.of(lambda n=n: messages.append_many(inbox, [NewMessage(NEW)] * n)) for n in (2, 3))  # type: ignore[misc]
    assert appended + three == 2 * two < 4 * appended


CRASH = """
    import os, signal, sys
    sys.path[:] = {path!r}
    from pathlib import Path
    from accounts import AccountPlace
    from storage.mail.messages import NewMessage
    account = AccountPlace(Path({data!r}), new=False).account
    inbox = account.mailboxes.find("INBOX").id
    class Dying:
        def __init__(self, database):
            self.database = database
        def __getattr__(self, name):
            return getattr(self.database, name)
        def write(self, work, *, durable=True):
            if not durable:  # numbers of messages
                return self.database.write(work, durable=False)
            def dying(transaction):
                done = work(transaction)
                transaction.{when}(lambda: os.kill(os.getpid(), signal.SIGKILL))
                return done
            return self.database.write(dying)
    account.ledger.database = Dying(account.ledger.database)
    account.messages.{what}
"""
SEVERAL = "append_many(inbox, [NewMessage({new!r})] * 3)"
REPLACE = "replace(inbox, 1, inbox, NewMessage({new!r}))"


@pytest.mark.parametrize(
    ("what", "when", "expected", "swept"),
    [
        (SEVERAL, "before_commit", {1: OLD, 2: OLD}, Swept(new=3)),
        (REPLACE, "before_commit", {1: OLD, 2: OLD}, Swept(new=1)),
        (REPLACE, "after_commit", {2: OLD, 3: NEW}, Swept(settled=1)),
    ],
)
def test_killed(
    place: NotesPlace, inbox: MailboxId, what: str, when: str, expected: dict[int, bytes], swept: Swept
) -> None:
    """All of several messages or none; the old message or the new one, and no file too many once it is swept."""
    place.account.close()
    script = textwrap.dedent(CRASH).format(path=sys.path, data=str(place.data), when=when, what=what.format(new=NEW))
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr.decode()
    account = place.open()
    assert texts(account, inbox) == expected
    place.settle()
    assert sweep_account(account, place.incarnation) == swept
    assert len(files(place)) == 2
    assert not list(check_account(account, place.incarnation, contents=True))
