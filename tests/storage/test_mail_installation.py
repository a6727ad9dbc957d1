"""An installation's pool of accounts, its provisioning, and delivery into it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pytest
from account_ending import end_account

from storage.changes import Change, Subscriber
from storage.clock import FixedClock
from storage.delivery import Delivery, deliver
from storage.directory.provisioning import Provisioning
from storage.errors import Busy, CleanmailError, Corrupt, Gone, NotFound, OverQuota, Unavailable
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import Key, LocalKeys
from storage.leases import TenantLease
from storage.mail.quota import Limits, Usage
from storage.values import AccountId, Domain, EmailAddress, TenantId

LETTER = b"From: a@example.test\r\nSubject: x\r\n\r\nbody\r\n"


class Place:
    def __init__(self, data: Path) -> None:
        self.data = data
        self.clock = FixedClock()
        self.keystore = KeyStore.create(data / "keys", Master.generate(), self.clock)
        self.keys = LocalKeys(self.keystore)
        Installation.create(data, self.keys, self.clock)
        Installation.create(data, self.keys, self.clock)  # again, as after a crash
        self.installation = Installation(data, self.keys, self.clock, max_open=2)
        self.provisioning = Provisioning(self.installation)
        self.tenant_id = self.provisioning.create_tenant("one", "One").tenant_id
        self.installation.control.add_domain(self.tenant_id, Domain.parse("example.test"))

    def account(self, name: str, **quota: int) -> AccountId:
        address = EmailAddress.parse(f"{name}@example.test")
        return self.provisioning.create_account(self.tenant_id, address, **quota).account_id  # type: ignore[arg-type]

    def usage(self, account_id: AccountId) -> Usage:
        with self.installation.account(self.tenant_id, account_id) as account:
            return account.usage()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.installation.close()


def test_accounts_stay_open_until_their_place_is_needed(place: Place) -> None:
    first, second, third = (place.account(name) for name in "abc")
    tenant_id, accounts = place.tenant_id, place.installation.account
    with accounts(tenant_id, first) as one:
        with accounts(tenant_id, first) as same:
            assert same is one
        with accounts(tenant_id, second) as two, accounts(tenant_id, third) as three:
            assert one.usage() == two.usage() == three.usage() == Usage(0, 0)
    with accounts(tenant_id, second) as again:
        assert again is two
    with accounts(tenant_id, first):  # three are open, the third was used longest ago
        pass
    place.account("d")
    with accounts(tenant_id, first) as again:
        assert again is one


def test_a_thousand_accounts_need_two_places(place: Place) -> None:
    accounts = [place.account(f"u{n}") for n in range(20)]
    for _ in range(2):
        for account_id in accounts:
            assert place.usage(account_id) == Usage(0, 0)
    assert len(place.installation._accounts) <= 3


def test_two_threads_open_an_account_once(place: Place) -> None:
    account_id = place.account("a")
    found: list[object] = []
    go = Event()

    def work() -> None:
        go.wait()
        with place.installation.account(place.tenant_id, account_id) as account:
            found.append(account)

    threads = [Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_an_account_that_does_not_exist(place: Place) -> None:
    for tenant_id, account_id in ((place.tenant_id, AccountId(99)), (TenantId(99), AccountId(1))):
        with pytest.raises(NotFound), place.installation.account(tenant_id, account_id):
            pass


def test_another_tenants_account_is_not_reached(place: Place) -> None:
    account_id = place.account("a")
    other = place.provisioning.create_tenant("two", "Two").tenant_id
    with pytest.raises(NotFound), place.installation.account(other, account_id):
        pass


def test_an_open_account_holds_the_tenants_lease(place: Place) -> None:
    account_id = place.account("a")
    lease = TenantLease(place.data, place.tenant_id)
    with place.installation.account(place.tenant_id, account_id), pytest.raises(Unavailable), lease.exclusive(0):
        pass
    place.installation.close()
    with lease.exclusive(0):
        pass


def test_a_tenant_whose_key_lets_us_wait_keeps_nobody_else_waiting(place: Place) -> None:
    class SlowKeys(LocalKeys):
        asked, answered = Event(), Event()

        def tenant_key(self, tenant_id: TenantId, purpose: str) -> Key:
            if tenant_id == other:
                self.asked.set()
                assert self.answered.wait(10)
            return super().tenant_key(tenant_id, purpose)

    other = place.provisioning.create_tenant("two", "Two").tenant_id
    place.installation.close()
    keys = SlowKeys(place.keystore)
    installation = Installation(place.data, keys, place.clock)
    found: list[object] = []
    waiting = [Thread(target=lambda: found.append(installation.tenant(other))) for _ in range(2)]
    try:
        for thread in waiting:
            thread.start()
        assert keys.asked.wait(10)
        reached = Thread(target=lambda: installation.tenant(place.tenant_id).first_account(), daemon=True)
        reached.start()
        reached.join(5)
        assert not reached.is_alive()
    finally:
        keys.answered.set()
        for thread in waiting:
            thread.join(10)
        installation.close()
    assert len(found) == 2 and found[0] is found[1]


def test_erasing_an_account_leaves_nothing_to_read(place: Place) -> None:
    account_id = place.account("a")
    deliver(place.installation, place.tenant_id, [Delivery(account_id)], LETTER, b"", "q1")
    end_account(place.installation, place.tenant_id, account_id)
    assert not (place.data / "tenants" / str(place.tenant_id) / "accounts" / str(account_id)).exists()
    with pytest.raises(CleanmailError), place.installation.account(place.tenant_id, account_id):
        pass
    with pytest.raises(Gone):
        place.keys.account_key(place.tenant_id, account_id, "test")


def test_a_commit_is_told_on_the_change_feed(place: Place) -> None:
    account_id = place.account("a")
    place.installation.feed.beat()
    subscriber = Subscriber(place.data, place.clock)
    place.installation.feed.beat()
    subscriber.drain()
    deliver(place.installation, place.tenant_id, [Delivery(account_id)], LETTER, b"", "q1")
    assert Change(account_id, 1, 2) in subscriber.drain()  # type: ignore[arg-type]
    subscriber.close()


# Delivery


def test_each_recipient_has_an_outcome_and_each_account_one_copy(place: Place) -> None:
    alice, bob = place.account("alice"), place.account("bob", quota_bytes=10)
    targets = [Delivery(alice), Delivery(bob), Delivery(alice, "Junk"), Delivery(AccountId(99)), Delivery(alice)]
    outcomes = deliver(place.installation, place.tenant_id, targets, LETTER, b"Return-Path: <>\r\n", "q1")
    assert [outcome.delivered for outcome in outcomes] == [True, False, True, False, True]
    assert isinstance(outcomes[1].error, OverQuota)
    assert isinstance(outcomes[3].error, NotFound)
    assert [outcome.delivery for outcome in outcomes] == targets
    with place.installation.account(place.tenant_id, alice) as account:
        inbox = account.mailboxes.find("INBOX")
        assert inbox.messages == account.usage().messages == 1
        [(message_id,)] = account.messages.fetch_rows(inbox.id, 1, 1, ("message_id",))
        assert account.messages.read_message(message_id) == b"Return-Path: <>\r\n" + LETTER


def test_a_delivery_that_is_repeated_keeps_one_copy(place: Place) -> None:
    alice, bob = place.account("alice"), place.account("bob")
    deliver(place.installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q1")
    outcomes = deliver(place.installation, place.tenant_id, [Delivery(alice), Delivery(bob)], LETTER, b"", "q1")
    assert all(outcome.delivered for outcome in outcomes)
    deliver(place.installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q2")
    assert (place.usage(alice).messages, place.usage(bob).messages) == (2, 1)


@pytest.mark.parametrize(
    "lost",
    ["tenants/{t}", "tenants/{t}/tenant.db", "tenants/{t}/accounts/{a}", "keys/{t}/tenant.key", "keys/{t}/{a}.key"],
)
def test_what_is_missing_though_the_directory_has_it_is_no_refusal(place: Place, lost: str) -> None:
    """As after a restart of the machine without one of its file systems."""
    alice = place.account("alice")
    deliver(place.installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q0")
    place.installation.close()
    path = place.data / lost.format(t=int(place.tenant_id), a=int(alice))
    path.rename(place.data / "elsewhere")
    installation = Installation(place.data, place.keys, place.clock)
    try:
        [outcome] = deliver(installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q1")
        assert isinstance(outcome.error, Corrupt) and outcome.error.temporary
        (place.data / "elsewhere").rename(path)
        [outcome] = deliver(installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q1")
        assert outcome.delivered
        place.provisioning = Provisioning(installation)
        end_account(installation, place.tenant_id, alice)
        [outcome] = deliver(installation, place.tenant_id, [Delivery(alice)], LETTER, b"", "q2")
        assert isinstance(outcome.error, (Gone, NotFound))
    finally:
        installation.close()


def test_a_mailbox_that_is_not_there_gives_its_mail_to_inbox(place: Place) -> None:
    alice = place.account("alice")
    deliver(place.installation, place.tenant_id, [Delivery(alice, "Lists", 4, ("$Junk",))], LETTER, b"", "q1")
    deliver(place.installation, place.tenant_id, [Delivery(alice, "Junk")], LETTER, b"", "q2")
    with place.installation.account(place.tenant_id, alice, limits=Limits()) as account:
        assert account.mailboxes.find("Junk").messages == 1
        view = account.views.load(account.mailboxes.find("INBOX").id)
        assert view.flags[0] == 4 | 1 << 8


def test_at_hand_is_what_is_open_and_not_too_much_of_it(place: Place) -> None:
    ann = place.account("ann")
    fresh = Installation(place.data, place.keys, place.clock)
    try:
        with fresh.at_hand(5), pytest.raises(Busy):
            fresh.tenant(place.tenant_id)
        fresh.tenant(place.tenant_id)
        with fresh.at_hand(2):
            assert [fresh.tenant(place.tenant_id).account(ann).account_id for _ in range(2)] == [ann, ann]
            with pytest.raises(Busy):
                fresh.tenant(place.tenant_id)
        with fresh.at_hand(5), pytest.raises(Busy):
            fresh.account(place.tenant_id, ann)
        with fresh.account(place.tenant_id, ann):
            pass  # it stays open
        with fresh.at_hand(5), fresh.account(place.tenant_id, ann) as account:
            assert account.usage() == Usage(0, 0)
        assert fresh.tenant(place.tenant_id).account(ann)  # outside, and in other threads, nothing is forbidden
    finally:
        fresh.close()
