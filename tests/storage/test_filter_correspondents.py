"""Whom accounts write to: recorded in batches, asked about by hash, forgotten with time and with the account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import Town, new_town

from storage.clock import FixedClock
from storage.directory.rows import State
from storage.directory.tenant import Tenant
from storage.filter import correspondents
from storage.filter.correspondents import DAY, KEPT_DAYS, Acquaintance
from storage.keys.source import Key
from storage.schema.tenant import correspondent
from storage.values import AccountId, EmailAddress


def at(text: str) -> EmailAddress:
    return EmailAddress.parse(text)


FRIEND = at("friend@far.test")


class Place:
    def __init__(self, town: Town) -> None:
        self.town = town
        self.tenant_id = town.tenant("one", "one.test")
        self.ann, self.bob = (town.account(self.tenant_id, f"{name}@one.test").account_id for name in ("ann", "bob"))

    @property
    def tenant(self) -> Tenant:
        return self.town.premises.tenant(self.tenant_id)

    @property
    def clock(self) -> FixedClock:
        return self.town.premises.clock

    def write(self, account_id: AccountId, *addresses: EmailAddress) -> None:
        self.tenant.correspondents.record(account_id, addresses)
        self.tenant.flush()

    def rows(self) -> list[tuple[bytes, int, int]]:
        with self.tenant._database.reading() as connection:
            return [tuple(row) for row in connection.execute(correspondent.select())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_town(tmp_path) as town:
        yield Place(town)


def test_who_writes_to_an_address(place: Place) -> None:
    standing = place.tenant.correspondents.standing
    assert standing(FRIEND, place.ann) is Acquaintance.STRANGER
    place.write(place.ann, FRIEND)
    assert standing(FRIEND, place.ann) is Acquaintance.ACCOUNT
    assert standing(FRIEND, place.bob) is Acquaintance.TENANT
    assert standing(FRIEND, None) is Acquaintance.TENANT
    assert standing(at("other@far.test"), place.ann) is Acquaintance.STRANGER


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("Friend@FAR.test", "friend@far.test"),
        ("friend+shop@far.test", "friend@far.test"),
        ("friend@far.test", "friend+shop@far.test"),
        ("friend@bücher.example", "friend@xn--bcher-kva.example"),
    ],
)
def test_addresses_that_are_the_same_person(place: Place, written: str, asked: str) -> None:
    place.write(place.ann, at(written))
    assert place.tenant.correspondents.standing(at(asked), place.ann) is Acquaintance.ACCOUNT


def test_nothing_is_known_before_it_is_written_and_everything_after_a_close(place: Place) -> None:
    place.tenant.correspondents.record(place.ann, [FRIEND])
    assert place.tenant.correspondents.standing(FRIEND, place.ann) is Acquaintance.STRANGER
    place.town.premises._tenants.pop(place.tenant_id).close()
    assert place.tenant.correspondents.standing(FRIEND, place.ann) is Acquaintance.ACCOUNT


def test_a_pair_is_written_once_a_day(place: Place) -> None:
    place.write(place.ann, FRIEND)
    # Another connection sees whether anybody wrote.
    other = Tenant.open(place.tenant._database.path, place.tenant_id, _key(place), place.clock)
    seen = other._database.data_version()
    place.clock.advance(60)
    place.write(place.ann, FRIEND)
    assert other._database.data_version() == seen
    place.clock.advance(DAY)
    place.write(place.ann, FRIEND)
    assert other._database.data_version() != seen
    other.close()
    [(_, account_id, last)] = place.rows()
    assert account_id == place.ann
    assert last % DAY == 0
    assert place.clock.now() - DAY < last <= place.clock.now()


def _key(place: Place) -> Key:
    return place.town.premises.keys.tenant_key(place.tenant_id, "test")


def test_no_address_stands_in_the_table(place: Place) -> None:
    place.write(place.ann, FRIEND)
    [(hash_, _, _)] = place.rows()
    assert len(hash_) == 32
    other = place.town.tenant("two", "two.test")
    tenant = place.town.premises.tenant(other)
    account_id = place.town.account(other, "eve@two.test").account_id
    tenant.correspondents.record(account_id, [FRIEND])
    tenant.flush()
    with tenant._database.reading() as connection:
        [row] = connection.execute(correspondent.select())
    assert row[0] != hash_  # nor can two tenants be compared


def test_who_is_not_written_to_any_more_is_forgotten(place: Place) -> None:
    place.write(place.ann, FRIEND)
    place.clock.advance(200 * DAY)
    place.write(place.ann, at("new@far.test"))
    place.clock.advance((KEPT_DAYS - 201) * DAY)
    assert place.tenant.correspondents.remove_expired() == 0
    place.clock.advance(2 * DAY)
    assert place.tenant.correspondents.remove_expired() == 1
    assert place.tenant.correspondents.standing(FRIEND, place.ann) is Acquaintance.STRANGER
    assert place.tenant.correspondents.standing(at("new@far.test"), place.ann) is Acquaintance.ACCOUNT


def test_of_too_many_the_oldest_go(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correspondents, "ACCOUNT_MAX", 3)
    for number in range(5):
        place.write(place.ann, at(f"n{number}@far.test"))
        place.clock.advance(DAY)
    place.write(place.bob, FRIEND)
    assert place.tenant.correspondents.remove_expired() == 2
    standing = place.tenant.correspondents.standing
    known = [number for number in range(5) if standing(at(f"n{number}@far.test"), place.ann) is Acquaintance.ACCOUNT]
    assert known == [2, 3, 4]
    assert standing(FRIEND, place.bob) is Acquaintance.ACCOUNT


def test_a_mass_mailing_is_not_remembered_without_bound(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(correspondents, "_WAITING_MAX", 10)
    for number in range(50):
        place.tenant.correspondents.record(place.ann, [at(f"n{number}@far.test")])
    place.tenant.flush()
    assert len(place.rows()) == 10


def test_an_account_takes_its_correspondents_along(place: Place) -> None:
    place.write(place.ann, FRIEND)
    place.write(place.bob, FRIEND)
    place.tenant.correspondents.record(place.ann, [at("late@far.test")])
    place.tenant.change_state(place.ann, State.ENDED)
    place.tenant.remove_account(place.ann)
    place.tenant.correspondents.record(place.ann, [at("later@far.test")])  # a message that was in flight
    place.tenant.flush()
    assert [row[1] for row in place.rows()] == [place.bob]
