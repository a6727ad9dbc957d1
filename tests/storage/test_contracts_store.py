"""Contracts: what is agreed, who sets the end and when, what a limit stops, and what becomes of new mail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.directory.contracts import Contracts
from storage.directory.provisioning import Provisioning
from storage.directory.terms import GRACE, Contract, ContractLimits, Feature, Intake, is_early, parse_features
from storage.errors import Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.values import AccountId, Domain, EmailAddress, TenantId

DAY = 86_400
ACME, BOLT = TenantId(1), TenantId(2)


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    provisioning = Provisioning(premises)
    for slug in ("acme", "bolt"):
        provisioning.create_tenant(slug, slug.title())
    premises.control.add_domain(ACME, Domain("acme.test"))
    yield premises
    premises.close()


@pytest.fixture
def contracts(premises: DirectoryPremises) -> Contracts:
    return premises.control.contracts


def test_without_a_row_nothing_is_limited(premises: DirectoryPremises, contracts: Contracts) -> None:
    created = premises.control.tenant(ACME).created
    assert contracts.of(ACME) == Contract(ACME, created)
    assert contracts.find(ACME) is None
    assert contracts.intake(ACME) is Intake.OPEN
    assert not contracts.is_read_only(ACME)
    contracts.check_feature(ACME, Feature.ROUTES)
    contracts.check_open(ACME)
    assert (contracts.all(), contracts.due(2**40), contracts.contact(ACME)) == ([], [], None)
    with pytest.raises(NotFound):
        contracts.of(TenantId(99))
    with pytest.raises(NotFound):
        contracts.set_limits(TenantId(99), ContractLimits(accounts=1))


def test_what_was_agreed_stays(premises: DirectoryPremises, contracts: Contracts) -> None:
    limits = ContractLimits(3, 10**9, 2, frozenset({Feature.IMAP, Feature.FILTER}))
    contracts.set_limits(ACME, limits)
    contracts.set_terms(ACME, started=5, notice_days=30)
    contracts.set_terms(ACME, read_only_days=7)
    contracts.set_contact(ACME, EmailAddress.parse("boss@elsewhere.example"))
    found = contracts.of(ACME)
    assert (found.limits, found.started, found.notice_days, found.read_only_days) == (limits, 5, 30, 7)
    assert str(contracts.contact(ACME)) == "boss@elsewhere.example"
    contracts.set_contact(ACME, None)
    assert contracts.contact(ACME) is None
    assert contracts.all() == [found]
    contracts.check_feature(ACME, Feature.IMAP)
    with pytest.raises(NotPermitted, match="does not include 'routes'"):
        contracts.check_feature(ACME, Feature.ROUTES)


def test_who_set_the_end_is_known_and_it_can_be_taken_back(premises: DirectoryPremises, contracts: Contracts) -> None:
    ends = premises.clock.now() + 90 * DAY
    found = contracts.set_end(ACME, ends, "olga")
    assert (found.ends, found.ended_by) == (ends, "olga")
    assert contracts.of(ACME) == found
    assert contracts.ending(ends - 1) == []
    assert contracts.ending(ends) == [found]
    contracts.set_reminded(ACME, ends, 30)
    assert contracts.of(ACME).reminded == 30
    later = contracts.set_end(ACME, ends + DAY, "paul")
    assert (later.ended_by, contracts.of(ACME).reminded) == ("paul", 0)
    contracts.set_reminded(ACME, ends, 7)  # of an end that is no more
    assert contracts.of(ACME).reminded == 0
    assert contracts.set_end(ACME, None, "olga").ends is None
    assert contracts.due(2**40) == []


def test_an_end_that_is_reached_is_due_and_stands(premises: DirectoryPremises, contracts: Contracts) -> None:
    ends = premises.clock.now() + 90 * DAY
    contracts.set_end(ACME, ends, "olga")
    premises.clock.advance(90 * DAY - 1)
    assert contracts.due(premises.clock.now()) == []
    premises.clock.advance(1)
    assert [each.tenant_id for each in contracts.due(premises.clock.now())] == [ACME]
    for end in (None, ends + DAY):
        with pytest.raises(Conflict, match="has ended already"):
            contracts.set_end(ACME, end, "olga")


@pytest.mark.parametrize(
    ("days", "early", "error"),
    [
        (-1, False, InvalidInput),
        (0, True, InvalidInput),
        (29, False, NotPermitted),
        (29, True, None),
        (30, False, None),
        (400, False, None),
    ],
)
def test_the_period_of_notice(
    premises: DirectoryPremises, contracts: Contracts, days: int, early: bool, error: type[Exception] | None
) -> None:
    contracts.set_terms(ACME, notice_days=30)
    ends = premises.clock.now() + days * DAY
    if error is None:
        assert contracts.set_end(ACME, ends, "olga", early=early).ends == ends
    else:
        with pytest.raises(error):
            contracts.set_end(ACME, ends, "olga", early=early)
        assert contracts.of(ACME).ends is None


def test_the_day_of_notice_counts_whole() -> None:
    noon = 20_000 * DAY + DAY // 2
    contract = Contract(ACME, 0, notice_days=30)
    assert not is_early(contract, 20_030 * DAY, noon)  # midnight, 30 dates later
    assert is_early(contract, 20_030 * DAY - 1, noon)


@pytest.mark.parametrize(
    ("before_end", "window", "intake", "read_only"),
    [
        (8 * DAY, 7, Intake.OPEN, False),
        (7 * DAY, 7, Intake.DEFERRED, True),
        (7 * DAY - GRACE + 1, 7, Intake.DEFERRED, True),
        (7 * DAY - GRACE, 7, Intake.CLOSED, True),
        (1, 7, Intake.CLOSED, True),
        (1, 0, Intake.OPEN, False),
        (0, 0, Intake.DEFERRED, True),  # until the erasure has begun
        (-GRACE, 0, Intake.CLOSED, True),
        (DAY, 2, Intake.DEFERRED, True),  # a short window: whoever has moved loses nothing
    ],
)
def test_the_window_before_the_end(before_end: int, window: int, intake: Intake, read_only: bool) -> None:
    contract = Contract(ACME, 0, ends=10_000 * DAY, read_only_days=window)
    now = 10_000 * DAY - before_end
    assert (contract.intake(now), contract.is_read_only(now)) == (intake, read_only)


def test_above_its_storage_a_tenant_gets_no_new_mail(premises: DirectoryPremises, contracts: Contracts) -> None:
    contracts.set_limits(ACME, ContractLimits(bytes=1000))
    contracts.set_used(ACME, 1000)
    assert contracts.intake(ACME) is Intake.OPEN
    contracts.set_used(ACME, 1001)
    assert contracts.intake(ACME) is Intake.FULL
    assert contracts.intake(BOLT) is Intake.OPEN
    assert [each.measured for each in contracts.with_storage_limit()] == [premises.clock.now()]
    contracts.set_limits(ACME, ContractLimits())
    assert (contracts.intake(ACME), contracts.with_storage_limit()) == (Intake.OPEN, [])


def test_taking_data_along_is_for_everybody_once_an_end_is_set(
    premises: DirectoryPremises, contracts: Contracts
) -> None:
    contracts.set_limits(ACME, ContractLimits(features=frozenset({Feature.IMAP})))
    with pytest.raises(NotPermitted):
        contracts.check_feature(ACME, Feature.EXPORT)
    contracts.set_end(ACME, premises.clock.now() + DAY, "olga")
    contracts.check_feature(ACME, Feature.EXPORT)
    with pytest.raises(NotPermitted):
        contracts.check_feature(ACME, Feature.SUBMISSION)


def address(name: str) -> EmailAddress:
    return EmailAddress.parse(f"{name}@acme.test")


def test_accounts_are_limited(premises: DirectoryPremises, contracts: Contracts) -> None:
    provisioning = Provisioning(premises)
    contracts.set_limits(ACME, ContractLimits(accounts=2))
    ann = provisioning.create_account(ACME, address("ann"))
    provisioning.create_account(ACME, address("ben"))
    with pytest.raises(LimitReached, match="allows 2 accounts"):
        provisioning.create_account(ACME, address("cat"))
    premises.end_account(ACME, ann.account_id)
    provisioning.create_account(ACME, address("cat"))
    contracts.set_limits(ACME, ContractLimits(accounts=1))  # what is there stays
    assert len(premises.tenant(ACME).accounts()) == 2


def test_two_accounts_at_once_do_not_exceed_the_limit(premises: DirectoryPremises, contracts: Contracts) -> None:
    provisioning = Provisioning(premises)
    contracts.set_limits(ACME, ContractLimits(accounts=3))

    def create(number: int) -> bool:
        try:
            provisioning.create_account(ACME, address(f"user{number}"))
        except LimitReached:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(create, range(16))) == 3
    assert len(premises.tenant(ACME).accounts()) == 3


def test_quotas_together_are_limited(premises: DirectoryPremises, contracts: Contracts) -> None:
    provisioning = Provisioning(premises)
    contracts.set_limits(ACME, ContractLimits(bytes=1000))
    ann = provisioning.create_account(ACME, address("ann"), quota_bytes=600)
    with pytest.raises(LimitReached, match="would be 1001 together"):
        provisioning.create_account(ACME, address("ben"), quota_bytes=401)
    ben = provisioning.create_account(ACME, address("ben"), quota_bytes=400)
    provisioning.create_account(ACME, address("cat"))  # without one: what it stores counts when it is measured

    def set_quota(account: AccountId, octets: int) -> None:
        provisioning.set_quota(ACME, account, quota_bytes=octets, quota_messages=0)

    with pytest.raises(LimitReached):
        set_quota(ben.account_id, 401)
    set_quota(ann.account_id, 500)
    set_quota(ben.account_id, 500)
    contracts.set_limits(ACME, ContractLimits(bytes=600))
    set_quota(ben.account_id, 300)  # less is always possible
    with pytest.raises(LimitReached):
        set_quota(ben.account_id, 301)


def test_domains_are_limited(premises: DirectoryPremises, contracts: Contracts) -> None:
    contracts.set_limits(ACME, ContractLimits(domains=2))
    premises.control.add_domain(ACME, Domain("more.test"))
    with pytest.raises(LimitReached, match="allows 2 domains"):
        premises.control.add_domain(ACME, Domain("third.test"))
    premises.control.add_domain(BOLT, Domain("third.test"))


def test_nothing_is_made_in_the_window(premises: DirectoryPremises, contracts: Contracts) -> None:
    contracts.set_terms(ACME, read_only_days=5)
    contracts.set_end(ACME, premises.clock.now() + 4 * DAY, "olga")
    with pytest.raises(NotPermitted, match="The contract ends"):
        Provisioning(premises).create_account(ACME, address("ann"))


@pytest.mark.parametrize(
    "change",
    [
        lambda contracts: contracts.set_limits(ACME, ContractLimits(accounts=-1)),
        lambda contracts: contracts.set_limits(ACME, ContractLimits(bytes=10**19)),
        lambda contracts: contracts.set_terms(ACME, notice_days=-1),
        lambda contracts: contracts.set_terms(ACME, read_only_days=4000),
        lambda contracts: parse_features(["imap", "telnet"]),
    ],
)
def test_what_is_not_agreed(contracts: Contracts, change: Callable[[Contracts], object]) -> None:
    with pytest.raises(InvalidInput):
        change(contracts)
    assert contracts.all() == []


def test_a_contract_does_not_begin_after_its_end(premises: DirectoryPremises, contracts: Contracts) -> None:
    ends = premises.clock.now() + 10 * DAY
    contracts.set_end(ACME, ends, "olga")
    with pytest.raises(InvalidInput, match="after it has begun"):
        contracts.set_terms(ACME, started=ends + 1)
    assert contracts.set_terms(ACME, started=ends - DAY).started == ends - DAY
