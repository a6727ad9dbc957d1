"""The published documents tell everything that the register has, with the periods in force."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from hosting.access.actions import ROLES, Action
from hosting.access.roles import StaffRole
from hosting.data_register import REGISTER
from storage.register import classes, documents
from storage.register.documents import Controller
from storage.register.periods import STANDARD, Periods
from storage.register.values import Basis, DataClass, Erasure, Kept, Reader, Whose
from storage.register.words import BASIS, ERASURE, READERS, WHOSE, how_long

US = Controller("Cleanmail Ltd, 1 High Street", "privacy@cleanmail.test", "Agent GmbH", "D. P. Officer")
CHOSEN = Periods.of_preset("short_transcripts", {Kept.ACCESS: 91, Kept.TRACES: 7})


def flat(text: str) -> str:
    return " ".join(text.split())


def test_words_for_every_value() -> None:
    assert (set(WHOSE), set(READERS)) == (set(Whose), set(Reader))
    assert (set(ERASURE), set(BASIS)) == (set(Erasure), set(Basis))


@pytest.mark.parametrize("form", [documents.markdown, documents.plain])
def test_the_statement_has_every_class_with_period_ground_and_readers(form: object) -> None:
    assert callable(form)
    text = flat(form(documents.statement(REGISTER, CHOSEN, US)))
    for of in REGISTER.classes:
        place = text.index(of.title)
        part = text[place : place + 1500]
        assert of.purpose in part and how_long(of, CHOSEN) in part and ERASURE[of.erasure] in part
        assert BASIS[of.basis] in part and all(READERS[each] in part for each in of.readers)
    for words in ("at most 6 months (185 days)", "at most 91 days", "at most 7 days", "14 days"):
        assert (words in text) is (words != "14 days")
    assert "Cleanmail Ltd" in text and "privacy@cleanmail.test" in text and "Agent GmbH" in text
    assert all(right in text for right in documents.RIGHTS)


def test_plain_lines_fit() -> None:
    text = documents.plain(documents.statement(REGISTER, STANDARD, US))
    assert max(map(len, text.splitlines())) <= 100 and not any(line != line.rstrip() for line in text.splitlines())


def test_a_name_with_line_ends_stays_in_its_line() -> None:
    text = documents.markdown(documents.statement(REGISTER, STANDARD, Controller("A\n# B", "c\r\nd")))
    assert "- **Controller**: A # B\n- **Contact**: c d\n" in text


def test_the_records_have_every_class_with_a_person() -> None:
    document = documents.records(REGISTER, CHOSEN, US)
    assert json.loads(json.dumps(document)) == document
    by_name = {each["name"]: each for each in document["activities"]}
    assert set(by_name) == {of.name for of in REGISTER.classes if Whose.NOBODY not in of.whose}
    for name, each in by_name.items():
        assert each["purpose"] and each["persons"] and each["data"] and each["recipients"] and each["legal_basis"], name
    assert by_name["transcripts"]["ceiling_days"] == 185 and by_name["transcripts"]["floor_days"] == 184
    assert document["controller"]["representative"] == "Agent GmbH" and document["security_measures"]
    text = documents.records_markdown(document)
    assert all(each["title"] in text for each in document["activities"])
    assert all(measure in text for measure in document["security_measures"])


def test_the_register_has_every_declaration() -> None:
    rows = documents.register(REGISTER, STANDARD)
    names = [(row["kind"], row["name"]) for row in rows]
    assert len(names) == len(set(names))
    for declared in REGISTER.declarations():
        assert ("column" if declared.column else "table", declared.name) in names
    assert {name for kind, name in names if kind == "file"} == {file.pattern for file in REGISTER.files}
    assert {name for kind, name in names if kind == "log"} == {"logs/access", "logs/transcripts", "logs/traces"}


@pytest.mark.parametrize("make", [documents.statement, documents.records])
def test_nobody_is_told_that_what_stands_open_is_sealed(make: Callable[..., dict[str, Any]]) -> None:
    """Names of domains and of staff stand in databases that outlive the customer's key."""
    document = make(REGISTER, STANDARD, Controller())
    classes = document.get("activities") or [of for group in document["groups"] for of in group["classes"]]
    by_name = {of["name"]: of for of in classes}
    assert "mail domain" in by_name["directory"]["open"] and "who acted" in by_name["audit"]["open"]
    assert by_name["mail"]["open"] == by_name["accounts"]["open"] == []
    for write in (documents.records_markdown,) if "activities" in document else (documents.markdown, documents.plain):
        text = " ".join(write(document).split())
        assert "under a key that ends with it, but not: the operator's short name of the customer; mail domain" in text
        assert "the envelope, never the content" in text


def test_the_statement_tells_of_backups_and_of_holds() -> None:
    text = " ".join(documents.plain(documents.statement(REGISTER, STANDARD, Controller())).split())
    assert "Backups: copies of all this" in text and "at most 220 days" in text
    assert "stays in backups until they are replaced" in text and "A legal hold" in text


ROLE_OF = {
    Reader.OPERATOR: StaffRole.OPERATOR,
    Reader.SUPPORT: StaffRole.SUPPORT,
    Reader.AUDITOR: StaffRole.AUDITOR,
    Reader.BILLING: StaffRole.BILLING,
}


@pytest.mark.parametrize(
    ("of", "action"),
    [
        (classes.TRACES, Action.TRACE_SEE),
        (classes.ACCESS_EVENTS, Action.ACCESS_SEE),
        (classes.AUDIT, Action.AUDIT_SEE),
        (classes.TRANSCRIPTS, Action.TRANSCRIPTS_READ),
        (classes.QUEUE, Action.QUEUE_SEE),
        (classes.WITHHELD, Action.QUARANTINE_SEE),
        (classes.HOLDS, Action.HOLD_SEE),
        (classes.DISCLOSURES, Action.DISCLOSURE_SEE),
        (classes.CONTRACTS, Action.CONTRACT_SEE),
        (classes.ERASURES, Action.CERTIFICATE_SEE),
        (classes.APPROVALS, Action.REQUEST_SEE),
        (classes.AGREEMENTS, Action.AGREEMENT_SEE),
        (classes.STAFF, Action.STAFF_SEE),
        (classes.DIRECTORY, Action.TENANT_SEE),
        (classes.ACCOUNTS, Action.ACCOUNT_SEE),
        (classes.RECEIPTS, Action.RETENTION_SEE),
    ],
)
def test_who_reads_is_who_may(of: DataClass, action: Action) -> None:
    """The statement says the same as the one place that decides."""
    may = {reader for reader, role in ROLE_OF.items() if role in ROLES[action]}
    assert of.readers & ROLE_OF.keys() == may
