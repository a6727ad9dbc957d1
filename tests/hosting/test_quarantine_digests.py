"""Digests: who gets one, of what, once a day; and the other work of the round."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from quarantine_place import ALICE, BOB, DAY, MALLORY, ONE, TWO, Place, forwarded, routed, to_mailbox

from gateway.classifier.model import Models
from gateway.policy.rules import Rules
from gateway.policy.settings import FilterSettings
from gateway.quarantine.digest import NOTICE
from hosting.config import Config
from hosting.learning_round import LearningRound
from hosting.quarantine.digests import SETTING, Digests
from hosting.quarantine_round import quarantine_round
from storage.directory.provisioning import Provisioning
from storage.directory.resolve import POSTMASTER_SETTING
from storage.filter.rules import WHOLE_TENANT, of_account
from storage.quarantine.values import HeldState, Query, ReleasedBy
from storage.values import AccountId, TenantId, UidSet

HOUR = 3600


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def digests(place: Place, digest: str = "recipients", hour: int = 7) -> Digests:
    rules = replace(Rules(), digest=digest)
    return Digests(place.installation, place.quarantine, place.resolver, rules, hour, "mail.test")


def texts(place: Place, account_id: AccountId = ALICE, tenant_id: TenantId = ONE) -> list[str]:
    found = [message.decode() for message in place.inbox(account_id, tenant_id)]
    return [text.partition("\r\n\r\n")[2] for text in found if NOTICE in text]


def test_each_recipient_is_told_of_his_own(place: Place) -> None:
    both, bobs = place.held("both", to_mailbox(), to_mailbox(BOB)), place.held("bobs", to_mailbox(BOB))
    place.held("twos", to_mailbox(MALLORY), tenant_id=TWO)
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 2
    [alices], [others] = texts(place), texts(place, BOB)
    assert both in alices and bobs not in alices and "bob@" not in alices
    assert both in others and bobs in others
    assert texts(place, MALLORY, TWO) == []
    assert digests(place).send_due(TWO) == 1
    assert len(texts(place, MALLORY, TWO)) == 1


def test_once_a_day_and_only_what_is_new(place: Place) -> None:
    first = place.held("first")
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 1
    second = place.held("second")
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 0
    place.clock.advance(DAY)
    assert digests(place).send_due(ONE) == 1
    told = texts(place)
    assert len(told) == 2 and first in told[0] and first not in told[1] and second in told[1]
    place.clock.advance(DAY)
    assert digests(place).send_due(ONE) == 0, "there is nothing new"
    place.clock.advance(DAY)
    place.held("third")
    assert digests(place).send_due(ONE) == 0, "it has only just arrived; the next one tells of it"
    place.clock.advance(DAY)
    assert digests(place).send_due(ONE) == 1


def test_not_before_the_hour(place: Place) -> None:
    place.held()
    assert datetime.fromtimestamp(place.clock.now(), UTC).hour == 15
    place.clock.advance(HOUR)
    assert digests(place, hour=17).send_due(ONE) == 0
    place.clock.advance(HOUR)
    assert digests(place, hour=17).send_due(ONE) == 1


def test_what_was_settled_is_not_told(place: Place) -> None:
    gone, shared = place.held("gone"), place.held("shared", to_mailbox(), to_mailbox(BOB))
    place.rows().delete(gone, [0])
    place.rows().delete(shared, [0])
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 1
    assert texts(place) == [] and len(texts(place, BOB)) == 1


def test_off_by_default_and_by_the_rules_of_tenant_and_account(place: Place) -> None:
    place.held("token", to_mailbox(), to_mailbox(BOB))
    place.clock.advance(HOUR)
    assert digests(place, "off").send_due(ONE) == 0
    assert place.installation.tenant(ONE).setting(SETTING) is None
    rules = place.installation.tenant(ONE).filter_rules
    rules.set_rule(WHOLE_TENANT, "digest", "recipients")
    rules.set_rule(of_account(BOB), "digest", "off")
    assert digests(place, "off").send_due(ONE) == 1
    assert (len(texts(place)), len(texts(place, BOB))) == (1, 0)


def test_administrators_are_told_of_everybody(place: Place) -> None:
    """Who gets postmaster's mail."""
    held = [place.held("a", to_mailbox()), place.held("b", to_mailbox(BOB)), place.held("c", forwarded())]
    place.installation.tenant(ONE).set_setting(POSTMASTER_SETTING, "bob@one.test")
    place.clock.advance(HOUR)
    assert digests(place, "administrators").send_due(ONE) == 1
    assert texts(place) == []
    [told] = texts(place, BOB)
    assert all("cleanmail quarantine" in told and quarantine_id in told for quarantine_id in held)
    assert "alice@one.test" in told and "away@one.test" in told


