"""The round of contracts: who is reminded and when, once, whatever interrupts it; what storage is in use; what ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from account_ending import end_account
from quarantine_place import ALICE, BOB, DAY, MALLORY, ONE, TWO, Place, mail

from hosting.config import Config, parse
from hosting.contract_round import ContractRound
from hosting.contracts.holding import ask_for_hold, ask_to_lift
from hosting.contracts.notice import FIELD
from storage.certificates.signing import verify
from storage.certificates.store import Certificates
from storage.directory.approvals import ApprovalState
from storage.directory.contracts import Contracts
from storage.directory.resolve import POSTMASTER_SETTING
from storage.directory.rows import State
from storage.directory.terms import ContractLimits, Intake
from storage.ending.ending import carry_out
from storage.ending.processes import Nobody
from storage.errors import Conflict, InvalidInput, NotPermitted
from storage.queue.entries import Origin
from storage.queue.queue import Queue
from storage.values import AccountId, EmailAddress, TenantId

ENDS_IN = 100 * DAY
ELSEWHERE = "boss@elsewhere.example"


class Crash(Exception):  # noqa: N818
    """The process is gone."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Tenant ONE's contract ends in 100 days, after a window of 10; its contact is elsewhere."""
    place = Place(tmp_path)
    contracts = place.installation.control.contracts
    contracts.set_terms(ONE, read_only_days=10)
    contracts.set_contact(ONE, EmailAddress.parse(ELSEWHERE))
    contracts.set_end(ONE, place.clock.now() + ENDS_IN, "olga")
    yield place
    place.close()


def contracts(place: Place) -> Contracts:
    return place.installation.control.contracts


def look(place: Place, settings: str = "") -> None:
    ContractRound(place.installation, parse('[server]\nhostname = "mail.test"\n' + settings)).look()


def pass_days(place: Place, days: float) -> None:
    place.clock.advance(days * DAY)


def told(place: Place, account_id: AccountId = ALICE, tenant_id: TenantId = ONE) -> list[str]:
    return [message.decode() for message in place.inbox(account_id, tenant_id) if FIELD.encode() in message]


def leaving(place: Place) -> list[tuple[str, bool]]:
    """Reminders that stand in the queue: to whom, and whether they wait on hold."""
    entries = [place.installation.queue.show(row.queue_id) for row in place.installation.queue.entries()]
    return [
        (str(recipient.address), entry.held)
        for entry in entries
        if entry.origin is Origin.NOTICE
        for recipient in entry.recipients
    ]


def test_reminders_go_out_on_their_days_and_once(place: Place) -> None:
    counts = []
    for _ in range(100):
        look(place)
        counts.append(len(told(place)))
        pass_days(place, 1)
    assert [day for day, (before, now) in enumerate(zip([0, *counts], counts, strict=False)) if now > before] == [
        10,
        70,
        93,
        99,
    ]
    assert leaving(place) == [(ELSEWHERE, False)] * 4
    assert told(place, BOB) == []


def test_what_a_reminder_says(place: Place) -> None:
    pass_days(place, 10)
    look(place)
    [text] = told(place)
    assert "To: <postmaster@one.test>" in text
    assert "ends in 90 days" in text.replace("\r\n", " ")
    assert "cleanmail export --tenant one FOLDER" in text
    assert "From 2025-09-13" in text
    assert "Auto-Submitted: auto-generated" in text


def test_an_end_that_is_near_is_told_at_once_and_a_changed_one_anew(place: Place) -> None:
    now = place.clock.now()
    contracts(place).set_end(ONE, now + 20 * DAY, "olga")
    for _ in range(2):
        look(place)
    assert len(told(place)) == 1
    contracts(place).set_end(ONE, now + 25 * DAY, "olga")
    look(place)
    assert len(told(place)) == 2
    contracts(place).set_end(ONE, None, "olga")
    pass_days(place, 24)
    look(place)
    assert len(told(place)) == 2


def test_reminders_arrive_in_the_window_too(place: Place) -> None:
    pass_days(place, 99)
    assert contracts(place).intake(ONE) is Intake.CLOSED
    look(place)
    [text] = told(place)
    assert "ends within a day" in text.replace("\r\n", " ")
    assert "Since 2025-09-13" in text


