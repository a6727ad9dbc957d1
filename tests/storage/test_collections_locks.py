"""Locks of WebDAV: who holds what, until when, and of writers that race one gets it (RFC 4918 §6, §7)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest
from accounts import ACCOUNT, AccountPlace
from collections_place import file, folder

from storage.collections.locks import LONGEST, OWNER_MAX, Locked
from storage.collections.values import Stored
from storage.database.database import Transaction
from storage.errors import LimitReached, NotFound
from storage.mail.account import Account
from storage.values import AccountId

OTHER = AccountId(8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path_factory.mktemp("locks"))
    yield place
    place.close()


@pytest.fixture
def account(place: AccountPlace) -> Account:
    return place.account


def test_a_lock_is_found_refreshed_and_removed(place: AccountPlace) -> None:
    account, where = place.account, folder(place.account)
    stored = account.objects.put(where.id, "a", file()).stored
    lock = account.locks.create(where.id, stored.object_id, ACCOUNT, owner=b"<D:href>me</D:href>", seconds=100)
    assert lock.token.startswith("urn:uuid:") and lock.expires == place.clock.now() + 100
    assert account.locks.by_token(lock.token) == lock
    assert account.locks.covering(where.id, stored.object_id) == [lock]
    assert account.locks.covering(where.id) == [] and account.locks.below(where.id) == [lock]
    place.clock.advance(99)
    refreshed = account.locks.refresh(lock.token, 10**9)
    assert refreshed.expires == place.clock.now() + LONGEST
    account.locks.remove(lock.token)
    for what in (account.locks.remove, account.locks.by_token):
        with pytest.raises(NotFound):
            what(lock.token)
    with pytest.raises(NotFound):
        account.locks.refresh(lock.token, 10)


def test_who_writes_may_look_at_locks_first(account: Account) -> None:
    """In his transaction: told what is there, he refuses, and nothing is done."""
    where = folder(account)
    one, two = (account.objects.put(where.id, name, file(name.encode())).stored for name in ("one", "two"))
    lock = account.locks.create(where.id, two.object_id, ACCOUNT)
    looked: list[tuple[Stored | None, ...]] = []

    def first(transaction: Transaction, *there: Stored | None) -> None:
        looked.append(there)
        if any(account.locks.covering_in(transaction, where.id, each.object_id) for each in there if each):
            raise Locked(locks=[lock])

    for write in (
        lambda: account.objects.put(where.id, "two", file(b"other"), first=first),
        lambda: account.objects.delete(where.id, "two", first=first),
        lambda: account.transfers.copy(one, where.id, "two", first=first),
        lambda: account.transfers.move(one, where.id, "two", first=first),
        lambda: account.transfers.move(two, where.id, "three", first=first),
    ):
        with pytest.raises(Locked):
            write()
    assert looked == [(two,), (two,), (one, two), (one, two), (two, None)]
    assert list(account.objects.list(where.id)) == [one, two]
    assert account.objects.put(where.id, "three", file(), first=first).created and looked[-1] == (None,)
    account.locks.remove(lock.token)


def test_a_lock_ends_when_its_time_is_over(place: AccountPlace) -> None:
    account, where = place.account, folder(place.account)
    lock = account.locks.create(where.id, 0, ACCOUNT, seconds=100)
    place.clock.advance(100)
    assert account.locks.covering(where.id) == [] and not account.locks.has_any()
    with pytest.raises(NotFound):
        account.locks.refresh(lock.token, 100)
    assert account.locks.create(where.id, 0, OTHER).token != lock.token


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True), (False, False)])
def test_only_shared_locks_stand_beside_each_other(account: Account, first: bool, second: bool, deep: bool) -> None:
    top = folder(account)
    stored = account.objects.put(folder(account, top.id).id, "a", file()).stored
    lock = account.locks.create(stored.collection_id, stored.object_id, ACCOUNT, shared=first)
    place = (top.id, 0) if deep else (stored.collection_id, stored.object_id)
    if first and second:
        account.locks.create(*place, OTHER, shared=True, deep=deep)
        return
    with pytest.raises(Locked) as locked:
        account.locks.create(*place, OTHER, shared=second, deep=deep)
    assert locked.value.locks == (lock,)


def test_deep_locks_reach_down_and_others_do_not(account: Account) -> None:
    top = folder(account)
    inner = folder(account, top.id)
    stored = account.objects.put(inner.id, "a", file()).stored
    flat = account.locks.create(top.id, 0, ACCOUNT)
    assert account.locks.covering(inner.id, stored.object_id) == []
    account.locks.remove(flat.token)
    deep = account.locks.create(top.id, 0, ACCOUNT, deep=True)
    assert account.locks.covering(inner.id, stored.object_id) == [deep] == account.locks.covering(inner.id)
    later = account.objects.put(inner.id, "b", file()).stored
    assert account.locks.covering(inner.id, later.object_id) == [deep]
    with pytest.raises(Locked):
        account.locks.create(inner.id, stored.object_id, OTHER)
    assert account.locks.below(inner.id) == []


def test_locks_end_with_what_they_are_on(account: Account) -> None:
    where, other = folder(account), folder(account)
    stored = account.objects.put(where.id, "a", file()).stored
    account.locks.create(where.id, stored.object_id, ACCOUNT)
    moved = account.transfers.move(stored, other.id, "a").stored
    assert account.locks.covering(other.id, moved.object_id) == []
    account.locks.create(other.id, moved.object_id, ACCOUNT)
    account.objects.put(other.id, "a", file(b"changed"))
    assert len(account.locks.below(other.id)) == 1
    account.objects.delete(other.id, "a")
    assert account.locks.below(other.id) == []
    for collection_id, object_id in ((999_999, 0), (where.id, 999_999)):
        with pytest.raises(NotFound):
            account.locks.create(collection_id, object_id, ACCOUNT)  # type: ignore[arg-type]


def test_of_writers_that_race_one_gets_an_exclusive_lock(account: Account) -> None:
    where = folder(account)
    outcomes: list[bool] = []
    begin = threading.Barrier(6)

    def lock() -> None:
        begin.wait()
        try:
            account.locks.create(where.id, 0, ACCOUNT)
        except Locked:
            outcomes.append(False)
        else:
            outcomes.append(True)

    threads = [threading.Thread(target=lock) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [False] * 5 + [True]


def test_there_are_not_more_locks_than_the_limit(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    where = folder(account)
    monkeypatch.setattr(account.collections, "limits", replace(account.collections.limits, locks=0))
    with pytest.raises(LimitReached):
        account.locks.create(where.id, 0, ACCOUNT, shared=True)
    with pytest.raises(LimitReached):
        account.locks.create(where.id, 0, ACCOUNT, owner=bytes(OWNER_MAX + 1))
