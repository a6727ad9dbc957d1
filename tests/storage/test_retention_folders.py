"""Messages leave a folder after as many days as its owner, or the installation, chose; sessions and quota know."""

from __future__ import annotations

from accounts import AccountPlace

from storage.mail.account import Account
from storage.mail.outcomes import NewMessage
from storage.register.folder_rules import NEVER, NO_RULES, UNSET, FolderRules
from storage.retention.folders import remove_from_folders
from storage.values import UID_MAX, UidSet

DAY = 86_400
RULES = FolderRules.parse(["Trash=30", "Junk=7"])


def fill(account: Account, name: str, count: int = 1) -> None:
    mailbox = account.mailboxes.find(name)
    account.messages.append_many(mailbox.id, [NewMessage(b"Subject: %d\r\n\r\n" % number) for number in range(count)])


def uids(account: Account, name: str) -> list[int]:
    mailbox = account.mailboxes.find(name)
    return [row[0] for row in account.messages.fetch_rows(mailbox.id, 1, UID_MAX, ("uid",))]


def test_nothing_leaves_without_a_rule(place: AccountPlace, account: Account) -> None:
    fill(account, "Trash")
    assert remove_from_folders(account, NO_RULES, place.clock.now() + 10_000 * DAY) == 0
    assert uids(account, "Trash") == [1]


def test_its_owner_decides_and_else_the_installation(place: AccountPlace, account: Account) -> None:
    for name in ("INBOX", "Trash", "Junk", "Sent"):
        fill(account, name)
    account.mailboxes.keep("Junk", NEVER)
    account.mailboxes.keep("Sent", 2)
    now = place.clock.now()
    assert remove_from_folders(account, RULES, now + 2 * DAY) == 0  # not yet older
    assert remove_from_folders(account, RULES, now + 2 * DAY + 1) == 1 and uids(account, "Sent") == []
    assert remove_from_folders(account, RULES, now + 30 * DAY + 1) == 1 and uids(account, "Trash") == []
    assert remove_from_folders(account, RULES, now + 9999 * DAY) == 0
    assert uids(account, "INBOX") == uids(account, "Junk") == [1]
    account.mailboxes.keep("Junk", UNSET)
    assert remove_from_folders(account, RULES, now + 9999 * DAY) == 1
    account.mailboxes.keep("INBOX", 1)  # its owner may
    assert remove_from_folders(account, RULES, now + 9999 * DAY) == 1


def test_what_counts_is_when_it_came_to_the_folder(place: AccountPlace, account: Account) -> None:
    fill(account, "INBOX")
    place.clock.advance(29 * DAY)
    account.messages.move(account.mailboxes.find("INBOX").id, UidSet.of([1]), account.mailboxes.find("Trash").id)
    assert remove_from_folders(account, RULES, place.clock.now() + 2 * DAY) == 0
    place.clock.advance(31 * DAY)
    fill(account, "Trash")
    assert remove_from_folders(account, RULES, place.clock.now()) == 1
    assert uids(account, "Trash") == [2]


def test_clients_are_told_and_the_quota_is_given_back(place: AccountPlace, account: Account) -> None:
    fill(account, "Trash", 3)
    before = account.mailboxes.find("Trash")
    place.clock.advance(31 * DAY)
    assert remove_from_folders(account, RULES, place.clock.now()) == 3
    after = account.mailboxes.find("Trash")
    assert after.highest_modseq > before.highest_modseq and after.messages == after.unseen == after.bytes == 0
    assert account.usage().messages == account.usage().bytes == 0
    with account.database.reading() as connection:
        [(tombstones,)] = connection.driver.execute("SELECT count(*) FROM expunged").fetchall()
    assert tombstones == 3
    place.settle()
    assert not list((place.root / "Maildir").rglob("cur/*"))


def test_many_leave_in_slices_and_a_stop_is_heard(place: AccountPlace, account: Account) -> None:
    fill(account, "Junk", 11)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    later = place.clock.now() + 8 * DAY
    assert remove_from_folders(account, RULES, later, stopping, most=4) == 4
    assert remove_from_folders(account, RULES, later, most=4) == 7
    assert remove_from_folders(account, RULES, later) == 0