def test_a_contact_here_and_a_postmaster_elsewhere(place: Place) -> None:
    contracts(place).set_contact(ONE, EmailAddress.parse("mallory@two.test"))
    place.installation.tenant(ONE).set_setting(POSTMASTER_SETTING, ELSEWHERE)
    pass_days(place, 10)
    look(place)
    assert (len(told(place)), len(told(place, MALLORY, TWO)), leaving(place)) == (0, 1, [(ELSEWHERE, False)])


def test_the_policy_names_the_days(place: Place) -> None:
    pass_days(place, 10)
    look(place, '[contracts]\nreminders = ["5"]\n')
    assert told(place) == []
    look(place, "[contracts]\nreminders = []\n")
    assert told(place) == []
    for wrong in ("0", "x", "99999999999999999999", "-3"):
        with pytest.raises(InvalidInput, match="no number of days"):
            parse(f'[contracts]\nreminders = ["{wrong}"]\n')


@pytest.mark.parametrize(
    ("where", "step"),
    [(Queue, "enqueue"), (Contracts, "set_reminded"), (Queue, "release")],
)
@pytest.mark.parametrize("before", [True, False])
def test_a_reminder_that_was_interrupted_arrives_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, where: type, step: str, before: bool
) -> None:
    """Whoever is killed before or after any step: the next round goes on, and everybody hears once."""
    pass_days(place, 10)
    real: Callable[..., Any] = getattr(where, step)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if not before:
            real(*arguments, **options)
        raise Crash

    monkeypatch.setattr(where, step, interrupted)
    with pytest.raises(Crash):
        look(place)
    monkeypatch.undo()
    place.reopen()
    for _ in range(2):
        look(place)
        place.clock.advance(60)
    assert (len(told(place)), leaving(place)) == (1, [(ELSEWHERE, False)])


def test_without_a_clock_that_is_believed_nothing_happens(place: Place) -> None:
    place.clock.jump(3650 * DAY)
    look(place)
    assert told(place) == []
    assert place.installation.control.tenant_state(ONE)[0] is State.ACTIVE
    assert place.installation.control.endings.of(ONE) is None


def test_a_contract_whose_end_is_reached_is_ended(place: Place) -> None:
    pass_days(place, 100)
    look(place)
    ending = place.installation.control.endings.of(ONE)
    assert ending is not None
    assert ending.ordered_by == "contract"
    assert place.installation.control.tenant_state(ONE)[0] is State.ENDED
    assert place.installation.control.tenant_state(TWO)[0] is State.ACTIVE
    look(place)
    assert contracts(place).due(place.clock.now()) == []


def test_from_the_end_of_a_contract_to_its_certificate(place: Place) -> None:
    installation = place.installation
    asked = ask_for_hold(
        installation, ONE, None, ends=place.clock.now() + 101 * DAY, reason="case", by="olga", unix="olga", days=7
    )
    installation.control.approvals.decide(asked.approval_id, "paul", True)
    look(place)
    pass_days(place, 102)
    look(place)
    ending = installation.control.endings.of(ONE)
    assert ending is not None
    carry_out(installation, ending.ending_id, people=Nobody(), issuer="mail.test")
    document = Certificates(place.data).document(ending.ending_id)
    certificate = verify(document, place.keys.verifying_key("certificate"))
    assert (certificate.ordered_by, certificate.scope.name, certificate.issuer) == ("contract", "one", "mail.test")
    assert [(hold.hold_id, hold.ended - hold.begun) for hold in certificate.holds] == [(asked.approval_id, 101 * DAY)]
    assert {"transcripts", "contracts", "audit"} <= {each.data_class for each in certificate.remaining}
    assert installation.control.holds.reason(installation.control.holds.all()[0]) == ""  # it ended with the key
    look(place)  # nothing is due any more


