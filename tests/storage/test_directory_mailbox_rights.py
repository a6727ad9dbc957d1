"""Access control lists of mailboxes (RFC 4314 §2): who is let do what, and when it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town
from sqlalchemy import select

from storage.database.prepared import prepare
from storage.directory import mailbox_rights
from storage.directory.mailbox_rights import ANYONE, How, MailboxRights
from storage.directory.rows import State
from storage.errors import InvalidInput, LimitReached, NotFound
from storage.schema.tenant import mailbox_right
from storage.values import AccountId, MailboxId, TenantId

INBOX, SENT = MailboxId(1), MailboxId(2)
EVERYBODY = AccountId(ANYONE)
_EVERY_ROW = prepare(select(mailbox_right))


class Place:
    def __init__(self, town: Town) -> None:
        self.tenant_id: TenantId = town.tenant("acme", "acme.test")
        self.ann, self.ben, self.cleo = (
            town.account(self.tenant_id, f"{name}@acme.test").account_id for name in ("ann", "ben", "cleo")
        )
        self.tenant = town.premises.tenant(self.tenant_id)
        self.rights: MailboxRights = self.tenant.mailbox_rights

    def shared(self, who: AccountId) -> list[tuple[int, int, str, str]]:
        rows = self.rights.shared_with(who)
        return [(row.owner_id, row.mailbox_id, row.rights, row.owner_login) for row in rows]

    def entries(self, mailbox: MailboxId = INBOX) -> list[tuple[int, str]]:
        return [(row.identifier, row.rights) for row in self.rights.of_mailbox(self.ann, mailbox)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_town(tmp_path) as town:
        yield Place(town)


def test_rights_are_replaced_added_and_removed(place: Place) -> None:
    asked: list[tuple[How, str, tuple[str, str]]] = [
        ("replace", "srl", ("", "lrs")),
        ("add", "wl", ("lrs", "lrsw")),
        ("remove", "rx", ("lrsw", "lsw")),
        ("remove", "lsw", ("lsw", "")),
    ]
    for how, letters, answer in asked:
        assert place.rights.change(place.ann, INBOX, place.ben, how, letters) == answer
    assert place.entries() == []


def test_both_rows_that_concern_somebody_are_found(place: Place) -> None:
    place.rights.change(place.ann, INBOX, place.ben, "replace", "lr")
    place.rights.change(place.ann, INBOX, EVERYBODY, "replace", "l")
    place.rights.change(place.ann, SENT, EVERYBODY, "replace", "lrs")
    ann = "ann@acme.test"
    assert place.shared(place.ben) == [
        (place.ann, INBOX, "lr", ann),  # what is his by name comes first
        (place.ann, INBOX, "l", ann),
        (place.ann, SENT, "lrs", ann),
    ]
    assert [row[2] for row in place.shared(place.cleo)] == ["l", "lrs"]
    assert place.shared(place.ann) == []  # of his own there is nothing to be told
    assert place.entries() == [(ANYONE, "l"), (place.ben, "lr")]
    assert [row.login for row in place.rights.of_mailbox(place.ann, INBOX)] == ["", "ben@acme.test"]


def test_what_cannot_be(place: Place) -> None:
    with pytest.raises(InvalidInput):
        place.rights.change(place.ann, INBOX, place.ann, "replace", "lr")
    with pytest.raises(InvalidInput):
        place.rights.change(place.ann, INBOX, place.ben, "replace", "lq")
    with pytest.raises(NotFound):
        place.rights.change(place.ann, INBOX, AccountId(99), "replace", "lr")
    assert place.rights.change(place.ann, INBOX, AccountId(99), "remove", "lr") == ("", "")


def test_an_owner_who_is_not_in_use_shares_nothing(place: Place) -> None:
    place.rights.change(place.ann, INBOX, place.ben, "replace", "lr")
    place.tenant.change_state(place.ann, State.SUSPENDED)
    assert place.shared(place.ben) == []
    place.tenant.change_state(place.ann, State.ACTIVE)
    assert len(place.shared(place.ben)) == 1


@pytest.mark.parametrize("who", ["ann", "ben"])
def test_rows_go_with_either_account(place: Place, who: str) -> None:
    place.rights.change(place.ann, INBOX, place.ben, "replace", "lr")
    account_id = getattr(place, who)
    place.tenant.change_state(account_id, State.ENDED)
    assert place.shared(place.ben) == [] or who == "ben"
    assert place.entries() == [] or who == "ann"
    place.tenant.remove_account(account_id)
    with place.tenant.database.reading() as connection:
        assert _EVERY_ROW.rows(connection) == []


def test_a_new_mailbox_inherits_and_a_deleted_one_has_none(place: Place) -> None:
    place.rights.change(place.ann, INBOX, place.ben, "replace", "lrk")
    place.rights.change(place.ann, INBOX, EVERYBODY, "replace", "l")
    assert place.rights.inherit(place.ann, INBOX, [SENT, MailboxId(7)])
    assert place.entries(SENT) == place.entries(MailboxId(7)) == [(ANYONE, "l"), (place.ben, "lrk")]
    place.rights.change(place.ann, MailboxId(7), place.ben, "remove", "k")
    assert place.rights.inherit(place.ann, INBOX, [MailboxId(7)])  # it was made by two at the same time
    assert place.entries(MailboxId(7)) == [(ANYONE, "l"), (place.ben, "lr")]
    assert not place.rights.inherit(place.ann, MailboxId(3), [MailboxId(4)])
    assert place.rights.remove_mailbox(place.ann, SENT) and not place.rights.remove_mailbox(place.ann, SENT)
    assert place.entries(SENT) == [] and len(place.entries()) == 2


def test_limits(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_rights, "PER_MAILBOX", 1)
    monkeypatch.setattr(mailbox_rights, "PER_OWNER", 2)
    place.rights.change(place.ann, INBOX, place.ben, "replace", "lr")
    with pytest.raises(LimitReached):
        place.rights.change(place.ann, INBOX, place.cleo, "replace", "lr")
    assert place.rights.change(place.ann, INBOX, place.ben, "add", "s") == ("lr", "lrs")
    place.rights.change(place.ann, SENT, place.cleo, "replace", "lr")
    with pytest.raises(LimitReached):
        place.rights.inherit(place.ann, INBOX, [MailboxId(5)])
    assert place.rights.of_mailbox(place.ann, MailboxId(5)) == []
