"""What may be sent: the rule by its numbers, and accounts that are frozen, held, told of and let go again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from account_ending import end_account

from storage.clock import FixedClock
from storage.directory.frozen import TRUSTED
from storage.directory.provisioning import Provisioning
from storage.errors import InvalidInput
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.queue.entries import (
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientState,
    new_queue_id,
)
from storage.retention import remove_due
from storage.sending import LIMITS, WEEK_HOURS, Ruling, Sending, Sent, decide
from storage.sending_limits import SendingLimits
from storage.values import AccountId, Domain, EmailAddress

H = 486_111  # an hour
NOW = H * 3600 + 1800  # its middle
OFF = SendingLimits(0, 0, 0, 0, 0, 1)
ALLOW, LATER, LATER_TENANT, FREEZE = Ruling.ALLOW, Ruling.LATER_ACCOUNT, Ruling.LATER_TENANT, Ruling.FREEZE


@pytest.mark.parametrize(
    ("limits", "account", "tenant", "recipients", "ruling"),
    [
        # Nothing is limited, or nothing goes elsewhere.
        (OFF, {H: 10**6}, {H: 10**6}, 10**6, ALLOW),
        (replace(OFF, account_per_hour=1), {H: 5}, {}, 0, ALLOW),
        # An hour that slides: half of the one before counts.
        (replace(OFF, account_per_hour=10), {}, {}, 10, ALLOW),
        (replace(OFF, account_per_hour=10), {}, {}, 11, LATER),
        (replace(OFF, account_per_hour=10), {H: 9}, {}, 1, ALLOW),
        (replace(OFF, account_per_hour=10), {H: 9}, {}, 2, LATER),
        (replace(OFF, account_per_hour=10), {H - 1: 10}, {}, 5, ALLOW),
        (replace(OFF, account_per_hour=10), {H - 1: 10}, {}, 6, LATER),
        (replace(OFF, account_per_hour=10), {H - 1: 11}, {}, 5, LATER),  # 5.5 rounded up
        (replace(OFF, account_per_hour=10), {H - 2: 99}, {}, 10, ALLOW),
        # A day likewise.
        (replace(OFF, account_per_day=10), {H - 23: 9}, {}, 1, ALLOW),
        (replace(OFF, account_per_day=10), {H - 23: 9}, {}, 2, LATER),
        (replace(OFF, account_per_day=10), {H - 24: 10}, {}, 6, LATER),
        (replace(OFF, account_per_day=10), {H - 25: 99}, {}, 10, ALLOW),
        # The tenant's.
        (replace(OFF, tenant_per_hour=10), {}, {H: 9}, 1, ALLOW),
        (replace(OFF, tenant_per_hour=10), {}, {H: 9}, 2, LATER_TENANT),
        (replace(OFF, tenant_per_day=10), {}, {H - 20: 9}, 2, LATER_TENANT),
        (replace(OFF, account_per_hour=10, tenant_per_hour=10), {H: 10}, {H: 10}, 1, LATER),
        # Masses: more than the threshold, and than what is usual.
        (replace(OFF, freeze_above=100, freeze_factor=10), {}, {}, 100, ALLOW),
        (replace(OFF, freeze_above=100, freeze_factor=10), {}, {}, 101, FREEZE),
        (replace(OFF, freeze_above=100, freeze_factor=10), {H: 60, H - 1: 40}, {}, 21, FREEZE),
        (replace(OFF, freeze_above=100, freeze_factor=10), {H - 50: 11}, {}, 110, ALLOW),
        (replace(OFF, freeze_above=100, freeze_factor=10), {H - 50: 11}, {}, 111, FREEZE),
        (replace(OFF, freeze_above=100, freeze_factor=10), {H - WEEK_HOURS: 50}, {}, 400, ALLOW),
        (replace(OFF, freeze_above=100, freeze_factor=10), {H - WEEK_HOURS - 1: 50}, {}, 400, FREEZE),
        # What is being judged does not excuse itself.
        (replace(OFF, freeze_above=100, freeze_factor=2), {H - 1: 200}, {}, 10, FREEZE),
        (replace(OFF, freeze_above=100, freeze_factor=2), {H: 200}, {}, 10, FREEZE),
        # Freezing comes before a limit that would only slow it down.
        (replace(OFF, freeze_above=100, freeze_factor=10, account_per_hour=50), {H: 90}, {}, 11, FREEZE),
    ],
)
def test_the_rule(
    limits: SendingLimits, account: dict[int, int], tenant: dict[int, int], recipients: int, ruling: Ruling
) -> None:
    assert decide(Sent(account, tenant), NOW, recipients, limits) is ruling


def test_whom_an_operator_trusts_is_limited_but_not_frozen() -> None:
    limits = replace(OFF, freeze_above=100, account_per_hour=300)
    assert decide(Sent({H: 200}, {}), NOW, 50, limits, trusted=True) is ALLOW
    assert decide(Sent({H: 300}, {}), NOW, 50, limits, trusted=True) is LATER


class Town:
    def __init__(self, data: Path) -> None:
        self.clock = FixedClock(NOW)
        self.keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), self.clock))
        Installation.create(data, self.keys, self.clock)
        self.data = data
        self.installation = Installation(data, self.keys, self.clock)
        provisioning = Provisioning(self.installation)
        self.tenant_id = provisioning.create_tenant("acme", "ACME").tenant_id
        domain = Domain.parse("acme.test")
        self.installation.control.add_domain(self.tenant_id, domain)
        self.installation.control.verify_domain(domain, None)
        self.accounts = [
            provisioning.create_account(self.tenant_id, EmailAddress.parse(f"{name}@acme.test")).account_id
            for name in ("ada", "bob")
        ]

    def send(self, account_id: AccountId, recipients: int, installation: Installation | None = None) -> str:
        queue_id = new_queue_id(self.clock)
        entry = NewEntry(
            queue_id,
            self.tenant_id,
            account_id,
            Origin.SUBMISSION,
            EmailAddress.parse("ada@acme.test"),
            EnvelopeParameters(),
            tuple(NewRecipient(EmailAddress.parse(f"r{n}@other.test")) for n in range(recipients)),
            self.clock.now() + 86_400,
            b"Subject: x\r\n\r\n",
        )
        (installation or self.installation).queue.enqueue([entry])
        return queue_id

    def states(self, queue_id: str) -> set[RecipientState]:
        return {recipient.state for recipient in self.installation.queue.show(queue_id).recipients}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    town = Town(tmp_path)
    yield town
    town.installation.close()


def test_what_was_sent_counts_whichever_process_took_it_and_after_a_restart(town: Town) -> None:
    ada, bob = town.accounts
    limits = SendingLimits(10, 0, 15, 0, 0, 1)
    other = Installation(town.data, town.keys, town.clock)
    town.send(ada, 4)
    town.send(ada, 4, other)
    for installation in (town.installation, other):
        sending = Sending(installation, limits)
        assert sending.admit(town.tenant_id, ada, 2) is ALLOW
        assert sending.admit(town.tenant_id, ada, 3) is LATER
        assert sending.admit(town.tenant_id, bob, 7) is ALLOW
        assert sending.admit(town.tenant_id, bob, 8) is LATER_TENANT
    other.close()
    again = Installation(town.data, town.keys, town.clock)
    assert Sending(again, limits).admit(town.tenant_id, ada, 3) is LATER
    again.close()
    town.clock.advance(7200)
    assert Sending(town.installation, limits).admit(town.tenant_id, ada, 10) is ALLOW


def test_a_tenant_has_values_of_its_own(town: Town) -> None:
    sending = Sending(town.installation, SendingLimits(account_per_hour=10))
    sending.set_limit(town.tenant_id, "account_per_hour", 3)
    assert sending.admit(town.tenant_id, town.accounts[0], 4) is LATER
    assert sending.limits(town.tenant_id) == SendingLimits(account_per_hour=3)
    sending.set_limit(town.tenant_id, "account_per_hour", None)
    assert sending.limits(town.tenant_id).account_per_hour == 10
    town.installation.tenant(town.tenant_id).set_setting("sending.account_per_hour", "many")
    assert sending.limits(town.tenant_id).account_per_hour == 10
    for name, value in (("per_hour", 1), ("account_per_hour", -1), ("freeze_factor", 0), ("account_per_day", 10**10)):
        with pytest.raises(InvalidInput):
            sending.set_limit(town.tenant_id, name, value)
    assert "account_per_hour" in LIMITS


def test_a_frozen_account_sends_nothing_and_its_queue_waits(town: Town) -> None:
    ada, bob = town.accounts
    sending = Sending(town.installation, SendingLimits(freeze_above=5))
    sent, others = town.send(ada, 2), town.send(bob, 2)
    assert sending.admit(town.tenant_id, ada, 4) is FREEZE
    assert sending.freeze(town.tenant_id, ada, "6 recipients in an hour")
    assert not sending.freeze(town.tenant_id, ada, "again")
    for recipients in (0, 1):
        assert sending.admit(town.tenant_id, ada, recipients) is Ruling.FROZEN
        assert sending.admit(town.tenant_id, bob, recipients) is ALLOW
    assert town.states(sent) == {RecipientState.HELD} and town.states(others) == {RecipientState.QUEUED}
    [frozen] = town.installation.tenant(town.tenant_id).frozen.all()
    assert (frozen.account_id, frozen.since, frozen.reason) == (ada, town.clock.now(), "6 recipients in an hour")
    again = Installation(town.data, town.keys, town.clock)  # it survives a restart
    assert Sending(again, SendingLimits()).admit(town.tenant_id, ada, 1) is Ruling.FROZEN
    again.close()

    assert sending.thaw(town.tenant_id, ada) == 1
    assert town.states(sent) == {RecipientState.QUEUED}
    assert sending.admit(town.tenant_id, ada, 10) is ALLOW  # an operator has just looked at it
    assert sending.freeze(town.tenant_id, ada, "the operator says so")
    assert sending.thaw(town.tenant_id, ada) == 1
    town.clock.advance(TRUSTED)
    assert sending.admit(town.tenant_id, ada, 20) is ALLOW  # ten times what it has sent in an hour
    assert sending.admit(town.tenant_id, ada, 21) is FREEZE


def test_a_thaw_that_was_interrupted_is_repeated(town: Town) -> None:
    ada = town.accounts[0]
    sending = Sending(town.installation, SendingLimits())
    sent = town.send(ada, 2)
    sending.freeze(town.tenant_id, ada, "x")
    town.installation.tenant(town.tenant_id).frozen.thaw(ada)  # and then the power went
    assert town.states(sent) == {RecipientState.HELD}
    assert sending.thaw(town.tenant_id, ada) == 1
    assert town.states(sent) == {RecipientState.QUEUED}


def test_a_deleted_account_leaves_no_row(town: Town) -> None:
    ada = town.accounts[0]
    Sending(town.installation, SendingLimits()).freeze(town.tenant_id, ada, "x")
    end_account(town.installation, town.tenant_id, ada)
    assert town.installation.tenant(town.tenant_id).frozen.all() == []


def test_retention_forgets_counts_and_decisions(town: Town) -> None:
    ada = town.accounts[0]
    sending = Sending(town.installation, SendingLimits())
    town.send(ada, 2)
    sending.freeze(town.tenant_id, ada, "x")
    sending.thaw(town.tenant_id, ada)
    assert remove_due(town.installation).rows == 0
    town.clock.advance(10 * 86_400)
    assert remove_due(town.installation).rows == 3  # the account's count, the tenant's, the decision
    assert town.installation.queue.sent_by_account(town.tenant_id, ada, 0) == {}
    assert remove_due(town.installation).rows == 0
