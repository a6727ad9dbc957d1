"""A demand of an authority: recorded, approved by two, answered with what the case names and nothing else; counted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from imap_town import MailTown, mail, new_mail_town

from hosting.disclosure import cases
from hosting.disclosure.cases import Demand, Person, hand_over, record_case, resume, set_state
from hosting.disclosure.extract import LINES, MANIFEST
from hosting.disclosure.report import report_of
from hosting.journal_words import is_told
from storage.certificates.certificate import canonical
from storage.directory.disclosures import Authority, Case, CaseState, MessageName, Scope, What
from storage.errors import Conflict, Gone, InvalidInput, NotFound, NotPermitted
from storage.keys import signing
from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.values import TenantId

ALICE, BOB = "alice@example.test", "bob@example.test"
ADA, BO = Person("ada", "ada"), Person("bo", "bo")
DAY = 86_400


class Premises:
    def __init__(self, town: MailTown, folder: Path) -> None:
        self.town = town
        self.folder = folder
        self.installation = town.installation
        self.now = town.clock.now()
        self.fill()

    def fill(self) -> None:
        installation, now = self.installation, self.now
        for address in (ALICE, BOB):
            tenant_id, account_id = self.town.accounts[address]
            for days in (1, 5, 40):
                installation.access_log.record(
                    AccessEvent(now - days * DAY, "sign_in", "success", "imap", tenant_id, account_id, b"", "192.0.2.1")
                )
            text = f"0.000 < MAIL FROM:<{address}>"
            installation.transcripts.record(
                TranscriptRecord(now - DAY, Direction.IN, f"s-{address}", "192.0.2.1", ("q1",), (int(tenant_id),), text)
            )
        tenant_id, alice = self.town.accounts[ALICE]
        details = {"to": f"{ALICE}, {BOB}", "size": "7"}
        for event in (
            TraceEvent(now - DAY, "q1", TraceKind.RECEIVED, tenant_id, None, "x@far.test", "", details),
            TraceEvent(now - DAY, "q1", TraceKind.DELIVERED, tenant_id, alice, "x@far.test", ALICE),
            TraceEvent(now - DAY, "q1", TraceKind.DELIVERED, tenant_id, None, "x@far.test", BOB),
            TraceEvent(now - DAY, "q2", TraceKind.RECEIVED, tenant_id, None, BOB, ""),
            TraceEvent(now - 10 * DAY, "q0", TraceKind.DELIVERED, tenant_id, alice, "x@far.test", ALICE),
        ):
            installation.traces.record(event)
        installation.flush_logs()
        with self.town.account(ALICE) as account:
            inbox = account.mailboxes.find("INBOX").id
            account.messages.append(inbox, mail("Asked for"), internal_date=now - DAY)
            account.messages.append(inbox, mail("Not asked for"), internal_date=now - DAY)
            account.messages.append(inbox, mail("Of another time"), internal_date=now - 40 * DAY)

    def record(self, *what: What, address: str = ALICE, whole: bool = False, **more: Any) -> Case:
        tenant_id, account_id = self.town.accounts[address]
        messages = tuple(MessageName("INBOX", uid) for uid in more.pop("messages", ()))
        scope = Scope(frozenset(what), self.now - 7 * DAY, self.now, messages)
        demand = Demand(
            Authority.COURT, "A court", "Art. 1", bytes(32), tenant_id, None if whole else account_id, scope, **more
        )
        case, request = record_case(self.installation, demand, ADA, "it is right")
        self.request = request.approval_id
        return case

    def approve(self) -> None:
        self.installation.control.approvals.decide(self.request, BO.name, True, unix=BO.unix)

    def extract(self, case: Case, name: str = "out", by: Person = ADA) -> Case:
        return hand_over(self.installation, case.case_id, self.folder / name, by, self.auditor_key)

    def auditor_key(self) -> bytes:
        return self.town.keys.auditor_key("a test")

    def lines(self, name: str = "out") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name / LINES).read_text().splitlines()]

    def actions(self, noun: str = "disclosure") -> list[tuple[str, int | None]]:
        return [(each.action.partition(".")[2], each.account_id) for each in self.installation.audit.read(action=noun)]


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[Premises]:
    (tmp_path / "data").mkdir()
    with new_mail_town(tmp_path / "data") as town:
        yield Premises(town, tmp_path)


def test_only_what_is_named_of_the_time_and_the_account(premises: Premises) -> None:
    case = premises.record(What.ACCOUNT, What.ACCESS)
    premises.approve()
    done = premises.extract(case)
    lines = premises.lines()
    assert [(line["class"], line["account"]) for line in lines] == [
        ("access", ALICE),
        ("access", ALICE),
        ("account", ALICE),
    ]
    assert (done.state, done.items, done.accounts, done.disclosed) == (CaseState.DISCLOSED, 3, 1, premises.now)
    document = (premises.folder / "out" / MANIFEST).read_bytes()
    assert done.extract == hashlib.sha256(document).digest()
    values = json.loads(document)
    manifest, value = values["manifest"], bytes.fromhex(values["signature"]["value"])
    signing.verify(premises.town.keys.verifying_key("manifest"), canonical(manifest), value)
    assert manifest["counts"] == {"access": 2, "account": 1} and manifest["case"] == case.case_id
    octets = (premises.folder / "out" / LINES).read_bytes()
    assert manifest["files"][LINES] == {"size": len(octets), "sha256": hashlib.sha256(octets).hexdigest()}
    alice = premises.town.accounts[ALICE][1]
    assert premises.actions() == [("record", alice), ("extract", alice), ("finish", alice)]
    finished = next(premises.installation.audit.read(action="disclosure.finish"))
    assert finished.details is not None and finished.details["hash"] == done.extract.hex()
    assert (finished.details["items"], finished.details["accounts"]) == ("3", "1")


def test_traces_without_other_recipients(premises: Premises) -> None:
    case = premises.record(What.TRACES)
    premises.approve()
    premises.extract(case)
    assert [(line["id"], line["kind"], line["recipient"]) for line in premises.lines()] == [
        ("q1", "received", ""),
        ("q1", "delivered", ALICE),
    ]
    assert BOB not in (premises.folder / "out" / LINES).read_text()


def test_traces_of_others_who_use_his_address_and_from_where_they_send(premises: Premises) -> None:
    installation, time = premises.installation, premises.now - DAY
    (tenant_id, alice), bob = premises.town.accounts[ALICE], premises.town.accounts[BOB][1]
    far = TenantId(77)
    facts = {"client": "203.0.113.5", "hello": "laptop", "size": "7"}
    for event in (
        TraceEvent(time, "forged", TraceKind.RECEIVED, far, None, ALICE, "victim@far.test"),
        TraceEvent(time, "own", TraceKind.RECEIVED, tenant_id, alice, ALICE, "", {"to": f"{BOB}, c@far.test", **facts}),
        TraceEvent(time, "own", TraceKind.DELIVERED, tenant_id, bob, ALICE, BOB),
        TraceEvent(time, "bobs", TraceKind.RECEIVED, tenant_id, bob, BOB, ALICE, facts),
    ):
        installation.traces.record(event)
    installation.flush_logs()
    case = premises.record(What.TRACES)
    premises.approve()
    premises.extract(case)
    found = {(line["id"], line["recipient"]): line["details"] for line in premises.lines() if line["id"][0] != "q"}
    assert found == {("own", ""): facts, ("own", BOB): {}, ("bobs", ALICE): {"size": "7"}}


def test_transcripts_are_for_auditors(premises: Premises) -> None:
    case = premises.record(What.TRANSCRIPTS)
    premises.approve()

    def no_auditor() -> bytes:
        raise NotPermitted("for log auditors only")

    with pytest.raises(NotPermitted, match="auditors"):
        hand_over(premises.installation, case.case_id, premises.folder / "out", ADA, no_auditor)
    assert not (premises.folder / "out").exists() and premises.actions() == [("record", case.account_id)]
    text = f"0.000 < MAIL FROM:<{ALICE}>\n0.001 < RCPT TO:<victim@far.test>"
    forged = TranscriptRecord(premises.now - DAY, Direction.IN, "forged", "192.0.2.1", ("q9",), (77,), text)
    for record in (forged, replace(forged, id="refused", queue_ids=(), tenants=())):
        premises.installation.transcripts.record(record)
    premises.extract(case)
    assert [line["id"] for line in premises.lines()] == [f"s-{ALICE}", "refused"]


def test_messages_by_name_alone(premises: Premises) -> None:
    case = premises.record(What.HEADERS, messages=(1,))
    premises.approve()
    premises.extract(case)
    (line,) = premises.lines()
    assert "Subject: Asked for\r\n" in line["header"] and "Text." not in line["header"]
    whole = premises.record(What.MESSAGES, messages=(2,))
    premises.approve()
    premises.extract(whole, "second")
    assert [line["uid"] for line in premises.lines("second")] == [2]
    for wrong, error in ((3, Conflict), (99, NotFound)):
        case = premises.record(What.MESSAGES, messages=(wrong,))
        premises.approve()
        with pytest.raises(error):
            premises.extract(case, "third")
        assert [each.name for each in premises.folder.iterdir() if "third" in each.name] == []


def test_a_whole_tenant(premises: Premises) -> None:
    case = premises.record(What.ACCOUNT, whole=True)
    premises.approve()
    assert premises.extract(case).accounts == 2
    assert {line["account"] for line in premises.lines()} == {ALICE, BOB}
    told = {account for verb, account in premises.actions() if verb == "extract"}
    assert told == {premises.town.accounts[ALICE][1], premises.town.accounts[BOB][1]}


def test_nothing_without_a_second_person(premises: Premises) -> None:
    case = premises.record(What.ACCESS)
    with pytest.raises(NotPermitted, match="waits for a second person"):
        premises.extract(case)
    with pytest.raises(NotPermitted):
        premises.installation.control.approvals.decide(premises.request, ADA.name, True)
    premises.approve()
    with pytest.raises(NotPermitted):
        premises.extract(case, by=BO)
    assert not (premises.folder / "out").exists()
    premises.extract(case)
    with pytest.raises(Conflict):
        premises.extract(case, "again")


def test_the_ways_of_a_case(premises: Premises) -> None:
    case = premises.record(What.ACCESS)
    premises.approve()
    with pytest.raises(InvalidInput):
        set_state(premises.installation, case.case_id, CaseState.CHALLENGED, " ", ADA)
    set_state(premises.installation, case.case_id, CaseState.CHALLENGED, "too wide", ADA)
    with pytest.raises(Conflict):
        premises.extract(case)
    set_state(premises.installation, case.case_id, CaseState.RECORDED, "confirmed", ADA)
    refused = set_state(premises.installation, case.case_id, CaseState.REFUSED, "no basis", ADA)
    assert refused.closed == premises.now
    for state in (CaseState.RECORDED, CaseState.CHALLENGED, CaseState.REFUSED):
        with pytest.raises(Conflict):
            set_state(premises.installation, case.case_id, state, "x", ADA)
    assert [verb for verb, _ in premises.actions()] == ["record", "challenge", "resume", "refuse"]


def test_after_a_challenge_no_approval_of_before_counts(premises: Premises) -> None:
    installation, approvals = premises.installation, premises.installation.control.approvals
    case = premises.record(What.ACCESS)
    premises.approve()  # and not used
    set_state(installation, case.case_id, CaseState.CHALLENGED, "too wide", ADA)
    _, request = resume(installation, case.case_id, "confirmed", ADA)
    with pytest.raises(NotPermitted, match="second person"):
        premises.extract(case)
    assert request is not None
    approvals.decide(request.approval_id, BO.name, True, unix=BO.unix)
    assert premises.extract(case).approval_id == request.approval_id


def test_who_did_not_ask_does_not_finish_it_either(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    case = premises.record(What.ACCESS)
    premises.approve()

    def dies(*_: Any) -> Any:
        raise Died

    with monkeypatch.context() as dying:
        dying.setattr(cases, "write_extract", dies)
        with pytest.raises(Died):
            premises.extract(case)
    with pytest.raises(NotPermitted, match="second person"):
        premises.extract(case, by=BO)
    assert premises.extract(case).state is CaseState.DISCLOSED


def test_a_second_between_the_record_and_the_case(premises: Premises, monkeypatch: pytest.MonkeyPatch) -> None:
    audit, append = premises.installation.audit, premises.installation.audit.append

    def slowly(*given: Any) -> int:
        number = append(*given)
        premises.town.clock.advance(2)
        return number

    monkeypatch.setattr(audit, "append", slowly)
    case = premises.record(What.ACCESS, secret_until=premises.now + 30 * DAY)
    found = audit.read(since=case.received, action="disclosure.record")
    assert [record.details["case"] for record in found if record.details] == [case.case_id]


def test_a_secrecy_order(premises: Premises) -> None:
    until = premises.now + 30 * DAY
    case = premises.record(What.ACCESS, secret_until=until)
    premises.approve()
    premises.extract(case)
    records = list(premises.installation.audit.read(account_id=case.account_id))
    assert [record.action for record in records if is_told(record, premises.now)] == []
    assert [record.action for record in records if is_told(record, until)] == [
        "disclosure.record",
        "disclosure.extract",
        "disclosure.finish",
    ]
    with pytest.raises(InvalidInput):
        premises.record(What.ACCESS, secret_until=premises.now)


def test_an_account_that_is_erased(premises: Premises) -> None:
    case = premises.record(What.ACCESS)
    premises.town.keys.destroy_account_key(case.tenant_id, premises.town.accounts[ALICE][1])
    disclosures = premises.installation.control.disclosures
    assert disclosures.find(case.case_id).scope is None
    with pytest.raises(Gone):
        premises.extract(case)
    assert set_state(premises.installation, case.case_id, CaseState.REFUSED, "erased", ADA).state is CaseState.REFUSED


@pytest.mark.parametrize("place", ["folder", "file"])
def test_a_place_that_is_taken(premises: Premises, place: str) -> None:
    case = premises.record(What.ACCESS)
    premises.approve()
    target = premises.folder / "out"
    target.mkdir() if place == "folder" else target.write_text("x")
    with pytest.raises(InvalidInput, match="exists already"):
        premises.extract(case)
    with pytest.raises(InvalidInput, match="is no folder"):
        premises.extract(case, "nowhere/out")
    assert premises.installation.control.disclosures.find(case.case_id).state is CaseState.RECORDED


class Died(BaseException):
    """As if the process had been killed."""


@pytest.mark.parametrize("step", ["_use_approval", "_record_once", "write_extract", "finish", "set_disclosed"])
def test_again_after_a_death_at_each_step(premises: Premises, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = premises.record(What.ACCESS)
    premises.approve()
    disclosures = premises.installation.control.disclosures
    with monkeypatch.context() as dying:
        place: Any = disclosures if step == "set_disclosed" else cases
        name = "_record_once" if step == "finish" else step
        real = getattr(place, name)

        def deed(*given: Any, **named: Any) -> Any:
            if step == "finish" and given[2] != cases.FINISH:
                return real(*given, **named)
            if step != "set_disclosed":
                real(*given, **named)
            raise Died

        dying.setattr(place, name, deed)
        with pytest.raises(Died):
            premises.extract(case)
    done = premises.extract(case)
    assert done.state is CaseState.DISCLOSED and done.items == 2
    assert [verb for verb, _ in premises.actions()] == ["record", "extract", "finish"]
    used = [each.action for each in premises.installation.audit.read(action="approval.use")]
    assert used == ["approval.use"]
    assert [each.name for each in premises.folder.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("what", "since", "messages"),
    [((), 1, ()), ((What.ACCESS,), 9, ()), ((What.HEADERS,), 1, ()), ((What.ACCESS,), 1, (MessageName("INBOX", 1),))],
)
def test_scopes_that_are_none(what: tuple[What, ...], since: int, messages: tuple[MessageName, ...]) -> None:
    with pytest.raises(InvalidInput):
        Scope(frozenset(what), since, 9, messages)


def test_the_report_names_nobody(premises: Premises) -> None:
    done = premises.record(What.ACCESS)
    premises.approve()
    premises.extract(done)
    refused = premises.record(What.ACCESS, secret_until=premises.now + DAY)
    set_state(premises.installation, refused.case_id, CaseState.REFUSED, "no basis", ADA)
    premises.record(What.ACCESS, address=BOB)
    report = report_of(2026, premises.installation.control.disclosures.received(0, premises.now + 1))
    assert report.values() == {
        "year": 2026,
        "received": 3,
        "by_authority": {"court": 3},
        "by_legal_basis": {"Art. 1": 3},
        "by_outcome": {"pending": 1, "challenged": 0, "refused": 1, "disclosed": 1},
        "with_secrecy_order": 1,
        "accounts_disclosed": 1,
    }
    text = report.markdown()
    assert "| court | 3 |" in text and "A court" not in text and "alice" not in text
    assert report_of(2025, []).values()["received"] == 0
