"""Experience with senders: what counts how much, how it fades, and that a stranger with many names fills no disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import new_town
from hypothesis import given
from hypothesis import strategies as st

from storage.clock import FixedClock
from storage.directory.tenant import Tenant
from storage.filter import reputation as module
from storage.filter.reputation import (
    HALF_LIFE,
    KEPT,
    LIGHT,
    LIGHT_MAX,
    MALWARE_MAX,
    NOTHING,
    Counts,
    Subject,
    domain_subject,
    network_subject,
)
from storage.schema.tenant import reputation as table
from storage.values import Domain

SHOP = Domain("shop.example")
CLIENT = "192.0.2.77"


class Place:
    def __init__(self, tenant: Tenant, clock: FixedClock) -> None:
        self.tenant = tenant
        self.clock = clock

    def record(self, *subjects: Subject | None, ham: float = 0.0, spam: float = 0.0, light: float = 0.0) -> None:
        self.tenant.reputation.record(subjects, ham=ham, spam=spam, light=light)
        self.tenant.reputation.flush()

    def domain(self, domain: Domain = SHOP) -> Counts:
        return self.tenant.reputation.look(domain, "")[0]

    def rows(self) -> list[tuple[bytes, float, float, int]]:
        with self.tenant._database.reading() as connection:
            return [tuple(row) for row in connection.execute(table.select())]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with new_town(tmp_path) as town:
        yield Place(town.premises.tenant(town.tenant("one", "one.test")), town.premises.clock)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.254", True),
        ("192.0.2.1", "192.0.3.1", False),
        ("2001:db8:1::1", "2001:db8:1:ffff::2", True),
        ("2001:db8:1::1", "2001:db8:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.9", True),
    ],
)
def test_networks(one: str, other: str, same: bool) -> None:
    assert (network_subject(one) == network_subject(other)) is same


@given(st.text(max_size=60))
def test_what_is_no_address_is_no_network(text: str) -> None:
    subject = network_subject(text)
    assert subject is None or subject.startswith("network:")


def test_what_is_known_of_a_domain_and_a_network(place: Place) -> None:
    assert place.tenant.reputation.look(SHOP, CLIENT) == (NOTHING, NOTHING)
    place.record(domain_subject(SHOP), network_subject(CLIENT), None, ham=1.0)
    place.record(network_subject("192.0.2.3"), spam=2.0)
    assert place.tenant.reputation.look(SHOP, CLIENT) == (Counts(1.0, 0.0), Counts(1.0, 2.0))
    assert place.tenant.reputation.look(None, "198.51.100.1") == (NOTHING, NOTHING)


def test_counts_wait_together(place: Place) -> None:
    for _ in range(3):
        place.tenant.reputation.record([domain_subject(SHOP)], ham=1.0)
    place.tenant.flush()
    assert place.domain() == NOTHING  # not worth a commit yet
    place.clock.advance(5)
    place.tenant.flush()
    assert place.domain() == Counts(3.0, 0.0)


def test_counts_halve_each_month(place: Place) -> None:
    place.record(domain_subject(SHOP), ham=8.0, spam=4.0)
    place.clock.advance(HALF_LIFE)
    assert place.domain() == Counts(4.0, 2.0)
    place.record(domain_subject(SHOP), spam=1.0)
    assert place.domain() == Counts(4.0, 3.0)
    place.clock.advance(HALF_LIFE)
    assert place.domain() == Counts(2.0, 1.5)


def test_what_was_taken_back_never_weighs_less_than_nothing(place: Place) -> None:
    place.record(domain_subject(SHOP), spam=1.0)
    place.record(domain_subject(SHOP), spam=-1.0, ham=-3.0)
    assert place.domain() == NOTHING


def test_what_was_only_let_pass_counts_lightly_and_up_to_a_ceiling(place: Place) -> None:
    place.record(domain_subject(SHOP), light=LIGHT)
    assert place.domain() == Counts(LIGHT, 0.0)
    place.record(domain_subject(SHOP), light=1000.0)
    assert place.domain() == Counts(LIGHT_MAX, 0.0)
    place.record(domain_subject(SHOP), ham=5.0)
    place.record(domain_subject(SHOP), light=1.0)
    assert place.domain() == Counts(LIGHT_MAX + 5.0, 0.0)


def test_malware_counts_up_to_a_ceiling(place: Place) -> None:
    """A stranger with an account at a large provider sends test viruses: its other customers are still heard."""
    for sent in range(1, 5):
        place.tenant.reputation.record([domain_subject(SHOP)], malware=1.0)
        place.tenant.reputation.flush()
        assert place.domain() == Counts(0.0, min(sent, MALWARE_MAX))
    place.record(domain_subject(SHOP), spam=2.0)
    place.tenant.reputation.record([domain_subject(SHOP)], malware=1.0)
    assert place.domain() == Counts(0.0, MALWARE_MAX + 2.0)


def test_who_sends_from_many_names_pushes_out_his_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SUBJECTS_MAX", 20)
    monkeypatch.setattr(module, "_ROOM_MADE_EVERY", 10)
    place.record(domain_subject(SHOP), ham=2.0)
    for number in range(100):
        place.clock.advance(1)
        place.record(domain_subject(Domain(f"n{number}.example")), light=LIGHT)
    assert len(place.rows()) <= 20 + 10
    assert place.domain().ham == pytest.approx(2.0, abs=0.01)
    assert place.domain(Domain("n0.example")) == NOTHING
    assert place.domain(Domain("n99.example")) != NOTHING


def test_who_sends_nothing_any_more_is_forgotten(place: Place) -> None:
    place.record(domain_subject(SHOP), ham=1.0)
    place.clock.advance(KEPT)
    assert place.tenant.reputation.remove_expired() == 0
    place.clock.advance(1)
    assert place.tenant.reputation.remove_expired() == 1
    assert place.rows() == []


def test_no_name_stands_in_the_table(place: Place) -> None:
    place.record(domain_subject(SHOP), network_subject(CLIENT), ham=1.0)
    hashes = [row[0] for row in place.rows()]
    assert len(set(hashes)) == 2
    assert all(len(each) == 32 for each in hashes)
