"""Everything that is stored declares whose it is; what declares nothing is found, whatever it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from quarantine_place import ALICE, ONE, Place
from sqlalchemy import Column, MetaData, Table, Text

from hosting.data_register import REGISTER
from storage.audit import Audit
from storage.files.durable import write_file
from storage.logs.access import AccessEvent
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.queue.entries import EnvelopeParameters, NewEntry, NewRecipient, Origin, new_queue_id
from storage.register import classes
from storage.register.catalogue import CATALOGUE
from storage.register.classes import GROUPS
from storage.register.values import FileClass
from storage.retention import remove_due
from storage.retention.removers import INSTALLATION, TENANT
from storage.schema import personal, technical
from storage.values import EmailAddress


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Tenants, accounts, mail, what waits, what is withheld, records of all kinds, and an account that is gone."""
    place = Place(tmp_path_factory.mktemp("used"))
    installation = place.installation
    place.held()
    address = EmailAddress.parse("alice@one.test")
    with installation.account(ONE, ALICE) as account:
        inbox = account.mailboxes.find("INBOX")
        for number in range(3):
            account.messages.append(inbox.id, b"Subject: %d\r\n\r\nText\r\n" % number)
        while account.index.work():
            pass
    entry = NewEntry(
        new_queue_id(place.clock),
        ONE,
        ALICE,
        Origin.SUBMISSION,
        address,
        EnvelopeParameters(),
        (NewRecipient(EmailAddress.parse("far@elsewhere.example"), None),),
        place.clock.now() + 86_400,
        b"Subject: waits\r\n\r\n",
    )
    installation.queue.enqueue([entry])
    now = place.clock.now()
    installation.access_log.record(AccessEvent(now, "sign_in", "success", "imap", ONE, ALICE, b"", "192.0.2.1"))
    installation.transcripts.record(TranscriptRecord(now, Direction.IN, "s", "192.0.2.1", (), (), ""))
    installation.traces.record(TraceEvent(now, "q", TraceKind.RECEIVED, ONE))
    installation.flush_logs()
    assert isinstance(installation.audit, Audit)
    installation.audit.append("tenant.create", "root", ONE)
    remove_due(installation)
    yield place
    place.close()


def test_every_table_column_log_and_file_names_a_class_of_the_catalogue() -> None:
    assert REGISTER.problems() == []


def test_every_class_stands_in_one_group() -> None:
    members = [of for _, group in GROUPS for of in group]
    assert sorted(of.name for of in members) == sorted(of.name for of in CATALOGUE.classes)
    for of in CATALOGUE.classes:
        assert of.title and of.purpose and of.whose and of.readers and not of.title.endswith(".")
        assert of.name.isidentifier() and of.name.islower()


def test_every_file_of_a_used_installation_is_of_one_class(used: Place) -> None:
    found = {str(path.relative_to(used.data)) for path in used.data.rglob("*") if not path.is_dir()}
    assert len(found) > 40
    assert REGISTER.undeclared(used.data) == []
    of = {file.of.name for name in found for file in REGISTER.files_of(name)}
    assert of >= {"mail", "accounts", "directory", "queue", "withheld", "audit", "keys", "access_events", "traces"}


@pytest.mark.parametrize(
    "name", ["notes.txt", "tenants/1/notes", "keys/1/other", "logs/mail/2025-06-15/x.log", "run/x"]
)
def test_a_planted_file_is_found(used: Place, name: str) -> None:
    path = used.data / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    try:
        assert REGISTER.undeclared(used.data) == [name]
    finally:
        path.unlink()


def test_what_a_crash_left_is_of_the_class_of_its_file(tmp_path: Path) -> None:
    assert REGISTER.files_of("keys/.service.key.0123456789ab") == REGISTER.files_of("keys/service.key")
    assert REGISTER.files_of("keys/.other.0123456789ab") == []
    write_file(tmp_path / "clock", b"")
    assert REGISTER.undeclared(tmp_path) == []


def test_a_star_is_one_name() -> None:
    catalogue = replace(CATALOGUE, files=(FileClass("a/*/c", classes.MAIL), FileClass("b/**", classes.MAIL)))
    assert [len(catalogue.files_of(name)) for name in ("a/x/c", "a/x/y/c", "a//c", "b/x", "b/x/y", "b")] == [
        1,
        0,
        1,
        1,
        1,
        0,
    ]


def test_a_file_of_two_classes_is_found(used: Place) -> None:
    twice = REGISTER.with_files([FileClass("tenants/*/tenant.d?", classes.MAIL)])
    assert twice.undeclared(used.data) == ["tenants/1/tenant.db", "tenants/2/tenant.db"]


def planted(table_info: dict[str, object], column_info: dict[str, object] | None = None) -> list[str]:
    table = Table("planted", MetaData(), Column("what", Text, info=column_info or {}), info=table_info)
    return replace(REGISTER, tables=(*REGISTER.tables, ("tenant", table))).problems()


def test_a_planted_table_or_column_is_found() -> None:
    assert planted(technical("good", of=classes.MAIL)) == []
    assert planted(technical("why")) == ["tenant.planted declares no class"]
    assert planted({}) == ["tenant.planted declares no class"]
    foreign = replace(classes.MAIL, name="foreign")
    assert "not in the catalogue" in planted(technical("why", of=foreign))[0]
    assert "not in the catalogue" in planted(technical("x", of=classes.MAIL), personal("user", "x", of=foreign))[0]
    assert planted(technical("x", of=classes.MAIL), personal("staff", "x")) == [
        "tenant.planted.what holds data of staff, unlike its class mail"
    ]


def test_two_classes_of_one_name_and_one_that_nothing_is_of() -> None:
    lonely = replace(classes.MAIL, name="lonely")
    assert replace(REGISTER, classes=(*REGISTER.classes, lonely)).problems() == ["nothing is of the class lonely"]
    again = replace(classes.MAIL, title="Other")
    assert "two classes are called mail" in replace(REGISTER, classes=(*REGISTER.classes, again)).problems()


def test_every_class_whose_period_has_days_has_a_remover(used: Place) -> None:
    concerned = {each.of for each in INSTALLATION} | {each.of for each in TENANT}
    periods = used.installation.periods
    missing = [of.name for of in CATALOGUE.classes if periods.of(of.kept).bounded and of not in concerned]
    assert missing == []