def test_a_hold_keeps_a_contract_from_being_ended_until_it_is_over(place: Place) -> None:
    installation = place.installation
    now = place.clock.now()
    asked = ask_for_hold(installation, ONE, BOB, ends=now + 110 * DAY, reason="case 1", by="olga", unix="olga", days=7)
    look(place)
    assert not installation.control.holds.covers(ONE)  # one person has asked, and nobody has approved
    with pytest.raises(NotPermitted):
        installation.control.approvals.decide(asked.approval_id, "olga", True)
    installation.control.approvals.decide(asked.approval_id, "paul", True)
    for _ in range(2):
        look(place)
    [hold] = installation.control.holds.all()
    assert (hold.hold_id, hold.asked_by, hold.approved_by, hold.account_id) == (
        asked.approval_id,
        "olga",
        "paul",
        BOB,
    )
    assert installation.control.holds.reason(hold) == "case 1"
    pass_days(place, 105)
    look(place)
    assert installation.control.tenant_state(ONE)[0] is State.ACTIVE
    pass_days(place, 6)
    look(place)
    assert installation.control.tenant_state(ONE)[0] is State.ENDED


def test_a_hold_is_lifted_when_another_person_approved_and_not_before(place: Place) -> None:
    """The round does what a crash kept the command from doing, once."""
    installation = place.installation
    hold = installation.control.holds.add(
        ONE, None, ends=place.clock.now() + 10 * DAY, reason="case 1", asked_by="olga", approved_by="paul"
    )
    asked = ask_to_lift(installation, hold, reason="closed", by="olga", unix="olga", days=7)
    look(place)
    assert installation.control.holds.covers(ONE)
    installation.control.approvals.decide(asked.approval_id, "paul", True)
    for _ in range(2):
        look(place)
        assert not installation.control.holds.covers(ONE)
    [record] = [each for each in installation.audit.read() if each.action == "hold.lift"]
    assert record.actor == "olga" and record.details is not None
    assert (record.details["approved_by"], record.details["request"]) == ("paul", asked.approval_id)
    assert installation.control.approvals.find(asked.approval_id).state is ApprovalState.USED
    lifted = installation.control.holds.show(hold.hold_id)
    with pytest.raises(Conflict, match="is over"):
        ask_to_lift(installation, lifted, reason="closed", by="olga", unix="olga", days=7)


def test_an_approval_to_lift_that_comes_too_late_is_used_up(place: Place) -> None:
    installation = place.installation
    hold = installation.control.holds.add(
        ONE, None, ends=place.clock.now() + DAY, reason="case 1", asked_by="olga", approved_by="paul"
    )
    asked = ask_to_lift(installation, hold, reason="closed", by="olga", unix="olga", days=7)
    installation.control.approvals.decide(asked.approval_id, "paul", True)
    place.clock.advance(2 * DAY)
    look(place)
    assert installation.control.approvals.find(asked.approval_id).state is ApprovalState.USED
    assert not [each for each in installation.audit.read() if each.action == "hold.lift"]


def test_an_approval_that_comes_too_late_makes_no_hold(place: Place) -> None:
    installation = place.installation
    asked = ask_for_hold(
        installation, ONE, None, ends=place.clock.now() + DAY, reason="case", by="olga", unix="olga", days=7
    )
    place.clock.advance(2 * DAY)
    installation.control.approvals.decide(asked.approval_id, "paul", True)
    look(place)
    assert installation.control.holds.all() == []
    assert installation.control.approvals.all()[0].used is not None


def test_storage_in_use_is_measured_each_hour(place: Place) -> None:
    contracts(place).set_limits(TWO, ContractLimits(bytes=4000))
    with place.installation.account(TWO, MALLORY) as account:
        inbox = account.mailboxes.find("INBOX").id
        account.messages.append(inbox, mail("one"))
        look(place)
        used = contracts(place).of(TWO).used_bytes
        assert 3000 <= used < 4000
        account.messages.append(inbox, mail("two"))
    look(place)
    assert contracts(place).of(TWO).used_bytes == used
    place.clock.advance(3600)
    look(place)
    assert contracts(place).of(TWO).used_bytes > 4000
    assert contracts(place).intake(TWO) is Intake.FULL
    end_account(place.installation, TWO, MALLORY)
    place.clock.advance(3600)
    look(place)
    assert contracts(place).intake(TWO) is Intake.OPEN


def test_the_configuration_has_the_policy() -> None:
    assert Config().contracts.days == (90, 30, 7, 1)
