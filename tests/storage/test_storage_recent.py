"""Messages that were read lately: bounded, for a minute, and never longer than their account is open."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from threading import Thread

import pytest
from imap_town import MailTown, new_mail_town

from storage.errors import CleanmailError
from storage.files.recent import Recent, Shelf
from storage.installation import Installation
from storage.mail.account import Account
from storage.values import MailboxId, MessageId, UidSet

TEXT = b"Subject: one\r\n\r\nA word that is nowhere else.\r\n"
ALICE = "alice@example.test"


def test_never_more_than_the_limit_and_the_one_read_longest_ago_goes_first() -> None:
    recent = Recent(20_000)
    shelf = Shelf(recent)
    for number in range(16):
        shelf.put(str(number), b"x" * 1000, shelf.removals)
    assert recent.size == 16 * 1200
    assert shelf.get("0") == b"x" * 1000
    shelf.put("16", b"x" * 1000, shelf.removals)
    assert shelf.get("0") is not None and shelf.get("1") is None and shelf.get("16") is not None
    shelf.put("large", b"x" * 1100, shelf.removals)  # more than a sixteenth, with what it takes beside
    assert shelf.get("large") is None
    recent.limit = 0
    assert recent.size == 0 and not shelf.names
    shelf.put("0", b"", shelf.removals)
    assert recent.size == 0


def test_what_was_not_read_for_a_minute_goes() -> None:
    recent = Recent(1 << 20)
    shelf = Shelf(recent)
    recent.age(100.0)
    shelf.put("a", b"a", shelf.removals)
    shelf.put("b", b"b", shelf.removals)
    recent.age(131.0)
    recent.age(135.0)  # no turn yet
    assert shelf.get("b") == b"b"
    recent.age(162.0)
    assert shelf.get("a") is None and shelf.get("b") == b"b" and shelf.names == {"b"}
    recent.age(192.5)
    recent.age(223.0)
    assert recent.size == 0


def test_accounts_share_the_room_and_nothing_else() -> None:
    """Random puts, reads and ends of two accounts against a plain dictionary for each."""
    random, recent = Random(11), Recent(16 * 400)
    shelves = [Shelf(recent), Shelf(recent)]
    models: list[dict[str, bytes]] = [{}, {}]
    for step in range(3000):
        mine = random.randrange(2)
        shelf, model, name = shelves[mine], models[mine], str(random.randrange(40))
        match random.randrange(12):
            case 0:
                shelf.drop([name, "nobody's"])
                model.pop(name, None)
            case 1 if step % 5 == 0:
                shelf.clear()
                model.clear()
            case 2 if step % 7 == 0:
                shelf.close()
                shelf.put(name, b"late", shelf.removals)
                assert not shelf.names
                shelves[mine], models[mine] = Shelf(recent), {}
            case 3 | 4 | 5 | 6:
                if (found := shelf.get(name)) is not None:
                    assert found == model[name]
            case _:
                if name not in shelves[0].names | shelves[1].names:
                    model[name] = b"%d" % step
                    shelf.put(name, model[name], shelf.removals)
        sizes = [sum(len(models[at][each]) + 200 for each in shelves[at].names) for at in (0, 1)]
        assert recent.size == sum(sizes) <= 16 * 400


def test_what_is_read_while_messages_are_removed_is_not_kept() -> None:
    shelf = Shelf(Recent(1 << 20))
    removals = shelf.removals
    shelf.drop(["a"])
    shelf.put("a", b"read from a file that is removed", removals)
    assert shelf.get("a") is None


def test_nothing_changes_its_place_while_another_thread_looks_for_the_oldest() -> None:
    """An OrderedDict that changes between two of its steps ends an iteration with RuntimeError."""
    recent = Recent(20_000)
    shelf = Shelf(recent)
    shelf.put("a", b"a", shelf.removals)
    shelf.put("b", b"b", shelf.removals)
    reading = Thread(target=shelf.get, args=("a",))
    with recent._guard:
        oldest = iter(recent._entries)
        reading.start()
        reading.join(0.05)
        assert next(oldest) == "a"
    reading.join()
    assert list(recent._entries) == ["b", "a"]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("recent")) as town:
        town.installation.recent.limit = 1 << 20
        yield town


class Kept:
    """One message of an account that was read."""

    def __init__(self, town: MailTown, account: Account) -> None:
        self.inbox: MailboxId = account.mailboxes.find("INBOX").id
        self.account = account
        self.uid = account.messages.append(self.inbox, TEXT).uid
        [(_, message_id, self.file)] = account.messages.fetch_rows(
            self.inbox, self.uid, self.uid, ("uid", "message_id", "file")
        )
        self.message_id = MessageId(message_id)
        assert self.read() == TEXT
        assert town.installation.recent.size == len(TEXT) + 200

    def read(self) -> bytes:
        return self.account.messages.read(self.message_id, self.file)


def path_of(account: Account, file: str) -> Path:
    [path] = account.maildir.path.glob(f"*/{file}")
    return path


def test_a_message_is_opened_once_and_gone_with_its_expunge(town: MailTown) -> None:
    with town.account() as account:
        kept = Kept(town, account)
        octets = path_of(account, kept.file).read_bytes()
        path_of(account, kept.file).write_bytes(b"")
        assert kept.read() == TEXT  # from memory
        with pytest.raises(CleanmailError):
            account.messages.read_message(kept.message_id)  # who checks what is stored reads the file
        path_of(account, kept.file).write_bytes(octets)
        account.messages.expunge(kept.inbox, UidSet.of([kept.uid]), only_deleted=False)
        assert town.installation.recent.size == 0
        account.background.settle(account.account_id)  # the file goes
        with pytest.raises(CleanmailError):
            kept.read()
        assert town.installation.recent.size == 0


def test_a_message_that_another_process_expunged_is_found_by_nobody(town: MailTown) -> None:
    with town.account() as account:
        kept = Kept(town, account)
        other = Installation(town.data, town.keys, town.clock)
        with other.account(*town.accounts[ALICE]) as theirs:
            theirs.messages.expunge(kept.inbox, UidSet.of([kept.uid]), only_deleted=False)
        other.close()
        assert not account.messages.fetch_rows(kept.inbox, kept.uid, kept.uid, ("uid", "message_id", "file"))
        for _ in range(3):
            town.clock.advance(31)
            town.installation.recent.age(town.clock.monotonic())
        assert town.installation.recent.size == 0


def test_nothing_is_kept_of_an_account_that_rests(town: MailTown) -> None:
    with town.account() as account:
        Kept(town, account)
        for _ in range(2):  # the first look finds that it was used
            town.installation.rest_accounts()
        assert town.installation.recent.size == 0


def test_nothing_is_kept_of_an_account_that_ended_though_somebody_reads(town: MailTown) -> None:
    """What every process does when an account ends, before its key is destroyed."""
    owner = town.accounts["mallory@other.test"]
    with town.installation.account(*owner) as account:
        kept = Kept(town, account)
        town.installation.forget_account(*owner, patience=0)
        assert town.installation.recent.size == 0
        assert kept.read() == TEXT  # who has got its row and its key already
        assert town.installation.recent.size == 0
