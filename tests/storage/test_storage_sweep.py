"""The sweep removes what the dead left, and nothing of the living."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import ACCOUNT, KEY, AccountPlace

from storage.files.incarnation import Incarnation
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.sweep import Swept, sweep_account
from storage.values import MessageId

MAIL = b"Subject: x\r\n\r\nbody\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


def write(maildir: Maildir, incarnation: Incarnation, number: int, *, link: bool) -> str:
    """A message file as far as a writer came before its rows."""
    name = maildir.new_name(incarnation.name)
    maildir.write(name, KEY, FileMeta(ACCOUNT, MessageId(number), 1), MAIL)
    if link:
        maildir.link(name)
    return name


def names(place: AccountPlace) -> dict[str, set[str]]:
    return {folder: set(place.account.maildir.names(folder)) for folder in ("tmp", "new", "cur")}


def test_files_of_a_dead_writer_go_and_those_of_living_ones_stay(place: AccountPlace) -> None:
    dead, living = Incarnation(place.data), Incarnation(place.data)
    maildir = place.account.maildir
    for number, incarnation in enumerate((dead, living, place.incarnation)):
        for link in (False, True):
            write(maildir, incarnation, 100 + number, link=link)
    assert sweep_account(place.account, place.incarnation) == Swept()
    dead.close()
    assert sweep_account(place.account, place.incarnation) == Swept(tmp=1, new=1)
    assert sweep_account(place.account, place.incarnation) == Swept()
    left = names(place)
    assert [len(left[folder]) for folder in ("tmp", "new", "cur")] == [2, 2, 0]
    assert not any(name.endswith(dead.name) for folder in left.values() for name in folder)
    living.close()


def test_a_file_whose_row_was_committed_is_settled(place: AccountPlace) -> None:
    inbox = place.account.mailboxes.find("INBOX")
    place.account.messages.append(inbox.id, MAIL)
    (name,) = names(place)["cur"]
    folder = place.account.maildir.path
    (folder / "cur" / name).rename(folder / "new" / name)  # killed between the commit and the rename
    writer = place.incarnation
    place.incarnation = Incarnation(place.data)
    assert sweep_account(place.account, place.incarnation) == Swept()  # its writer lives: it will do that itself
    writer.close()
    assert sweep_account(place.account, place.incarnation) == Swept(settled=1)
    assert names(place) == {"tmp": set(), "new": set(), "cur": {name}}


def test_files_that_no_row_names_any_more_go_whoever_wrote_them(place: AccountPlace) -> None:
    inbox = place.account.mailboxes.find("INBOX")
    for _ in range(3):
        place.account.messages.append(inbox.id, MAIL)
    place.background.close()  # nobody removes files meanwhile
    place.account.messages.expunge(inbox.id, None, only_deleted=False)
    assert len(names(place)["cur"]) == 3
    assert sweep_account(place.account, place.incarnation) == Swept(unlinked=3)
    assert names(place)["cur"] == set()
    assert sweep_account(place.account, place.incarnation) == Swept()


def test_a_file_in_cur_without_a_row_is_left_alone(place: AccountPlace) -> None:
    gone = Incarnation(place.data)
    name = write(place.account.maildir, gone, 100, link=True)
    place.account.maildir.settle(name)
    gone.close()
    assert sweep_account(place.account, place.incarnation) == Swept()
    assert names(place)["cur"] == {name}
