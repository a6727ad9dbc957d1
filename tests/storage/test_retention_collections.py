"""What collections remember for a time goes after it; what people keep stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from collections_place import AccountPlace, calendar, event, folder
from sqlalchemy import func, select

from storage.collections.locks import Lock
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Kind
from storage.mail.account import Account
from storage.retention.collections import KEPT_DAYS, remove_from_collections
from storage.schema.collections import dav_lock, object_gone
from storage.values import AccountId

DAY = 86_400


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path_factory.mktemp("retention") / "data")
    yield place
    place.close()


@pytest.fixture(scope="module")
def account(place: AccountPlace) -> Account:
    return place.account


def count(account: Account, table: object) -> int:
    with account.database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(table))[0][0])  # type: ignore[arg-type]


def test_names_of_what_was_deleted_are_forgotten_in_their_time(place: AccountPlace, account: Account) -> None:
    one, other = calendar(account), folder(account)
    for number in range(3):
        account.objects.put(one.id, f"{number}.ics", event(f"u{number}"))
    token = account.collections.by_id(one.id).highest_modseq
    account.objects.delete(one.id, "0.ics")
    later = account.collections.by_id(one.id).highest_modseq
    place.clock.advance(50 * DAY)
    account.objects.delete(one.id, "1.ics")
    place.clock.advance((KEPT_DAYS - 50) * DAY)
    now = place.clock.now()
    assert remove_from_collections(account, now) == 0  # not yet older
    assert remove_from_collections(account, now + 1) == 1
    with pytest.raises(TokenTooOld):
        account.objects.changes(one.id, token)
    assert account.objects.changes(one.id, later).gone == ["1.ics"]
    assert remove_from_collections(account, now + 1) == 0
    assert remove_from_collections(account, now + 60 * DAY) == 1 and count(account, object_gone) == 0
    assert account.collections.by_id(one.id).gone_horizon == account.collections.by_id(one.id).highest_modseq
    assert [each.name for each in account.objects.list(one.id)] == ["2.ics"]
    assert account.collections.by_id(other.id).gone_horizon == 0


def test_messages_in_the_inbox_go_and_clients_are_told(place: AccountPlace, account: Account) -> None:
    [inbox] = account.collections.list(Kind.INBOX)
    account.objects.put(inbox.id, "old.ics", event("u1", b"x" * 100))
    place.clock.advance(10)
    account.objects.put(inbox.id, "new.ics", event("u1"))
    since, used = account.collections.by_id(inbox.id).highest_modseq, account.usage().bytes
    later = place.clock.now() + KEPT_DAYS * DAY
    assert remove_from_collections(account, later, lambda: True) == 0
    assert remove_from_collections(account, later) == 1
    assert [each.name for each in account.objects.list(inbox.id)] == ["new.ics"]
    assert account.objects.changes(inbox.id, since).gone == ["old.ics"] and account.usage().bytes == used - 100


def test_locks_go_when_their_time_is_over(place: AccountPlace, account: Account) -> None:
    home = folder(account)
    held: Lock = account.locks.create(home.id, 0, AccountId(1), owner=b"<owner/>", seconds=60)
    remove_from_collections(account, place.clock.now())
    assert account.locks.by_token(held.token) and count(account, dav_lock) == 1
    place.clock.advance(61)
    remove_from_collections(account, place.clock.now())
    assert count(account, dav_lock) == 0


def test_a_pass_leaves_a_receipt(tmp_path: Path) -> None:
    from export_place import ExportPlace

    from storage.retention import remove_due

    place = ExportPlace(tmp_path / "data")
    try:
        with place.account(place.new_account()) as account:
            [inbox] = account.collections.list(Kind.INBOX)
            account.objects.put(inbox.id, "old.ics", event("u1"))
        place.clock.advance((KEPT_DAYS + 1) * DAY)
        removed = remove_due(place.installation)
        counted = {each.data_class: each.removed for each in removed.receipts}
        assert (counted["collections"], counted["scheduling"], removed.failed) == (1, 0, 0)
    finally:
        place.close()