def test_administrators_elsewhere_get_it_through_the_queue(place: Place) -> None:
    place.held()
    place.installation.tenant(ONE).set_setting(POSTMASTER_SETTING, "ops@provider.example")
    place.clock.advance(HOUR)
    assert digests(place, "administrators").send_due(ONE) == 1
    [summary] = place.installation.queue.entries()
    entry = place.installation.queue.show(summary.queue_id)
    assert (entry.held, entry.reverse_path, entry.origin) == (False, None, "notice")
    assert [str(each.address) for each in entry.recipients] == ["ops@provider.example"]
    assert NOTICE.encode() in place.installation.queue.content(entry)


def test_administrators_elsewhere_of_two_tenants_each_get_theirs(place: Place) -> None:
    place.held("of one")
    place.held("of two", to_mailbox(MALLORY), tenant_id=TWO)
    for tenant_id in (ONE, TWO):
        place.installation.tenant(tenant_id).set_setting(POSTMASTER_SETTING, "ops@provider.example")
    place.clock.advance(HOUR)
    assert [digests(place, "administrators").send_due(tenant_id) for tenant_id in (ONE, TWO)] == [1, 1]
    assert {summary.tenant_id for summary in place.installation.queue.entries()} == {ONE, TWO}


def test_recipients_at_the_tenants_own_server_get_it_there(place: Place) -> None:
    place.held("token", routed(), routed("dora@one.test"))
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 2
    entries = [place.installation.queue.show(each.queue_id) for each in place.installation.queue.entries()]
    assert {str(each.address): each.destination for entry in entries for each in entry.recipients} == {
        "carol@one.test": "route:one.test",
        "dora@one.test": "route:one.test",
    }


def test_a_plan_that_cannot_be_read_costs_one_day(place: Place) -> None:
    place.held()
    place.installation.tenant(ONE).set_setting(SETTING, "{}")
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 0


def test_nothing_is_learned_from_a_digest(place: Place) -> None:
    place.held()
    place.clock.advance(HOUR)
    assert digests(place).send_due(ONE) == 1
    with place.installation.account(ONE, ALICE) as account:
        inbox, junk = account.mailboxes.find("INBOX"), account.mailboxes.find("Junk")
        account.messages.move(inbox.id, UidSet.of([1]), junk.id)
        assert len(account.opinions.waiting(9)) == 1
    models = Models(place.data / "no model", place.clock)
    assert LearningRound(place.installation, models, Rules()).learn(ONE, ALICE) == {}
    assert not place.installation.tenant(ONE).corrections.revisions(ALICE).own


# The round


def test_the_round_sends_digests(place: Place) -> None:
    place.held()
    place.clock.advance(DAY)
    config = Config(filter=FilterSettings(digest_hour=0, rules=replace(Rules(), digest="recipients")))
    quarantine_round(place.installation, config)
    quarantine_round(place.installation, config)
    assert len(texts(place)) == 1


def test_a_tenant_that_is_suspended_gets_none(place: Place) -> None:
    place.held()
    place.clock.advance(DAY)
    Provisioning(place.installation).suspend_tenant(ONE)
    config = Config(filter=FilterSettings(digest_hour=0, rules=replace(Rules(), digest="recipients")))
    quarantine_round(place.installation, config)
    assert texts(place) == []


def test_what_the_round_releases_teaches_the_filter(place: Place) -> None:
    quarantine_id = place.held()
    place.rows().begin_release(quarantine_id, [0], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="dead")
    quarantine_round(place.installation, Config())
    assert place.installation.tenant(ONE).corrections.revisions(ALICE).own


def test_the_round_goes_on_with_what_was_interrupted_in_every_tenant(place: Place) -> None:
    for tenant_id, account_id in ((ONE, ALICE), (TWO, MALLORY)):
        quarantine_id = place.held("token", to_mailbox(account_id), tenant_id=tenant_id)
        place.rows(tenant_id).begin_release(
            quarantine_id, [0], release_id="x", by=ReleasedBy.RECIPIENT, incarnation="dead"
        )
    quarantine_round(place.installation, Config())
    assert (len(place.inbox()), len(place.inbox(MALLORY, TWO))) == (1, 1)
    assert place.rows().find(Query(state=HeldState.RELEASING)) == []
