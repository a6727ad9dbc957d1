"""Legal holds: what they cover, when they are over, and who makes one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from storage.directory.holds import Hold, Holds
from storage.directory.provisioning import Provisioning
from storage.errors import Conflict, InvalidInput, NotFound, NotPermitted
from storage.values import AccountId, TenantId

DAY = 86_400
ANNE, BEN = AccountId(7), AccountId(8)


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    provisioning = Provisioning(premises)
    for slug in ("acme", "bolt"):
        provisioning.create_tenant(slug, slug.title())
    yield premises
    premises.close()


@pytest.fixture
def holds(premises: DirectoryPremises) -> Holds:
    return premises.control.holds


ACME, BOLT = TenantId(1), TenantId(2)


def held(
    premises: DirectoryPremises, account: AccountId | None = None, days: int = 10, hold_id: str | None = None
) -> Hold:
    ends = premises.clock.now() + days * DAY
    return premises.control.holds.add(
        ACME, account, ends=ends, reason="case 12/34", asked_by="olga", approved_by="paul", hold_id=hold_id
    )


@pytest.mark.parametrize(
    ("of", "tenant", "account", "covered"),
    [
        (None, ACME, None, True),
        (None, ACME, ANNE, True),
        (None, BOLT, None, False),
        (None, BOLT, ANNE, False),
        (ANNE, ACME, ANNE, True),
        (ANNE, ACME, BEN, False),
        (ANNE, ACME, None, True),  # the tenant cannot be erased without the account
        (ANNE, BOLT, ANNE, False),
    ],
)
def test_what_a_hold_covers(
    premises: DirectoryPremises,
    holds: Holds,
    of: AccountId | None,
    tenant: TenantId,
    account: AccountId | None,
    covered: bool,
) -> None:
    made = held(premises, of)
    assert holds.covers(tenant, account) is covered
    if covered:
        with pytest.raises(Conflict, match=made.hold_id):
            holds.check(tenant, account)
    else:
        holds.check(tenant, account)


def test_a_hold_ends_by_itself_and_a_certificate_still_hears_of_it(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises, days=10)
    premises.clock.advance(10 * DAY - 1)
    assert holds.in_force(ACME) == [made]
    premises.clock.advance(1)
    holds.check(ACME)
    assert holds.during(ACME, ANNE, made.begun) == [made]
    assert holds.during(ACME, ANNE, made.ends) == []
    with pytest.raises(Conflict, match="is over since"):
        holds.lift(made.hold_id, "paul")


def test_a_lifted_hold_holds_nothing(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises, ANNE)
    premises.clock.advance(DAY)
    lifted = holds.lift(made.hold_id, "paul")
    assert (lifted.over, lifted.lifted_by) == (made.begun + DAY, "paul")
    holds.check(ACME, ANNE)
    assert holds.during(ACME, BEN, 0) == []
    assert holds.all() == [lifted] == [holds.show(made.hold_id)]
    with pytest.raises(Conflict):
        holds.lift(made.hold_id, "paul")
    with pytest.raises(NotFound):
        holds.lift("0" * 16, "paul")


def test_the_reason_can_be_read_and_is_sealed(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises)
    assert holds.reason(made) == "case 12/34"


def test_what_was_approved_once_makes_one_hold(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises, hold_id="approved")
    premises.clock.advance(5)
    assert held(premises, hold_id="approved") == made
    assert holds.all() == [made]


@pytest.mark.parametrize(
    ("days", "reason", "approved_by", "error"),
    [
        (0, "case", "paul", InvalidInput),
        (-1, "case", "paul", InvalidInput),
        (4000, "case", "paul", InvalidInput),
        (10, "  ", "paul", InvalidInput),
        (10, "x" * 2001, "paul", InvalidInput),
        (10, "case", "olga", NotPermitted),
    ],
)
def test_what_is_no_hold(
    premises: DirectoryPremises, holds: Holds, days: int, reason: str, approved_by: str, error: type[Exception]
) -> None:
    ends = premises.clock.now() + days * DAY
    with pytest.raises(error):
        holds.add(ACME, None, ends=ends, reason=reason, asked_by="olga", approved_by=approved_by)
    assert holds.all() == []


def test_a_clock_that_is_set_back_lifts_no_hold(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises)
    premises.clock.jump(-90)
    assert made.in_force(premises.clock.now()) and holds.covers(ACME)
    with pytest.raises(Conflict, match=made.hold_id):
        holds.check(ACME)
    assert holds.during(ACME, None, 0) == [made]
    assert holds.lift(made.hold_id, "paul").lifted == premises.clock.now()
    holds.check(ACME)


def test_a_hold_has_not_ended_by_a_clock_that_is_not_believed(premises: DirectoryPremises, holds: Holds) -> None:
    made = held(premises)
    premises.clock.jump(3650 * DAY)
    holds.check(ACME)
    with pytest.raises(Conflict, match="not believed"):
        holds.check(ACME, ANNE, clock_is_believed=False)
    holds.check(BOLT, clock_is_believed=False)
    premises.clock.jump(-3650 * DAY)
    holds.lift(made.hold_id, "paul")
    holds.check(ACME, clock_is_believed=False)
