"""What is written down of changed flags, and who is brought up to date by it (RFC 7162 §3.1)."""

from __future__ import annotations

import random

import pytest
from accounts import AccountPlace

from storage.mail import flag_changes, view_rows
from storage.mail import view as views
from storage.mail.account import Account
from storage.mail.flag_changes import LONGEST, FlagChanges
from storage.mail.messages import NewMessage
from storage.mail.view import MailboxView
from storage.mail.view_rows import FarBehind, ViewRows
from storage.values import DELETED, FLAGGED, SEEN, MailboxId, UidSet

FLAGS = (SEEN, FLAGGED, DELETED)


def fill(account: Account, mailbox_id: MailboxId, count: int) -> None:
    account.messages.append_many(mailbox_id, [NewMessage(b"Subject: %d\r\n\r\n" % n) for n in range(count)], many=True)


def ask(account: Account, query: str) -> list[tuple[object, ...]]:
    with account.database.reading() as connection:
        rows: list[tuple[object, ...]] = connection.driver.execute(query).fetchall()
    return rows


def says_what_the_rows_say(view: MailboxView, account: Account) -> bool:
    rows = ask(account, f"SELECT uid, flags, modseq FROM membership WHERE mailbox_id = {view.mailbox_id} ORDER BY uid")
    return list(zip(view.uids, view.flags, view.modseqs, strict=True)) == rows


def test_a_view_comes_up_to_date_whatever_another_process_did(
    place: AccountPlace, account: Account, inbox: MailboxId
) -> None:
    chance = random.Random(7)
    fill(account, inbox, 700)
    view, other = account.views.load(inbox), place.open()
    place.settle()
    for turn in range(240):
        uid, flag = chance.randrange(1, 700), chance.choice(FLAGS)
        how = chance.choice(("add", "remove"))
        match turn % 12:
            case 3:
                other.messages.store(inbox, UidSet(((uid, uid + chance.choice((5, 300))),)), how, flag)
            case 5:
                other.messages.store(inbox, UidSet.of(chance.sample(range(1, 700), 150)), how, flag)
            case 7:
                fill(other, inbox, 1)
            case 9:
                other.messages.expunge(inbox, UidSet.of([uid]), only_deleted=False)
            case _:
                other.messages.store(inbox, UidSet.of([uid]), how, flag)
        if chance.random() < 0.2:
            view.refresh()
            assert says_what_the_rows_say(view, account)
    kept = ask(account, f"SELECT changes FROM flag_change WHERE mailbox_id = {inbox}")
    assert len(kept) > 10 and sum(len(str(row[0])) for row in kept) > LONGEST * 10
    account.close()
    cold = other.views.load(inbox)  # by the snapshot of the beginning
    assert says_what_the_rows_say(cold, other)


def test_the_mailboxs_own_row_stays_short(account: Account, inbox: MailboxId) -> None:
    fill(account, inbox, 300)
    for turn in range(90):
        account.messages.store(inbox, UidSet.of([turn + 1]), "add", SEEN)
        if turn % 7 == 0:
            account.messages.store(inbox, UidSet.of(range(1, 300, 2)), "remove" if turn % 2 else "add", FLAGGED)
        [(length,)] = ask(account, "SELECT max(length(flag_changes)) FROM mailbox")
        assert isinstance(length, int) and length <= LONGEST


