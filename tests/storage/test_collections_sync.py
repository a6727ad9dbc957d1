"""What changed since a token: nothing is skipped, however it is cut and whatever is written meanwhile (RFC 6578)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace
from collections_place import calendar, event, file, folder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.changes import Change, CollectionChanged, Publisher, Subscriber
from storage.check import check_account
from storage.clock import SystemClock
from storage.collections import tombstones
from storage.collections.tokens import SyncToken, TokenTooOld, read_token, sync_token
from storage.collections.tombstones import ObjectTombstones
from storage.collections.values import CollectionId
from storage.database.database import Transaction
from storage.errors import CleanmailError, NotFound
from storage.mail.account import Account, Surroundings
from storage.values import AccountId, MailboxId, ModSeq


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path_factory.mktemp("sync"))
    yield place
    place.close()


@pytest.fixture
def account(place: AccountPlace) -> Account:
    return place.account


class Client:
    """Follows one collection by tokens, in pages of a size of its own, and keeps what it is told."""

    def __init__(self, account: Account, collection_id: CollectionId, limit: int | None) -> None:
        self._account = account
        self._collection_id = collection_id
        self._limit = limit
        self._token = SyncToken(collection_id, 0)
        self.state: dict[str, str] = {}
        self.restarts = 0

    def page(self) -> bool:
        """One request; whether there is more."""
        token = read_token(str(self._token))
        try:
            changes = self._account.objects.changes(self._collection_id, token.modseq, self._limit, begun=token.begun)
        except TokenTooOld:
            self._token, self.state = SyncToken(self._collection_id, 0), {}
            self.restarts += 1
            return True
        assert self._limit is None or len(changes.changed) + len(changes.gone) <= self._limit
        for name in changes.gone:
            self.state.pop(name, None)
        self.state |= {each.name: each.etag for each in changes.changed}
        self._token = SyncToken(self._collection_id, changes.token_modseq, changes.begun)
        return changes.more

    def synchronise(self) -> dict[str, str]:
        while self.page():
            pass
        return self.state


NAMES = st.sampled_from("abcdef")
STEPS = st.one_of(
    st.tuples(st.just("put"), NAMES, st.integers(0, 3)),
    st.tuples(st.just("delete"), NAMES, st.just(0)),
    st.tuples(st.just("move"), NAMES, NAMES),
    st.tuples(st.just("copy"), NAMES, NAMES),
    st.tuples(st.just("page"), st.sampled_from((0, 1, 2)), st.just(0)),
    st.tuples(st.just("synchronise"), st.sampled_from((0, 1, 2)), st.just(0)),
    st.tuples(st.just("forget"), st.integers(0, 3), st.just(0)),
)


@given(steps=st.lists(STEPS, max_size=40))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whoever_follows_tokens_has_what_the_server_has(account: Account, steps: list[tuple]) -> None:
    """Against a dictionary: whatever is put, deleted, copied and moved, in pages of 1, of 2 and of everything."""
    where = folder(account)
    model: dict[str, bytes] = {}
    clients = [Client(account, where.id, limit) for limit in (1, 2, None)]
    stones = ObjectTombstones(account.database, account.account_id, account.background)
    for what, one, other in steps:
        if what == "put":
            model[one] = b"%d" % other
            account.objects.put(where.id, one, file(model[one]))
        elif what == "delete" and one in model:
            del model[one]
            account.objects.delete(where.id, one)
        elif what in ("move", "copy") and one in model and one != other:
            transfer = account.transfers.move if what == "move" else account.transfers.copy
            transfer(account.objects.find(where.id, one), where.id, other)
            model[other] = model.pop(one) if what == "move" else model[one]
        elif what == "page":
            clients[one].page()
        elif what == "synchronise":
            clients[one].synchronise()
        elif what == "forget":
            account.database.write(lambda transaction, n=one: stones.forget_old(transaction, where.id, n))
    stored = account.objects.list(where.id)
    assert {each.name: data for each, data in account.objects.read_many(stored)} == model
    for client in clients:
        assert client.synchronise() == {each.name: each.etag for each in stored}
    now = account.collections.by_id(where.id)
    assert (now.objects, now.bytes) == (len(model), sum(map(len, model.values())))


def test_pages_end_and_go_on(account: Account) -> None:
    where = calendar(account)
    for n in range(5):
        account.objects.put(where.id, f"{n}", event(f"{n}"))
    first = account.objects.changes(where.id, 0, 2)
    assert [each.name for each in first.changed] == ["0", "1"] and first.more and first.begun
    account.objects.delete(where.id, "0")
    account.objects.delete(where.id, "4")
    account.objects.put(where.id, "1", event("1", b"x"))
    rest = account.objects.changes(where.id, first.token_modseq, None, begun=first.begun)
    assert sorted(each.name for each in rest.changed) == ["1", "2", "3"]
    assert sorted(rest.gone) == ["0", "4"] and not rest.more and not rest.begun
    none = account.objects.changes(where.id, rest.token_modseq)
    assert (none.changed, none.gone, none.token_modseq) == ((), (), rest.token_modseq)


def test_one_modseq_comes_whole_even_beyond_the_limit(account: Account) -> None:
    where = folder(account)
    for n in range(4):
        account.objects.put(where.id, f"{n}", file())

    def together(transaction: Transaction) -> None:
        transaction.driver.execute(
            "UPDATE object SET modseq = ? WHERE collection_id = ?",
            (account.collections.by_id_in(transaction, where.id).highest_modseq, where.id),
        )

    account.database.write(together)
    page = account.objects.changes(where.id, 1, 2)
    assert len(page.changed) == 4 and not page.more


def test_tokens_from_before_the_horizon_are_refused_and_a_cut_first_listing_ends(account: Account) -> None:
    where = folder(account)
    for n in range(6):
        account.objects.put(where.id, f"{n}", file())
    old = account.collections.by_id(where.id).highest_modseq
    for n in range(3):
        account.objects.delete(where.id, f"{n}")
    stones = ObjectTombstones(account.database, account.account_id, account.background)
    assert account.database.write(lambda transaction: stones.forget_old(transaction, where.id, 1))
    horizon = account.collections.by_id(where.id).gone_horizon
    with pytest.raises(TokenTooOld):
        account.objects.changes(where.id, old)
    assert account.objects.changes(where.id, horizon).gone == ["2"]
    highest = account.collections.by_id(where.id).highest_modseq
    for since, begun in ((highest + 1, 0), (1, highest + 1)):
        with pytest.raises(TokenTooOld):
            account.objects.changes(where.id, since, begun=begun)
    client = Client(account, where.id, 1)
    assert sorted(client.synchronise()) == ["3", "4", "5"] and client.restarts == 0
    with pytest.raises(NotFound):
        account.objects.changes(CollectionId(999_999), 0)


def test_tombstones_beyond_the_kept_ones_go_by_themselves(place: AccountPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tombstones, "_LOOK_AFTER", 10)
    monkeypatch.setattr(ObjectTombstones.forget_old, "__defaults__", (5,))
    account, where = place.account, folder(place.account)
    for n in range(12):
        account.objects.put(where.id, f"{n}", file())
        account.objects.delete(where.id, f"{n}")
    place.settle()
    horizon = account.collections.by_id(where.id).gone_horizon
    assert horizon > 0
    account = place.account
    for n in range(3):  # of who opens the account for a few each time
        account.close()
        account = place.open()
        account.objects.put(where.id, f"{n}", file())
        account.objects.delete(where.id, f"{n}")
    place.settle()
    assert account.collections.by_id(where.id).gone_horizon >= horizon + 6
    assert [*check_account(account, place.incarnation)] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "urn:cleanmail:sync:",
        "urn:cleanmail:sync:1",
        "urn:cleanmail:sync:0-1",
        "urn:cleanmail:sync:1--1",
        "urn:cleanmail:sync:1-01",
        "urn:cleanmail:sync:1-1-0",
        "urn:cleanmail:sync:١-1",
        "urn:cleanmail:sync:1-9999999999999999999",
        "http://example.com/ns/sync/1234",
        "x" * 100_000,
    ],
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenTooOld):
        read_token(text)


@given(st.integers(1, 10**17), st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1))
def test_tokens_are_read_as_they_were_written(collection_id: int, modseq: int, begun: int) -> None:
    token = SyncToken(CollectionId(collection_id), modseq, begun)
    assert read_token(sync_token(collection_id, modseq, begun)) == token == read_token(f" {token}\n")


def test_each_commit_tells_the_change_feed_once(place: AccountPlace) -> None:
    told: list[tuple[object, ...]] = []
    place.account.close()
    surroundings = Surroundings(
        place.clock, place.incarnation.name, place.background, lambda *news: told.append(news), boot="boot"
    )
    account = Account.open(
        place.root, place.account.tenant_id, place.account.account_id, place.account.key, surroundings
    )
    try:
        where = folder(account)
        account.objects.put_many(where.id, ((f"{n}", file()) for n in range(3)))
        with pytest.raises(CleanmailError):
            account.objects.delete(where.id, "absent")
        account.collections.update(where.id, color="#000000")
    finally:
        account.close()
        place.open()
    me = account.account_id
    expected = [(CollectionChanged(me, where.id, modseq),) for modseq in (1, 4, 4)]  # type: ignore[arg-type]
    assert told == expected


def test_changes_of_collections_go_to_those_who_asked_for_them(tmp_path: Path) -> None:
    clock = SystemClock()
    asked = Subscriber(tmp_path, clock, mailboxes=False, collections=True)
    others = Subscriber(tmp_path, clock)
    publisher = Publisher(tmp_path, clock)
    try:
        change = CollectionChanged(AccountId(1), CollectionId(2), ModSeq(3))
        publisher.publish(change, Change(AccountId(1), MailboxId(2), ModSeq(4)))
        assert asked.drain() == [change]
        assert others.drain() == [Change(AccountId(1), MailboxId(2), ModSeq(4))]
    finally:
        publisher.close()
        asked.close()
        others.close()
