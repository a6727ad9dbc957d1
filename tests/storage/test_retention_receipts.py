"""Each pass leaves a receipt for each class; what is older than its ceiling is an alarm; holds and clocks are heard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from quarantine_place import ALICE, DAY, ONE, TWO, Place
from sqlalchemy import insert as sql_insert

from storage.database.prepared import prepare
from storage.errors import StorageFull, Unavailable
from storage.filter.counts import Judged
from storage.filter.reputation import domain_subject
from storage.logs.access import AccessEvent
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, new_queue_id
from storage.queue.sts import StsMode, StsPolicy
from storage.register.folder_rules import FolderRules
from storage.register.periods import Periods
from storage.register.values import Kept
from storage.retention import Removed, measure, remove_due
from storage.retention.removers import INSTALLATION, TENANT
from storage.schema.control import metadata
from storage.schema.queue import sent
from storage.values import UID_MAX, AccountId, Domain, EmailAddress, TenantId

BUSINESS = 3654 * DAY


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def insert(where: Place, name: str, /, **values: object) -> None:
    """A row; columns that are not named have a value without meaning."""
    table = metadata.tables.get(name, sent)
    database = where.installation.queue.database if table is sent else where.installation.control.database
    for column in table.columns:
        nothing = {int: 0, str: "", bytes: b""}[column.type.python_type]
        values.setdefault(column.name, None if column.nullable else nothing)
    statement = prepare(sql_insert(table))
    database.write(lambda transaction: statement.run(transaction, **values))


def count(place: Place, table: str) -> int:
    with place.installation.control.database.reading() as connection:
        [(number,)] = connection.driver.execute(f"SELECT count(*) FROM {table}").fetchall()
    return int(number)


def removed_of(removed: Removed, name: str) -> int:
    [receipt] = [each for each in removed.receipts if each.data_class == name]
    return receipt.removed


def test_a_pass_leaves_a_receipt_of_each_class(place: Place) -> None:
    removed = remove_due(place.installation)
    of_accounts = {"mail", "collections", "scheduling"}
    expected = {each.of.name for each in INSTALLATION} | {each.of.name for each in TENANT} | of_accounts
    assert {each.data_class for each in removed.receipts} == expected
    kept = place.installation.control.receipts
    assert {name: each.time for name, each in kept.last().items()} == dict.fromkeys(expected, place.clock.now())
    assert not any(each.overdue or each.failed or each.removed for each in kept.last().values())
    place.clock.advance(3600)
    remove_due(place.installation)
    assert len(kept.newest(1000)) == 2 * len(expected)
    assert [each.time for each in kept.newest(10, data_class="traces")] == [place.clock.now(), place.clock.now() - 3600]
    assert len(kept.newest(1000, since=place.clock.now())) == len(expected) and len(kept.newest(3)) == 3


def test_receipts_tell_the_cut_off_and_what_is_left(place: Place) -> None:
    srs = place.installation.tenant(ONE).srs
    srs.token(EmailAddress.parse("old@far.test"))
    place.clock.advance(10 * DAY)
    srs.token(EmailAddress.parse("new@far.test"))
    begun = place.clock.now()
    place.clock.advance(14 * DAY)
    receipt = {each.data_class: each for each in remove_due(place.installation).receipts}["forwarded_senders"]
    assert (receipt.removed, receipt.oldest, receipt.overdue) == (1, begun, False)
    assert receipt.cut_off == place.clock.now() - 23 * DAY


def test_receipts_go_too(place: Place) -> None:
    remove_due(place.installation)
    classes = count(place, "receipt")
    place.clock.advance(401 * DAY)
    assert removed_of(remove_due(place.installation), "receipts") == classes
    assert count(place, "receipt") == classes


def test_business_records_go_after_ten_years(place: Place) -> None:
    now = place.clock.now()
    for tenant_id in (99, int(ONE)):
        insert(place, "contract", tenant_id=tenant_id, ends=now)
    insert(place, "tenant", tenant_id=99, slug="ended-99", state="ended")
    insert(place, "ending", ending_id="e", finished=now)
    insert(place, "ending", ending_id="f")
    insert(place, "secrecy_agreement", agreement_id=1, ended=now)
    insert(place, "secrecy_agreement", agreement_id=2)
    tables = ("contract", "ending", "secrecy_agreement")
    place.clock.advance(BUSINESS - DAY - 1)
    remove_due(place.installation)
    assert [count(place, table) for table in tables] == [2, 2, 2]
    place.clock.advance(DAY)
    remove_due(place.installation)
    # A contract that runs, an erasure that is not finished and an agreement in force have no age.
    assert [count(place, table) for table in tables] == [1, 1, 1]


def test_a_contract_without_an_end_is_over_when_its_tenant_was_erased(place: Place) -> None:
    """Most contracts end early, or by an order: what was written as their end says nothing then."""
    now = place.clock.now()
    for tenant_id, ends in ((98, None), (99, now + 5 * BUSINESS)):
        insert(place, "tenant", tenant_id=tenant_id, slug=f"ended-{tenant_id}", state="ended")
        insert(place, "contract", tenant_id=tenant_id, ends=ends)
        insert(place, "ending", ending_id=str(tenant_id), tenant_id=tenant_id, finished=now)
    place.clock.advance(BUSINESS - DAY - 1)
    remove_due(place.installation)
    assert (count(place, "contract"), count(place, "ending")) == (2, 2)
    place.clock.advance(3 * DAY)
    assert "contracts" in {each.of.name for each in measure(place.installation) if each.overdue}
    remove_due(place.installation)
    assert (count(place, "contract"), count(place, "ending")) == (0, 0)


def test_the_row_of_an_erasure_stays_as_long_as_the_contract_whose_age_it_tells(place: Place) -> None:
    now = place.clock.now()
    insert(place, "tenant", tenant_id=98, slug="ended-98", state="ended")
    insert(place, "contract", tenant_id=98)
    insert(place, "ending", ending_id="e", tenant_id=98, finished=now)
    insert(place, "legal_hold", hold_id="h", tenant_id=98, ends=now + 2 * BUSINESS)
    place.clock.advance(BUSINESS)
    remove_due(place.installation)
    assert (count(place, "contract"), count(place, "ending")) == (1, 1)
    assert not any(each.overdue for each in measure(place.installation))


@pytest.mark.parametrize("state", ["waiting", "wrong", "right", "seen"])
def test_a_review_goes_in_its_time_whatever_became_of_it(place: Place, state: str) -> None:
    """One that nobody looked at, too: what is published has no exception."""
    insert(place, "review", tenant_id=ONE, quarantine_id="q", asked=place.clock.now(), state=state)
    place.clock.advance(400 * DAY)
    assert removed_of(remove_due(place.installation), "reviews") == 0
    place.clock.advance(1)
    assert removed_of(remove_due(place.installation), "reviews") == 1


def test_sessions_and_people_who_left(place: Place) -> None:
    now = place.clock.now()
    insert(place, "staff", staff_id=1, name="a", ended=now)
    insert(place, "staff", staff_id=2, name="b")
    insert(place, "staff_session", token_hash=b"1", expires=now + 10)
    insert(place, "staff_session", token_hash=b"2", expires=now + 400 * DAY)
    place.clock.advance(11)
    remove_due(place.installation)
    assert (count(place, "staff"), count(place, "staff_session")) == (2, 1)
    place.clock.advance(366 * DAY)
    remove_due(place.installation)
    assert (count(place, "staff"), count(place, "staff_session")) == (1, 1)


def test_what_is_older_than_its_ceiling_is_an_alarm(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Backups are removed by others: retention only sees that nobody did."""
    insert(place, "backup", backup_id="b", made=place.clock.now())
    place.clock.advance(219 * DAY)
    assert not any(each.overdue for each in measure(place.installation))
    place.clock.advance(DAY + 3 * 3600)
    assert [each.of.name for each in measure(place.installation) if each.overdue] == ["backups"]
    removed = remove_due(place.installation)
    assert [each.data_class for each in removed.receipts if each.overdue] == ["backups"]
    assert "retention: backups: something is older than its ceiling" in caplog.text
    assert place.installation.control.receipts.last()["backups"].overdue


