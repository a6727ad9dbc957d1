"""Appending, flags, copying, removing, reading: one message at a time and in bulk."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

import pytest
from accounts import ACCOUNT, KEY, TENANT, AccountPlace

from storage.database.database import Transaction
from storage.errors import AlreadyExists, Busy, Corrupt, Gone, LimitReached, NotFound, OverQuota
from storage.keys.sealing import Key
from storage.mail.account import Account, Surroundings
from storage.mail.ledger import BLOCK
from storage.mail.messages import NewMessage
from storage.mail.quota import Limits, Usage
from storage.values import DELETED, FLAGGED, SEEN, AccountId, MailboxId, UidSet

OTHER, OTHER_KEY = AccountId(8), Key("b" * 32, b"o" * 32)
ALL = UidSet(((1, 1 << 31),))


def letter(number: int, size: int = 0) -> bytes:
    return b"From: a@example.test\r\nSubject: letter %d\r\nMessage-ID: <%d@x>\r\n\r\n" % (number, number) + b"x" * size


def filled(account: Account, mailbox_id: MailboxId, count: int) -> list[int]:
    return [
        each.uid for each in account.messages.append_many(mailbox_id, [NewMessage(letter(n)) for n in range(count)])
    ]


# Arriving


def test_what_was_appended_is_read_with_its_prefix(account: Account, inbox: MailboxId) -> None:
    data = letter(1, 100_000)
    appended = account.messages.append(inbox, data, prefix=b"Received: here\r\n", internal_date=5, flags=SEEN)
    [row] = account.messages.fetch_rows(
        inbox, 1, 1, ("uid", "message_id", "file", "size", "internal_date", "prefix", "received", "email_id")
    )
    uid, message_id, file, size, internal_date, prefix, received, email_id = row
    whole = b"Received: here\r\n" + data
    assert (uid, message_id, size, internal_date) == (1, appended.message_id, len(whole), 5)
    assert (prefix, received, email_id) == (b"Received: here\r\n", b"Received: here\r\n", f"M7-{message_id:x}")
    assert account.messages.read(message_id, file) == account.messages.read_message(message_id) == whole
    for start, end in ((0, 10), (5, 40), (16, 20), (70_000, 70_010), (len(whole) - 3, len(whole) + 10)):
        assert account.messages.read_span(message_id, file, start, end) == whole[start:end]


def test_a_message_lies_in_cur_when_append_returns(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    account.messages.append(inbox, letter(1))
    assert len(list(account.maildir.names("cur"))) == 1
    assert not [*account.maildir.names("new"), *account.maildir.names("tmp")]


def test_nothing_is_left_of_what_failed(account: Account, inbox: MailboxId) -> None:
    with pytest.raises(NotFound):
        account.messages.append(MailboxId(99), letter(1))
    account.limits = Limits(bytes=300)
    account.messages.append(inbox, letter(1, 100))
    with pytest.raises(OverQuota):
        account.messages.append_many(inbox, [NewMessage(letter(2, 10)), NewMessage(letter(3, 100))])
    account.limits = Limits(messages=1)
    with pytest.raises(OverQuota):
        account.messages.append(inbox, letter(4))
    assert account.usage().messages == 1
    assert len(list(account.maildir.names("cur"))) == 1
    assert not [*account.maildir.names("new"), *account.maildir.names("tmp")]
    assert account.mailboxes.find("INBOX").uidnext == 2


def test_a_delivery_id_is_stored_once(account: Account, inbox: MailboxId) -> None:
    account.messages.append(inbox, letter(1), delivery_id="q1")
    with pytest.raises(AlreadyExists):
        account.messages.append(inbox, letter(1), delivery_id="q1")
    assert account.messages.delivered(["q1", "q2", None]) == {"q1"}
    assert account.usage().messages == 1


def test_threads_are_found_by_references(account: Account, inbox: MailboxId) -> None:
    for headers in (
        b"Message-ID: <a@x>\r\n",
        b"Message-ID: <b@x>\r\nIn-Reply-To: <a@x>\r\n",
        b"Message-ID: <d@x>\r\nReferences: <a@x> <c@x>\r\n",
        b"Message-ID: <c@x>\r\n",
        b"Message-ID: <z@x>\r\n",
        b"",
        b"",
    ):
        account.messages.append(inbox, headers + b"Subject: x\r\n\r\n")
    threads = [row[0] for row in account.messages.fetch_rows(inbox, 1, 9, ("thread_id",))]
    assert threads[0] == threads[1] == threads[2] == threads[3]
    assert len(set(threads)) == 4


def test_threads_of_execution_share_the_account(account: Account, inbox: MailboxId) -> None:
    def append(start: int) -> None:
        for number in range(start, start + 10):
            account.messages.append(inbox, letter(number))

    workers = [Thread(target=append, args=(n * 10,)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    view = account.views.load(inbox)
    assert list(view.uids) == list(range(1, 41))
    assert account.usage().messages == 40


# Flags


def test_store_in_bulk_and_one_by_one(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 2500)
    stored = account.messages.store(inbox, ALL, "add", FLAGGED, ["work"])
    assert [uid for uid, _, _ in stored.changed] == list(range(1, 2501))
    assert len({modseq for _, _, modseq in stored.changed}) == 3  # transactions of 1,000
    assert account.messages.store(inbox, ALL, "add", FLAGGED, ["WORK"]).changed == []
    scattered = UidSet.of(range(1, 2500, 2))
    assert len(account.messages.store(inbox, scattered, "replace", SEEN).changed) == 1250
    row = account.mailboxes.find("INBOX")
    assert (row.messages, row.unseen) == (2500, 1250)
    assert account.messages.store_now(inbox, UidSet.of([1]), "remove", SEEN, ["none"]).changed[0][:2] == (1, 0)
    with pytest.raises(Busy):
        account.messages.store_now(inbox, ALL, "add", SEEN)


def test_unchanged_since_is_told_of_what_others_changed(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 3)
    before = account.mailboxes.find("INBOX").highest_modseq
    account.messages.store(inbox, UidSet.of([2]), "add", SEEN)
    stored = account.messages.store(inbox, ALL, "add", FLAGGED, unchanged_since=before)
    assert str(stored.modified) == "2"
    assert [uid for uid, _, _ in stored.changed] == [1, 3]
    assert str(account.messages.store(inbox, ALL, "add", DELETED, unchanged_since=0).modified) == "1:3"


def test_a_mailbox_has_54_keywords(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 1)
    account.messages.store(inbox, ALL, "add", 0, [f"k{n}" for n in range(54)])
    with pytest.raises(LimitReached):
        account.messages.store(inbox, ALL, "add", 0, ["one-more"])
    assert len(account.mailboxes.keywords(inbox)) == 54
    view = account.views.load(inbox)
    assert view.flags[0] == ((1 << 54) - 1) << 8


def test_keywords_keep_their_names_in_another_mailbox(account: Account, inbox: MailboxId) -> None:
    sent = account.mailboxes.find("Sent").id
    account.messages.append(sent, letter(0), keywords=["other"])
    account.messages.append(inbox, letter(1), keywords=["one", "two"])
    account.messages.copy(inbox, ALL, sent)
    view = account.views.load(sent)
    names = {view.keywords[bit] for bit in range(8, 62) if view.flags[1] >> bit & 1}
    assert names == {"one", "two"}


def test_modseqs_go_on_behind_the_block_after_a_restart_of_the_machine(place: AccountPlace, inbox: MailboxId) -> None:
    account = place.account
    filled(account, inbox, 1)
    modseq = account.messages.store(inbox, ALL, "add", SEEN).modseq
    account.close()
    assert place.open().mailboxes.find("INBOX").highest_modseq == modseq  # the same boot
    place.account.close()
    surroundings = Surroundings(place.clock, place.incarnation.name, place.background, boot="another")
    for _ in range(2):
        account = Account.open(place.root, TENANT, ACCOUNT, KEY, surroundings)
        issued = account.mailboxes.find("INBOX").highest_modseq
        account.close()
    assert modseq < issued <= modseq + BLOCK
    account = Account.open(place.root, TENANT, ACCOUNT, KEY, surroundings)
    assert account.messages.store(inbox, ALL, "remove", SEEN).modseq == issued + 1
    account.close()


def test_a_used_up_block_is_renewed(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 1)
    modseqs = [
        account.messages.store(inbox, ALL, "add" if n % 2 else "remove", SEEN).modseq for n in range(1, BLOCK + 50)
    ]
    assert modseqs == list(range(modseqs[0], modseqs[0] + len(modseqs)))


def test_store_now_gives_way_when_the_block_is_used_up(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 1)
    refused = 0
    for n in range(BLOCK + 50):
        how = "remove" if n % 2 else "add"
        try:
            account.messages.store_now(inbox, ALL if n < 0 else UidSet.of([1]), how, SEEN)
        except Busy:
            refused += 1
            account.messages.store(inbox, UidSet.of([1]), how, SEEN)
    assert refused == 1


# Between mailboxes and out


def test_copy_takes_back_what_did_not_fit(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 1500)
    sent = account.mailboxes.find("Sent").id
    account.limits = Limits(messages=2800)
    with pytest.raises(OverQuota):
        account.messages.copy(inbox, ALL, sent)
    assert account.mailboxes.find("Sent").messages == 0
    assert account.usage().messages == 1500


def test_a_message_dies_with_its_last_membership(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    sent = account.mailboxes.find("Sent").id
    appended = account.messages.append(inbox, letter(1))
    [(file,)] = account.messages.fetch_rows(inbox, 1, 1, ("file",))
    account.messages.copy(inbox, ALL, sent)
    account.messages.copy(inbox, ALL, inbox)
    account.messages.expunge(inbox, only_deleted=False)
    assert account.messages.read_message(appended.message_id) == letter(1)
    account.messages.store(sent, ALL, "add", DELETED)
    assert account.messages.expunge(sent).uids == [1]
    place.settle()
    assert not list(account.maildir.names("cur"))
    with pytest.raises(Gone):
        account.messages.read(appended.message_id, file)
    with pytest.raises(Gone):
        account.messages.read_message(appended.message_id)
    assert account.usage() == Usage(0, 0)


def test_expunge_of_many_that_stand_elsewhere_waits_for_the_disk_once(
    account: Account, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.messages.append_many(inbox, [NewMessage(b"Subject: x\r\n\r\n")] * 500, many=True)
    box = account.mailboxes.create("Box").id
    for _ in range(5):
        account.messages.copy(inbox, UidSet(((1, 500),)), box)
    view, before = account.views.load(box), account.mailboxes.by_id(box)
    works: list[str] = []  # the index, snapshots and tombstones write in the background, too
    write = account.database.write

    def counted(work: Callable[[Transaction], object], *, durable: bool = True) -> object:
        works.append(work.__qualname__)
        return write(work, durable=durable)

    monkeypatch.setattr(account.database, "write", counted)
    done = account.messages.expunge(box, UidSet(((1, 2400),)), only_deleted=False)
    after = account.mailboxes.by_id(box)
    assert (
        sum("expunge" in each for each in works) == 1
        and done.uids == list(range(1, 2401))
        and done.modseq == after.highest_modseq
    )
    assert (after.messages, after.highest_modseq) == (100, before.highest_modseq + 3)
    assert view.take_own(done.modseq) and list(view.uids) == list(range(2401, 2501))
    account.messages.expunge(box, UidSet(((2401, 2500),)), only_deleted=False)
    account.messages.expunge(inbox, UidSet(((1, 500),)), only_deleted=False)
    assert account.usage().messages == 0


def test_expunge_takes_what_is_deleted_only(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 5)
    account.messages.store(inbox, UidSet.of([2, 4]), "add", DELETED)
    assert account.messages.deleted_octets(inbox) == 2 * len(letter(1))
    assert account.messages.expunge(inbox, UidSet.of([1, 2, 3])).uids == [2]
    assert account.messages.expunge(inbox).uids == [4]
    assert account.messages.expunge(inbox).modseq == 0


def test_a_row_without_its_file_is_an_alarm(account: Account, inbox: MailboxId) -> None:
    appended = account.messages.append(inbox, letter(1))
    [name] = account.maildir.names("cur")
    account.maildir.remove(name)
    with pytest.raises(Corrupt):
        account.messages.read_message(appended.message_id)


def test_files_that_a_crash_left_in_unlink_go_when_the_account_is_opened(
    place: AccountPlace, inbox: MailboxId, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = place.account
    filled(account, inbox, 250)
    with monkeypatch.context() as patched:
        patched.setattr(place.background, "submit", lambda *_: None)  # the process ends before it comes to that
        account.messages.expunge(inbox, only_deleted=False)
    account.close()
    assert len(list(account.maildir.names("cur"))) == 250
    place.open()
    place.settle()
    assert not list(account.maildir.names("cur"))


def test_fetch_rows_gives_any_columns_by_uid(account: Account, inbox: MailboxId) -> None:
    filled(account, inbox, 5)
    columns = ("uid", "listed", "envelope", "body_structure", "parts", "subject", "size", "thread_id", "flags")
    rows = account.messages.fetch_rows(inbox, 2, 4, columns)
    assert [row[0] for row in rows] == [2, 3, 4]
    assert rows[0][1] == b"From: a@example.test\r\nSubject: letter 1\r\nMessage-ID: <1@x>\r\n"


def test_copy_to_another_account_writes_anew(place: AccountPlace, account: Account, inbox: MailboxId) -> None:
    other = Account.create(place.data / "other", TENANT, OTHER, OTHER_KEY, place.surroundings)
    target = other.mailboxes.find("Sent").id
    for number in range(60):
        account.messages.append(
            inbox, letter(number), flags=SEEN, keywords=["k"], internal_date=number, prefix=b"Received: x\r\n"
        )
    crossing = account.messages.crossing(other.messages, inbox, UidSet(((2, 60),)), target, only=-1, move=False)
    while crossing.go_on():
        pass
    copied = crossing.commit()
    assert copied.pairs == [(uid, uid - 1) for uid in range(2, 61)]
    rows = other.messages.fetch_rows(target, 1, 1, ("message_id", "internal_date"))
    assert rows[0][1] == 1
    assert other.messages.read_message(rows[0][0]) == b"Received: x\r\n" + letter(1)
    view = other.views.load(target)
    assert (view.flags[0], view.keywords) == (SEEN | 1 << 8, {8: "k"})
    assert account.usage().messages == 60
    other.limits = Limits(messages=60)
    crossing = account.messages.crossing(other.messages, inbox, ALL, target, only=-1, move=False)
    with pytest.raises(OverQuota):
        crossing.go_on()
    crossing.abandon()
    place.settle()
    other.close()


def test_a_feed_that_fails_does_not_undo_what_is_committed(place: AccountPlace, inbox: MailboxId) -> None:
    def publish(*_: object) -> None:
        raise OSError("the feed is broken")

    surroundings = Surroundings(place.clock, place.incarnation.name, place.background, publish, boot="boot")
    account = Account.open(place.root, TENANT, ACCOUNT, KEY, surroundings)
    appended = account.messages.append(inbox, letter(1))
    assert account.messages.read_message(appended.message_id) == letter(1)
    account.close()
