"""Moving in from Debian's Dovecot: everything comes once, and later what is new; what changed here stays."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from accounts import AccountPlace
from dovecot import MASTER, MASTER_PASSWORD, PASSWORD, Dovecot, letter, missing
from other_server import held
from whole_server import until

from hosting.migration.account import migrate
from hosting.migration.folders import Choice
from hosting.migration.report import FolderReport, Report
from hosting.migration.run import Orders
from hosting.migration.source import Login, Source
from storage.errors import AuthenticationFailed, InvalidInput
from storage.values import FLAGGED, SEEN, UidSet

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

MESSAGES = 300


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with Dovecot(f"u{number}" for number in range(20)) as dovecot:
        yield dovecot


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


class Move:
    def __init__(self, place: AccountPlace, dovecot: Dovecot, user: str) -> None:
        self.place = place
        self.dovecot = dovecot
        self.user = user
        self.source = Source("localhost", dovecot.tls, ca=dovecot.certificate)
        self.waited: list[float] = []

    def __call__(self, login: Login | None = None, source: Source | None = None, **orders: Any) -> Report:
        return migrate(
            self.place.account,
            source or self.source,
            login or Login(self.user, lambda: PASSWORD),
            Orders(**orders),
            run=self.place.data / "run",
            wait=self.waited.append,
        )

    def flags(self, mailbox: str = "INBOX") -> dict[int, tuple[int, frozenset[str]]]:
        found = self.place.account.mailboxes.find(mailbox)
        names = self.place.account.mailboxes.keywords(found.id)
        rows = self.place.account.messages.fetch_rows(found.id, 1, 1 << 32, ("uid", "flags"))
        return {uid: (f & 31, frozenset(word for bit, word in names.items() if f >> bit & 1)) for uid, f in rows}


def by_name(report: Report) -> dict[str, FolderReport]:
    return {each.folder: each for each in report.folders}


@pytest.fixture
def move(place: AccountPlace, dovecot: Dovecot, request: pytest.FixtureRequest) -> Move:
    number = getattr(dovecot, "users_given", 0)
    dovecot.users_given = number + 1  # type: ignore[attr-defined]
    return Move(place, dovecot, f"u{number}")


def test_all_of_it_moves_and_then_what_is_new(move: Move) -> None:
    dovecot, user = move.dovecot, move.user
    messages = [letter(number, 2000) for number in range(MESSAGES)]
    large = letter(9999, 9_000_000)
    dovecot.fill(user, messages)
    with dovecot.client(user) as client:
        for name in ("Papierkorb", "Arbeit.Größe & Maß", "Sent", "Leer"):
            client.create_folder(name)
        client.subscribe_folder("Arbeit.Größe & Maß")
        client.append("Papierkorb", letter(1), flags=(b"\\Seen", b"\\Flagged", b"$Label1"))
        client.append("Arbeit.Größe & Maß", large)

    report = move()
    assert report.is_complete and report.connections == 1, report.values()
    folders = by_name(report)
    assert (folders["INBOX"].there, folders["INBOX"].here, folders["INBOX"].missing) == (MESSAGES, MESSAGES, 0)
    assert (folders["Papierkorb"].mailbox, folders["Sent"].mailbox) == ("Trash", "Sent")
    assert folders["Arbeit.Größe & Maß"].mailbox == "Arbeit/Größe & Maß"
    assert held(move.place.account) == messages
    assert held(move.place.account, "Arbeit/Größe & Maß") == [large]
    assert list(move.flags("Trash").values()) == [(SEEN | FLAGGED, frozenset({"$Label1"}))]
    inbox = move.place.account.mailboxes.find("INBOX")
    rows = move.place.account.messages.fetch_rows(inbox.id, 1, 1 << 32, ("uid", "internal_date", "flags"))
    assert [(date, flags & SEEN) for _, date, flags in rows] == [
        (1_700_000_000 + number, number % 2) for number in range(MESSAGES)
    ]
    assert {"Arbeit/Größe & Maß"} <= move.place.account.mailboxes.subscriptions()
    assert "Leer" not in move.place.account.mailboxes.subscriptions()

    # Nothing new, then something: here the owner has been at work too.
    assert move().total("pulled") == 0
    account = move.place.account
    uids = [uid for uid, _, _ in rows]
    account.messages.store(inbox.id, UidSet.of(uids[:2]), "add", FLAGGED, ["mine"])
    account.messages.store(inbox.id, UidSet.of([uids[3]]), "remove", SEEN)
    account.messages.expunge(inbox.id, UidSet.of([uids[4]]), only_deleted=False)
    account.messages.move(inbox.id, UidSet.of([uids[5]]), account.mailboxes.find("Archive").id)
    with dovecot.client(user) as client:
        client.select_folder("INBOX")
        there = client.search()
        client.add_flags(there[0], [b"\\Answered", b"theirs"])
        client.remove_flags(there[1], [b"\\Seen"])
        client.delete_messages(there[6])
        client.expunge()
        client.append("INBOX", letter(1000))
    report = move()
    folder = by_name(report)["INBOX"]
    assert (folder.pulled, folder.flags, folder.gone, folder.deleted, folder.removed_here) == (1, 2, 1, 0, 2)
    assert (folder.there, folder.here, folder.missing, report.is_complete) == (MESSAGES, MESSAGES - 2, 0, True)
    flags = move.flags()
    assert flags[uids[0]] == (FLAGGED | 2, frozenset({"mine", "theirs"}))
    assert flags[uids[1]] == (FLAGGED, frozenset({"mine"}))
    assert flags[uids[3]] == (0, frozenset())

    # What is gone there goes here only if that is asked for; then the move ends.
    report = move(delete_gone=True, is_final=True)
    assert (report.total("deleted"), report.is_final) == (1, True)
    assert uids[6] not in move.flags() and len(move.flags()) == MESSAGES - 2


def test_other_numbers_another_name_and_another_way_in(move: Move) -> None:
    dovecot, user = move.dovecot, move.user
    messages = [letter(number) for number in range(40)]
    dovecot.fill(user, messages)
    dovecot.fill(user, messages[:10], name="Old")
    with dovecot.client(user):
        pass
    plain = Source("localhost", dovecot.port, tls=False, ca=dovecot.certificate)  # STARTTLS
    boss = Login(user, lambda: MASTER_PASSWORD, master=MASTER)
    assert move(boss, plain).is_complete
    account = move.place.account
    gone = held(account)[7]
    inbox = account.mailboxes.find("INBOX").id
    account.messages.expunge(inbox, UidSet.of([8]), only_deleted=False)

    with dovecot.client(user) as client:
        client.select_folder("INBOX")
        client.add_flags(client.search()[0], [b"\\Flagged"])
        client.rename_folder("Old", "New")
        numbered = client.folder_status("INBOX", ["UIDVALIDITY"])[b"UIDVALIDITY"]
    dovecot.stop()
    until(lambda: time.time() >= numbered + 1, "a second in which Dovecot gives another UIDVALIDITY")
    for each in (dovecot.folder / "mail" / user).glob("dovecot*"):  # Dovecot numbers INBOX anew
        each.unlink()
    dovecot.start()
    report = move()
    assert report.is_complete, report.values()
    folders = by_name(report)
    assert (folders["INBOX"].pulled, folders["INBOX"].present, folders["INBOX"].removed_here) == (0, 40, 1)
    assert len(held(account)) == 39 and gone not in held(account)
    assert move.flags()[1][0] & FLAGGED
    assert any("new numbers" in note for note in report.notes)
    assert (folders["New"].mailbox, folders["New"].pulled, folders["New"].here) == ("New", 0, 10)
    names = {each.name for each in account.mailboxes.list()}
    assert "New" in names and "Old" not in names


def test_what_is_here_already_does_not_come_twice(move: Move) -> None:
    move.dovecot.fill(move.user, [letter(number) for number in range(20)])
    account = move.place.account
    inbox = account.mailboxes.find("INBOX").id
    for number in (3, 4, 5):
        account.messages.append(inbox, letter(number), flags=FLAGGED)
    account.messages.append(inbox, letter(77))
    report = move()
    assert (report.total("pulled"), report.total("present"), report.total("here")) == (17, 3, 20)
    assert len(held(account)) == 21 and move.flags()[1][0] == FLAGGED


def test_a_part_of_it_and_only_looking(move: Move) -> None:
    move.dovecot.fill(move.user, [letter(number) for number in range(10)])
    move.dovecot.fill(move.user, [letter(number) for number in range(5)], name="A.b")
    move.dovecot.fill(move.user, [letter(number) for number in range(5)], name="C")
    report = move(is_dry=True)
    assert (report.total("pending"), report.total("there"), report.total("octets") > 5000) == (20, 20, True)
    account = move.place.account
    assert held(account) == [] and "A/b" not in {each.name for each in account.mailboxes.list()}
    report = move(choice=Choice(only=frozenset({"A/b"}), places={"A.b": "Elsewhere/x"}))
    assert report.is_complete and len(held(account, "Elsewhere/x")) == 5
    assert by_name(report)["C"].left_out == "it was not asked for"
    report = move(since=date(2030, 1, 1), choice=Choice(without=frozenset({"C"})))
    assert (report.total("pulled"), by_name(report)["INBOX"].older, report.is_complete) == (0, 10, True)
    with pytest.raises(InvalidInput, match="shows no folder 'nope'"):
        move(choice=Choice(without=frozenset({"nope"})))


def test_who_is_not_let_in_and_which_certificate_is_not_believed(move: Move) -> None:
    with pytest.raises(AuthenticationFailed):
        move(Login(move.user, lambda: "wrong"))
    with pytest.raises(InvalidInput, match="does not verify"):
        move(source=Source("localhost", move.dovecot.tls))
    assert move(source=Source("127.0.0.1", move.dovecot.tls, verify=False)).is_complete


def test_levels_of_a_server_with_a_prefix(place: AccountPlace) -> None:
    with Dovecot(["ada"], prefix="INBOX.") as dovecot:
        dovecot.fill("ada", [letter(1)])
        dovecot.fill("ada", [letter(2)], name="Sent")
        dovecot.fill("ada", [letter(3)], name="a&AOQ-.b")
        move = Move(place, dovecot, "ada")
        report = move()
        assert report.is_complete, report.values()
        assert {each.mailbox for each in report.folders if not each.left_out} == {"INBOX", "Sent", "aä/b"}
        # It is restarted meanwhile: the connection is made anew.
        dovecot.fill("ada", [letter(4)], since=1_700_000_100)

        def restart(seconds: float) -> None:
            dovecot.start()

        seen: list[int] = []

        def stop() -> None:
            if not seen:
                seen.append(1)
                dovecot.stop()

        orders = Orders()
        login = Login("ada", lambda: PASSWORD)
        report = migrate(
            place.account, move.source, login, orders, run=place.data / "run", check=lambda: None,
            tell=lambda progress: stop(), wait=restart,
        )  # fmt: skip
        assert report.is_complete and report.connections == 2 and len(held(place.account)) == 2