def test_what_is_forgotten_is_compared_and_read_by_a_worker(
    place: AccountPlace, account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(account, inbox, 600)
    view, other = account.views.load(inbox), place.open()
    view.save_snapshot()
    place.settle()
    for turn in range(120):
        other.messages.store(inbox, UidSet.of([turn + 1]), "add", FLAGGED)
    other.database.write(lambda transaction: FlagChanges(other.account_id).forget_old(transaction, inbox, kept=0))
    assert ask(account, "SELECT count(*) FROM flag_change") == [(0,)]
    assert ask(account, "SELECT count(*) FROM snapshot") == [(0,)]
    [(horizon,)] = ask(account, f"SELECT flag_horizon FROM mailbox WHERE mailbox_id = {inbox}")
    assert isinstance(horizon, int) and view.highest_modseq < horizon
    fill(other, inbox, 1)
    with monkeypatch.context() as patched:
        patched.setattr(views, "_FAR", 10_000)  # it is not for their number
        with pytest.raises(FarBehind):
            view.refresh(patient=True)
    view.prepare_changes()
    other.messages.store(inbox, UidSet.of([600]), "add", SEEN)  # after it was read
    with monkeypatch.context() as patched:
        patched.delattr(ViewRows, "everything")  # the event loop reads no mailbox whole
        assert view.refresh() and says_what_the_rows_say(view, account)
    account.close()
    assert says_what_the_rows_say(other.views.load(inbox), other)


def test_old_rows_are_forgotten_by_themselves(
    account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flag_changes.FlagChanges.forget_old, "__defaults__", (3,))
    monkeypatch.setattr(flag_changes, "_LOOK_AFTER", 2)
    fill(account, inbox, 300)
    for turn in range(20):
        account.messages.store(inbox, UidSet.of(range(1, 300, 2)), "remove" if turn % 2 else "add", FLAGGED)
    [(rows,)] = ask(account, "SELECT count(*) FROM flag_change")
    assert rows in (3, 4, 5)


def test_long_rows_are_forgotten_sooner(
    place: AccountPlace, account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flag_changes, "KEPT_TEXT", 2000)
    monkeypatch.setattr(flag_changes, "_LOOK_AFTER", 1)
    fill(account, inbox, 300)
    view, other = account.views.load(inbox), place.open()
    for turn in range(8):
        other.messages.store(inbox, UidSet.of(range(1, 300, 2)), "remove" if turn % 2 else "add", FLAGGED)
        [(length,)] = ask(account, "SELECT sum(length(changes)) FROM flag_change")
        assert isinstance(length, int) and 0 < length <= 2000
    [(horizon,)] = ask(account, f"SELECT flag_horizon FROM mailbox WHERE mailbox_id = {inbox}")
    assert isinstance(horizon, int) and horizon > view.highest_modseq
    assert view.refresh() and says_what_the_rows_say(view, account)
    account.close()


def test_what_is_written_down_again_and_again_is_read_once(
    account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(account, inbox, 300)
    before = account.mailboxes.by_id(inbox).highest_modseq
    for turn in range(10):
        account.messages.store(inbox, UidSet.of(range(1, 300, 2)), "remove" if turn % 2 else "add", FLAGGED)
    read: list[str] = []
    looked_at = flag_changes._range

    def noted(written: str) -> tuple[int, int]:
        read.append(written)
        return looked_at(written)

    monkeypatch.setattr(flag_changes, "_range", noted)
    changes = FlagChanges(account.account_id)
    with account.database.reading() as connection:
        assert list(changes.since(connection, inbox, before, "")) == list(range(1, 300, 2))
        assert len(read) == 150
        assert not changes.are_few(connection, inbox, before, "7=1;" * 3000, 200)
        assert len(read) == 150  # that is told by its length


def test_nothing_stays_of_a_mailbox_that_is_deleted(place: AccountPlace, account: Account) -> None:
    mailbox_id = account.mailboxes.create("Work").id
    fill(account, mailbox_id, 300)
    account.messages.store(mailbox_id, UidSet.of(range(1, 300, 2)), "add", SEEN)
    assert ask(account, "SELECT count(*) FROM flag_change") == [(1,)]
    account.mailboxes.delete("Work")
    place.settle()
    assert ask(account, "SELECT count(*) FROM flag_change") == [(0,)]


def test_bringing_a_view_up_to_date_reads_what_changed_only(account: Account, inbox: MailboxId) -> None:
    asked = {view_rows._in_list: (7, inbox, "[5]"), view_rows._in_range: (7, inbox, 5, 9)}
    for statement, values in asked.items():
        with account.database.reading() as connection:
            plan = connection.driver.execute("EXPLAIN QUERY PLAN " + statement.sql, values).fetchall()
        assert "PRIMARY KEY (account_id=? AND mailbox_id=? AND uid" in plan[0][3]
        assert not any("TEMP B-TREE" in step[3] for step in plan)