@pytest.mark.parametrize("error", [StorageFull(), OSError("mistake"), KeyError("mistake")])
def test_a_part_that_fails_is_counted_and_keeps_nothing_else_from_going(
    place: Place, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(_: Judged, before: int | None = None) -> int:
        raise error

    monkeypatch.setattr(Judged, "remove_expired", full)
    removed = remove_due(place.installation)
    assert removed.failed == 1
    assert [each.data_class for each in removed.receipts if each.failed] == ["verdict_counts"]
    assert place.installation.control.receipts.last()["verdict_counts"].failed == 1


def test_the_rule_of_withheld_mail_counts_and_no_more_than_the_period(place: Place) -> None:
    place.held("short")
    place.held("long", expires=place.clock.now() + 300 * DAY)
    place.installation.periods = Periods.of_preset("standard", {Kept.QUARANTINE: 100})
    place.clock.advance(31 * DAY)
    assert removed_of(remove_due(place.installation), "withheld") == 1
    place.clock.advance(67 * DAY)
    assert removed_of(remove_due(place.installation), "withheld") == 0
    place.clock.advance(DAY + 1)
    assert removed_of(remove_due(place.installation), "withheld") == 1
    assert place.files() == []


def test_shorter_periods_are_kept(place: Place) -> None:
    now = place.clock.now()
    place.installation.access_log.record(AccessEvent(now, "sign_in", "success", "imap", ONE, ALICE, b"", "192.0.2.1"))
    place.installation.flush_logs()
    place.installation.periods = Periods.of_preset("standard", {Kept.ACCESS: 30})
    place.clock.advance(31 * DAY)
    assert "access" in remove_due(place.installation).days


def test_what_is_known_of_senders_and_servers_has_the_period_that_was_chosen(place: Place) -> None:
    installation, now, far = place.installation, place.clock.now(), Domain("far.test")
    installation.periods = Periods.of_preset("standard", {Kept.EXPERIENCE: 60})
    policy = StsPolicy(far, "1", StsMode.ENFORCE, 365 * DAY, ("mx.far.test",), now, now + 365 * DAY)
    installation.queue.sts.put(policy)
    reputation = installation.tenant(ONE).reputation
    reputation.record([domain_subject(far)], ham=1.0)
    reputation.flush()
    place.clock.advance(59 * DAY)
    assert remove_due(installation).rows == 0
    place.clock.advance(1)
    removed = remove_due(installation)
    assert (removed_of(removed, "other_servers"), removed_of(removed, "experience")) == (1, 1)


def hold(place: Place, tenant_id: TenantId, account_id: AccountId) -> None:
    now = place.clock.now()
    insert(place, "legal_hold", hold_id="h", tenant_id=tenant_id, account_id=account_id, begun=now, ends=now + 90 * DAY)


def in_trash(place: Place, account_id: AccountId) -> int:
    with place.installation.account(ONE, account_id) as account:
        trash = account.mailboxes.find("Trash")
        return len(account.messages.fetch_rows(trash.id, 1, UID_MAX, ("uid",)))


def test_what_a_hold_covers_stays_and_goes_when_it_is_over(place: Place) -> None:
    place.installation.folder_rules = FolderRules.parse(["Trash=5"])
    for tenant_id in (ONE, TWO):
        place.installation.tenant(tenant_id).srs.token(EmailAddress.parse("a@far.test"))
        place.held(tenant_id=tenant_id)
        for row in place.installation.tenant(tenant_id).accounts():
            with place.installation.account(tenant_id, row.account_id) as account:
                account.messages.append(account.mailboxes.find("Trash").id, b"Subject: x\r\n\r\n")
    hold(place, ONE, ALICE)
    place.clock.advance(40 * DAY)
    removed = remove_due(place.installation)
    assert (removed_of(removed, "withheld"), removed_of(removed, "forwarded_senders")) == (1, 1)  # the other tenant's
    assert len(place.files(ONE)) == 2 and place.files(TWO) == []
    assert not any(each.overdue for each in removed.receipts)
    assert removed.messages == 2 and in_trash(place, ALICE) == 1  # of bob and mallory
    place.clock.advance(60 * DAY)
    removed = remove_due(place.installation)
    assert (removed_of(removed, "withheld"), removed_of(removed, "forwarded_senders"), removed.messages) == (1, 1, 1)


def test_what_stands_elsewhere_about_a_held_tenant_stays_too(place: Place) -> None:
    installation = place.installation
    hour = place.clock.now() // 3600
    for tenant_id in (ONE, TWO):
        insert(place, "review", tenant_id=tenant_id, quarantine_id="q", asked=place.clock.now(), state="right")
        insert(place, "sent", tenant_id=tenant_id, account_id=1, hour=hour, recipients=1)
    insert(place, "legal_hold", hold_id="h", tenant_id=ONE, begun=0, ends=place.clock.now() + 500 * DAY)
    place.clock.advance(450 * DAY)
    removed = remove_due(installation)
    assert (removed_of(removed, "reviews"), removed_of(removed, "sending")) == (1, 1)
    assert count(place, "review") == 1 and sum(installation.queue.sent_by_account(ONE, AccountId(1), 0).values()) == 1
    assert not any(each.overdue for each in [*removed.receipts, *measure(installation)])
    place.clock.advance(51 * DAY)
    removed = remove_due(installation)
    assert (removed_of(removed, "reviews"), removed_of(removed, "sending")) == (1, 1)


def test_mail_that_an_operator_holds_has_its_time_in_the_queue_as_well(place: Place) -> None:
    queue, [to] = place.installation.queue, [NewRecipient(EmailAddress.parse("x@far.test"))]
    ids = []
    for tenant_id in (ONE, TWO):
        ids.append(new_queue_id(place.clock))
        expires, parameters = place.clock.now() + 5 * DAY, EnvelopeParameters()
        queue.enqueue([NewEntry(ids[-1], tenant_id, None, Origin.MX, None, parameters, (to,), expires, b"x", True)])
    insert(place, "legal_hold", hold_id="h", tenant_id=ONE, begun=0, ends=place.clock.now() + 60 * DAY)
    place.clock.advance(30 * DAY)
    assert removed_of(remove_due(place.installation), "queue") == 0
    place.clock.advance(1)
    removed = remove_due(place.installation)
    assert removed_of(removed, "queue") == 1 and queue.expired(place.clock.now(), 9) == ids[1:]
    queue.withdraw(ids[1])  # as the runner settles it
    place.clock.advance(5 * DAY)
    removed = remove_due(place.installation)
    assert not any(each.overdue for each in [*removed.receipts, *measure(place.installation)])
    place.clock.advance(30 * DAY)
    assert removed_of(remove_due(place.installation), "queue") == 1


def during_a_pass(place: Place, do: Callable[[], object]) -> Callable[[], bool]:
    """For `stopping`, which is asked before each tenant: does something once, when the first is about to be next."""
    waiting = [do]

    def stopping() -> bool:
        while waiting:
            waiting.pop()()
        return False

    return stopping


def test_a_hold_counts_in_the_pass_that_is_under_way(place: Place) -> None:
    for tenant_id in (ONE, TWO):
        place.held(tenant_id=tenant_id)
    place.clock.advance(40 * DAY)
    removed = remove_due(place.installation, stopping=during_a_pass(place, lambda: hold(place, ONE, ALICE)))
    assert removed_of(removed, "withheld") == 1 and len(place.files(ONE)) == 2


@pytest.mark.parametrize("days", [3650, -3650])
def test_a_clock_that_jumps_during_a_pass_stops_it(place: Place, days: int) -> None:
    place.held()
    with pytest.raises(Unavailable, match="clock"):
        remove_due(place.installation, stopping=during_a_pass(place, lambda: place.clock.jump(days * DAY)))
    assert len(place.files()) == 2 and place.installation.control.receipts.last() == {}


def test_a_clock_that_is_not_believed_stops_everything(place: Place) -> None:
    place.held()
    place.clock.jump(10 * 366 * DAY)
    with pytest.raises(Unavailable, match="ahead"):
        remove_due(place.installation)
    assert len(place.files()) == 2 and place.installation.control.receipts.last() == {}
    place.clock.jump(-20 * 366 * DAY)
    with pytest.raises(Unavailable, match="behind"):
        remove_due(place.installation)
    place.clock.jump(20 * 366 * DAY)
    place.installation.clock_guard.confirm()
    assert removed_of(remove_due(place.installation), "withheld") == 1


def test_a_pass_that_is_stopped_goes_on_the_next_time(place: Place) -> None:
    for tenant_id in (ONE, TWO):
        place.held(tenant_id=tenant_id)
    place.clock.advance(31 * DAY)
    asked = 0

    def stopping() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    removed = remove_due(place.installation, stopping=stopping)
    assert removed.rows == 1 and removed.receipts == []
    assert removed_of(remove_due(place.installation), "withheld") == 1


def test_the_beginning_of_the_audit_chain_goes_and_what_is_left_verifies(place: Place) -> None:
    audit = place.installation.audit
    for number in range(3):
        audit.append("account.create", "root", ONE if number == 2 else TWO)
    insert(place, "legal_hold", hold_id="h", tenant_id=ONE, begun=0, ends=place.clock.now() + BUSINESS + 2 * DAY)
    place.clock.advance(BUSINESS)
    assert removed_of(remove_due(place.installation), "audit") == 2  # the next is of a tenant that is held
    assert removed_of(remove_due(place.installation), "audit") == 0
    assert not any(each.overdue for each in measure(place.installation))
    place.clock.advance(3 * DAY)
    assert removed_of(remove_due(place.installation), "audit") == 1
    audit.verify()
