"""After an erasure what keys still open names the person only where the answer says so, and others are unharmed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from person_town import ADA, ALIAS, BO, CLIENT, STRANGER, PersonTown
from sqlalchemy import MetaData, select

from storage.database.prepared import prepare
from storage.directory.approvals import Approval
from storage.errors import AlreadyExists, Conflict, InvalidInput, NotFound, NotPermitted
from storage.logs.access import AccessEvent
from storage.logs.subjects import ERASED
from storage.persons import requests
from storage.persons.correct import correct_address, correct_name
from storage.persons.erase import ask_for_logs, erase, erase_last_logs, erase_logs, left_in_logs
from storage.persons.report import stream_report
from storage.persons.sought import Sought, seek
from storage.quarantine.store import Quarantine
from storage.quarantine.values import NewWithheld, Onward, Query, Way, WithheldFor
from storage.queue.entries import EnvelopeParameters, new_queue_id
from storage.schema import control as control_schema
from storage.schema import queue as queue_schema
from storage.schema import tenant as tenant_schema
from storage.values import EmailAddress

BY, SECOND = "olga", "ruth"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("persons") / "data"
    PersonTown.made(data).close()
    return data


@pytest.fixture
def town(template: Path, tmp_path: Path) -> Iterator[PersonTown]:
    shutil.copytree(template, tmp_path / "data")
    town = PersonTown.again(tmp_path / "data")
    yield town
    town.close()


def sought(town: PersonTown, address: EmailAddress) -> Sought:
    found = seek(town.installation, address)
    found.transcripts_key = town.keys.auditor_key("a test")
    return found


def approved(town: PersonTown, address: EmailAddress) -> Approval:
    asked = ask_for_logs(sought(town, address), "request of 4 May", BY)
    return town.installation.control.approvals.decide(asked.approval_id, SECOND, True)


def everything(town: PersonTown, *addresses: EmailAddress) -> dict[str, list[dict[str, Any]]]:
    """What the installation says of these people, by class, whoever asks."""
    found: dict[str, list[dict[str, Any]]] = {}
    for address in addresses:
        lines: list[str] = []
        stream_report(sought(town, address), lines.append)
        for line in lines[:-1]:
            values = json.loads(line)
            found.setdefault(values.pop("class"), []).append(values)
    return found


def records(town: PersonTown) -> str:
    """All that keys open of the three logs."""
    installation, until = town.installation, town.clock.now() + 1
    found = [repr(event) + event.address for event in installation.access_log.read(0, until)]
    found += [f"{event.sender} {event.recipient} {event.details}" for event in installation.traces.read()]
    key = town.keys.auditor_key("a test")
    found += [f"{record.peer} {record.text}" for record in installation.transcripts.read(key, 0, until)]
    return "\n".join(found)


def named_in(town: PersonTown, token: str) -> set[str]:
    """The tables that have it in a column that no further key seals, and paths of files."""
    installation = town.installation
    databases: list[tuple[Any, MetaData]] = [
        (installation.control.database, control_schema.metadata),
        (installation.queue.database, queue_schema.metadata),
        *((installation.tenant(each).database, tenant_schema.metadata) for each in (town.acme, town.other)),
    ]
    found = {str(path) for path in town.data.rglob("*") if token in path.name}
    for database, metadata in databases:
        with database.reading() as connection:
            for table in metadata.tables.values():
                if any(token in repr(row) for row in prepare(select(table)).rows(connection)):
                    found.add(table.name)
    return found


def test_an_account_is_erased_from_records_and_others_stay(town: PersonTown) -> None:
    others = everything(town, BO)
    before = records(town)
    assert str(ADA) in before and CLIENT in before
    approved(town, ADA)
    erased = erase(sought(town, ADA), BY, "request of 4 May", logs=True)
    after = records(town)
    assert str(ADA) not in after and CLIENT not in after and ERASED in after
    assert erased.counts["access_events"] == 1 and erased.counts["transcripts"] == 1 and erased.failed == []
    assert left_in_logs(town.installation, town.ada) == {"access": 0, "transcripts": 0, "traces": 0}
    for class_, items in everything(town, BO).items():
        if class_ in ("access_events", "accounts", "withheld", "queue"):
            assert items == others[class_]
    assert before.replace(str(ADA), ERASED).replace(CLIENT, ERASED).replace("EHLO x", f"EHLO {ERASED}") == after
    town.installation.audit.verify()


def test_with_its_ending_an_account_is_found_only_where_the_answer_says(town: PersonTown) -> None:
    approved(town, ADA)
    about = sought(town, ADA)
    erased = erase(about, BY, "request of 4 May", logs=True)
    town.end(town.acme, town.ada)
    erase_logs(about, town.ada, erased)
    left = everything(town, ADA)
    stays = {each.of.name for each in erased.stays}
    assert {name for name, items in left.items() if items} - {"transcripts"} <= stays
    assert [item["line"] for item in left.get("transcripts", []) if "line" in item] == []
    assert all(each.why and each.until for each in erased.stays)
    assert str(ADA) not in records(town) and CLIENT not in records(town)
    assert not any(str(ADA) in str(record.details) for record in town.installation.audit.read())
    assert named_in(town, "q7x") == set()
    town.installation.audit.verify()


def test_a_stranger_is_erased_with_every_customer(town: PersonTown) -> None:
    assert named_in(town, "k3v") == {"quarantine", "filter_list", "target", "srs"}
    erased = erase(sought(town, STRANGER), BY, "request of 4 May")
    assert {name: count for name, count in erased.counts.items() if count} == {
        "withheld": 2,
        "settings": 2,
        "accounts": 2,
        "forwarded_senders": 2,
        "experience": 2,
    }
    assert named_in(town, "k3v") == set()
    left = everything(town, STRANGER)
    assert left.keys() <= {each.of.name for each in erased.stays}
    for tenant_id in (town.acme, town.other):
        tenant = town.installation.tenant(tenant_id)
        assert list(Quarantine(town.installation).of(tenant_id).each(Query())) == []
        assert [alias.address for alias in tenant.addresses.aliases() if alias.address != ALIAS] == (
            ["list@acme.test"] if tenant_id == town.acme else []
        )
    again = erase(sought(town, STRANGER), BY, "request of 4 May")
    assert not any(again.counts.values())


def test_records_need_a_second_person(town: PersonTown) -> None:
    with pytest.raises(NotPermitted):
        erase(sought(town, ADA), BY, "reason", logs=True)
    asked = ask_for_logs(sought(town, ADA), "reason", BY)
    with pytest.raises(NotPermitted):
        erase(sought(town, ADA), BY, "reason", logs=True)
    with pytest.raises(NotPermitted):
        town.installation.control.approvals.decide(asked.approval_id, BY, True)
    town.installation.control.approvals.decide(asked.approval_id, SECOND, True)
    with pytest.raises(NotPermitted):  # who asked, not somebody else
        erase(sought(town, ADA), "eve", "reason", logs=True)
    with pytest.raises(NotPermitted):  # this person, not another
        erase(sought(town, BO), BY, "reason", logs=True)
    assert str(ADA) in records(town)
    erase(sought(town, ADA), BY, "reason", logs=True)
    assert str(ADA) not in records(town)


def test_an_approval_counts_after_the_account_has_ended(town: PersonTown) -> None:
    approved(town, ADA)
    town.end(town.acme, town.ada)
    assert CLIENT in records(town)  # by law; the certificate says so
    erase(sought(town, ADA), BY, "reason", logs=True)
    assert CLIENT not in records(town) and str(ADA) not in records(town)


def test_an_approval_is_not_for_who_got_the_address_afterwards(town: PersonTown) -> None:
    approved(town, ADA)
    erase(sought(town, ADA), BY, "reason", logs=True)
    town.end(town.acme, town.ada)
    town.provisioning.create_account(town.acme, ADA, name="Another")
    with pytest.raises(NotPermitted):
        erase(sought(town, ADA), BY, "reason", logs=True)


def test_mail_of_who_has_a_longer_name_stays(town: PersonTown) -> None:
    other = EmailAddress.parse(f"o'{STRANGER}")
    data = f"From: <{other}>\r\nSubject: x\r\n\r\nx\r\n".encode()
    held = WithheldFor(BO, Onward(Way.MAILBOX, town.bo), "spam", "It is spam.")
    expires = town.clock.now() + 1000
    new = NewWithheld(new_queue_id(town.clock), other, EnvelopeParameters(), (held,), expires, b"", data)
    Quarantine(town.installation).keep(town.acme, new)
    erase(sought(town, STRANGER), BY, "reason")
    left = Quarantine(town.installation).of(town.acme).each(Query())
    assert [str(message.sender) for message in left] == [str(other)]


def test_what_other_processes_have_in_memory_of_the_last_sessions_goes_too(town: PersonTown) -> None:
    approved(town, ADA)
    about, other = sought(town, ADA), town.another()
    event = AccessEvent(town.clock.now(), "sign_out", "success", "imap", town.acme, town.ada, b"", CLIENT)
    other.access_log.record(event)
    erased = erase(about, BY, "reason", logs=True)
    town.end(town.acme, town.ada)
    erase_last_logs(about, town.ada, erased, other.flush_logs)
    assert CLIENT not in records(town)
    other.close()


def test_strangers_have_no_keys_in_records(town: PersonTown) -> None:
    with pytest.raises(NotFound, match="strangers"):
        ask_for_logs(sought(town, STRANGER), "reason", BY)
    assert [each.of.name for each in erase(sought(town, STRANGER), BY, "reason").stays][:3] == [
        "access_events",
        "transcripts",
        "traces",
    ]


def test_a_hold_blocks(town: PersonTown) -> None:
    holds = town.installation.control.holds
    holds.add(town.acme, town.ada, ends=town.clock.now() + 1000, reason="case", asked_by=BY, approved_by=SECOND)
    approved(town, ADA)
    with pytest.raises(Conflict, match="legal hold"):
        erase(sought(town, ADA), BY, "reason", logs=True)
    assert str(ADA) in records(town)
    erased = erase(sought(town, STRANGER), BY, "reason")
    assert "holds" in {each.of.name for each in erased.stays}
    assert [item["tenant"] for item in everything(town, STRANGER)["withheld"]] == ["acme"]


def test_an_alias_is_no_person(town: PersonTown) -> None:
    with pytest.raises(InvalidInput, match="alias"):
        erase(sought(town, EmailAddress.parse(ALIAS)), BY, "reason")


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_reason_is_needed(town: PersonTown, reason: str) -> None:
    with pytest.raises(InvalidInput):
        erase(sought(town, STRANGER), BY, reason)


def test_what_was_asked_is_recorded_without_naming_strangers(town: PersonTown) -> None:
    erase(sought(town, STRANGER), BY, "a letter")
    made = list(requests.made(sought(town, STRANGER)))
    assert [each.action for each in made] == [requests.ERASE, requests.DONE]
    assert made[0].details is not None and made[0].details["reason"] == "a letter"
    assert not any(str(STRANGER) in str(record.details) for record in town.installation.audit.read())


class TestCorrections:
    def test_a_name(self, town: PersonTown) -> None:
        number = correct_name(sought(town, ADA), "Ada Lovelace", BY)
        assert town.installation.tenant(town.acme).account(town.ada).name == "Ada Lovelace"
        details = town.installation.audit.find(number).details
        assert details is not None and (details["before"], details["after"]) == ("Ada of q7x", "Ada Lovelace")
        for name in ("x" * 201, "a\nb"):
            with pytest.raises(InvalidInput):
                correct_name(sought(town, ADA), name, BY)
        with pytest.raises(NotFound):
            correct_name(sought(town, STRANGER), "Nadia", BY)

    @pytest.mark.parametrize("keep", [True, False])
    def test_an_address(self, town: PersonTown, keep: bool) -> None:
        new = EmailAddress.parse("ada.lovelace@acme.test")
        correct_address(sought(town, ADA), new, BY, keep_alias=keep)
        control, tenant = town.installation.control, town.installation.tenant(town.acme)
        assert tenant.account_by_address(new).account_id == town.ada
        login = control.find_login(control.login_hash(str(new)))
        assert login is not None and login.account_id == town.ada
        assert control.find_login(control.login_hash(str(ADA))) is None
        assert (tenant.addresses.find(ADA.key) is not None) is keep
        assert sought(town, EmailAddress.parse(ALIAS)).account_id == town.ada

    def test_an_address_that_is_somebody_s(self, town: PersonTown) -> None:
        for taken in (str(BO), ALIAS):
            with pytest.raises(AlreadyExists):
                correct_address(sought(town, ADA), EmailAddress.parse(taken), BY)
        for elsewhere in ("ada@other.test", "ada@far.test"):
            with pytest.raises(NotPermitted):
                correct_address(sought(town, ADA), EmailAddress.parse(elsewhere), BY)
        with pytest.raises(InvalidInput, match="alias"):
            correct_address(sought(town, EmailAddress.parse(ALIAS)), EmailAddress.parse("a@acme.test"), BY)

    def test_a_contact(self, town: PersonTown) -> None:
        new = EmailAddress.parse("office@far.test")
        correct_address(sought(town, STRANGER), new, BY)
        assert town.installation.control.contracts.contact(town.other) == new
        with pytest.raises(NotFound):
            correct_address(sought(town, STRANGER), new, BY)
