"""The jobs role carries out reviews: what was found wrong is released once, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from review_town import MESSAGE, ask_for_review

from gateway.quarantine.release import Releases
from hosting.config import Config
from hosting.quarantine.assembly import make_releases
from hosting.review_round import review_round
from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import Resolver
from storage.directory.reviews import Reviews, ReviewState
from storage.directory.rows import State
from storage.filter.counts import Counted
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.quarantine.rows import QuarantineRows
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldState, NewWithheld, Onward, ReleasedBy, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.values import Domain, EmailAddress


class Place:
    """A tenant with two accounts, of whose withheld mail some is found wrong."""

    def __init__(self, data: Path) -> None:
        self.clock = FixedClock()
        keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        Installation.create(data, keys, self.clock)
        self.installation = Installation(data, keys, self.clock)
        self.provisioning = Provisioning(self.installation)
        self.tenant_id = self.provisioning.create_tenant("acme", "Acme").tenant_id
        self.installation.control.add_domain(self.tenant_id, Domain("acme.test"))
        self.installation.control.verify_domain(Domain("acme.test"), None)
        self.accounts = {
            name: self.provisioning.create_account(self.tenant_id, EmailAddress.parse(f"{name}@acme.test")).account_id
            for name in ("ann", "bob")
        }
        self.releases: Releases = make_releases(self.installation, Config(), Resolver(self.installation))
        self.reviews: Reviews = self.installation.control.reviews

    @property
    def quarantine(self) -> QuarantineRows:
        return self.installation.tenant(self.tenant_id).quarantine

    def withheld(self, *reasons: str) -> str:
        """For ann and bob, for these reasons; ann says that it is wrong."""
        recipients = tuple(
            WithheldFor(
                EmailAddress.parse(f"{name}@acme.test"),
                Onward(Way.MAILBOX, account_id, EmailAddress.parse(f"{name}@acme.test")),
                reason,
                "Why.",
            )
            for (name, account_id), reason in zip(self.accounts.items(), reasons, strict=False)
        )
        new = NewWithheld(
            new_queue_id(self.clock),
            EmailAddress.parse("far@far.test"),
            EnvelopeParameters(),
            recipients,
            self.clock.now() + 1000,
            b"",
            MESSAGE,
        )
        number = Quarantine(self.installation).keep(self.tenant_id, new)
        self.quarantine.report(number, [0])
        ask_for_review(self.installation, self.tenant_id, number)
        return number

    def decided(self, number: str, *, wrong: bool = True) -> None:
        self.reviews.view(self.tenant_id, number)
        self.reviews.decide(self.tenant_id, number, wrong=wrong, person="rita")

    def round(self) -> None:
        review_round(self.installation, self.releases)

    def state(self, number: str) -> ReviewState:
        return self.reviews.find(number).state

    def mailbox(self, name: str) -> int:
        with self.installation.account(self.tenant_id, self.accounts[name]) as account:
            return account.usage().messages


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.installation.close()


def test_what_was_found_wrong_is_released_once(place: Place) -> None:
    number = place.withheld("spam", "spam")
    place.round()
    assert (place.state(number), place.mailbox("ann")) == (ReviewState.WAITING, 0)
    place.decided(number)
    place.round()
    assert (place.state(number), place.mailbox("ann"), place.mailbox("bob")) == (ReviewState.RELEASED, 1, 1)
    place.round()
    assert (place.mailbox("ann"), place.mailbox("bob")) == (1, 1)
    counted = place.installation.control.judged.sums(1)
    assert (counted[Counted.REPORTED], counted[Counted.VIEWED], counted[Counted.WRONG]) == (1, 1, 1)


def test_what_was_found_right_stays(place: Place) -> None:
    number = place.withheld("spam")
    place.decided(number, wrong=False)
    place.round()
    assert (place.state(number), place.mailbox("ann")) == (ReviewState.RIGHT, 0)
    assert place.quarantine.show(number).held


def test_anothers_own_rule_stands(place: Place) -> None:
    number = place.withheld("spam", "denied")
    place.decided(number)
    place.round()
    assert (place.state(number), place.mailbox("ann"), place.mailbox("bob")) == (ReviewState.RELEASED, 1, 0)
    [bob] = [each for each in place.quarantine.show(number).recipients if each.state is HeldState.HELD]
    assert bob.reason == "denied"


def test_a_crash_between_release_and_note_releases_nothing_twice(place: Place) -> None:
    number = place.withheld("spam", "denied")
    place.decided(number)
    place.releases.release(place.tenant_id, number, [0], ReleasedBy.REVIEW)
    place.round()
    assert (place.state(number), place.mailbox("ann")) == (ReviewState.RELEASED, 1)


def test_a_full_mailbox_is_tried_again(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    first = place.withheld("spam")
    place.decided(first)
    place.round()
    place.clock.advance(1)
    number = place.withheld("spam")
    place.decided(number)
    ann = place.accounts["ann"]
    place.provisioning.set_quota(place.tenant_id, ann, quota_bytes=0, quota_messages=1)
    place.round()
    assert (place.state(number), place.mailbox("ann")) == (ReviewState.WRONG, 1)
    assert number in caplog.text and "acme.test" not in caplog.text
    place.provisioning.set_quota(place.tenant_id, ann, quota_bytes=0, quota_messages=0)
    place.round()
    assert (place.state(number), place.mailbox("ann")) == (ReviewState.RELEASED, 2)


@pytest.mark.parametrize("decided", [True, False])
def test_what_is_gone_is_not_waited_for(place: Place, decided: bool) -> None:
    number = place.withheld("spam")
    if decided:
        place.decided(number)
    place.quarantine.delete(number, [0])
    place.round()
    assert place.state(number) is ReviewState.GONE


def test_what_its_reporter_deleted_is_not_given_to_others(place: Place) -> None:
    number = place.withheld("spam", "denied")
    place.decided(number)
    place.quarantine.delete(number, [0])
    place.round()
    assert (place.state(number), place.mailbox("bob")) == (ReviewState.GONE, 0)


def test_what_expired_is_gone(place: Place) -> None:
    number = place.withheld("spam")
    place.clock.advance(2000)
    place.quarantine.expire()
    place.round()
    assert place.state(number) is ReviewState.GONE


@pytest.mark.parametrize("decided", [True, False])
def test_the_end_of_a_tenant_ends_its_reviews(place: Place, decided: bool) -> None:
    number = place.withheld("spam")
    if decided:
        place.decided(number)
    place.provisioning.suspend_tenant(place.tenant_id)
    place.installation.control.change_tenant_state(place.tenant_id, State.ENDED)
    place.round()
    assert place.state(number) is ReviewState.GONE


def test_one_reviews_failure_is_no_others(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    broken = place.withheld("spam")
    for path in (place.installation.data / "tenants/1/quarantine").glob("*.body"):
        path.write_bytes(b"rubbish")
    place.clock.advance(1)
    fine = place.withheld("spam", "malware")
    for number in (broken, fine):
        place.decided(number)
    place.round()
    assert (place.state(broken), place.state(fine)) == (ReviewState.WRONG, ReviewState.RELEASED)
    assert "was not carried out" in caplog.text
