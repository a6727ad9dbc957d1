"""What a certificate says that remains: by the register and the periods in force, and no class is forgotten."""

from __future__ import annotations

import pytest

from storage.certificates.remaining import ALWAYS, IF_ANY, OF_CUSTOMERS, OF_CUSTOMERS_IF_ANY, remaining
from storage.register import classes
from storage.register.periods import Periods
from storage.register.values import DataClass, Erasure, Kept, Whose

AT, DAY = 1_780_000_000, 86_400
EVERY = [value for value in vars(classes).values() if isinstance(value, DataClass)]

# Classes with a period or a holder of their own that an erasure takes along: they lie in databases of the tenant or of
# the account, or its rows are removed wherever they stand.
TAKEN_ALONG = {
    *(Kept.ACCOUNT, Kept.CONTRACT, Kept.QUEUE, Kept.QUARANTINE, Kept.FORWARDING, Kept.EXPERIENCE, Kept.SENDING),
    Kept.WORK,
}


@pytest.mark.parametrize("preset", ["standard", "short_transcripts"])
def test_the_times_are_the_policy_s(preset: str) -> None:
    periods = Periods.of_preset(preset)
    found = {each.data_class: each for each in remaining(periods, AT, whole=True)}
    transcripts = periods.of(Kept.TRANSCRIPTS).ceiling_days
    assert transcripts is not None
    assert found["transcripts"].until == AT + transcripts * DAY
    assert found["erasures"].until == AT + 3654 * DAY
    assert found["audit"].until == AT + 3654 * DAY
    assert found["audit"].basis == "law"
    assert found["holds"].title.endswith(" (where there were any)")


def test_an_account_leaves_nothing_of_the_contract() -> None:
    names = {each.data_class for each in remaining(Periods.of_preset(), AT, whole=False)}
    assert {"transcripts", "access_events", "traces"} <= names
    assert {"contracts", "staff"}.isdisjoint(names)


@pytest.mark.parametrize(("whole", "what"), [(True, "domains"), (False, "withheld")])
def test_backups_are_named_until_the_last_of_them_has_gone(whole: bool, what: str) -> None:
    periods = Periods.of_preset()
    [found] = [each for each in remaining(periods, AT, whole=whole) if each.data_class == "backups"]
    assert what in found.title
    assert found.until == AT + (periods.of(Kept.BACKUPS).ceiling_days or 0) * DAY


def test_every_class_that_outlives_a_tenant_is_named() -> None:
    named = {*ALWAYS, *OF_CUSTOMERS, *IF_ANY, *OF_CUSTOMERS_IF_ANY, classes.BACKUPS}
    forgotten = [
        each.name
        for each in EVERY
        if each not in named
        and each.kept not in TAKEN_ALONG
        and each.whose & {Whose.USER, Whose.CORRESPONDENT, Whose.CUSTOMER}
        and each.erasure is not Erasure.NEVER
    ]
    assert forgotten == []
