"""A report holds what is stored about a person and nothing of others: each class of the register, or why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from person_town import ADA, ALIAS, BO, CLIENT, STRANGER, PersonTown

from storage.collections.values import Kind as CollectionKind
from storage.directory.approvals import Kind
from storage.errors import InvalidInput, Unavailable
from storage.export.verify import verify_archive
from storage.icalendar.content import calendar_content
from storage.logs.trace import TraceEvent, TraceKind
from storage.mail.annotations import AnnotationLimits
from storage.persons.collectors import COLLECTORS, NOT_SEARCHED
from storage.persons.report import searched_classes, stream_report, verify_report, write_report
from storage.persons.sought import Sought, seek
from storage.register.catalogue import CATALOGUE
from storage.register.values import Whose
from storage.values import AccountId, EmailAddress, TenantId
from storage.vcard.content import card_content

CALENDAR_AND_CONTACTS = ((CollectionKind.CALENDAR, "calendar"), (CollectionKind.ADDRESS_BOOK, "contacts"))


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PersonTown]:
    town = PersonTown.made(tmp_path_factory.mktemp("persons") / "data")
    yield town
    town.close()


def sought(town: PersonTown, address: EmailAddress, only: TenantId | None = None, *, auditor: bool = False) -> Sought:
    found = seek(town.installation, address, only)
    if auditor:
        found.transcripts_key = town.keys.auditor_key("a test")
    return found


def collected(about: Sought) -> dict[str, list[dict[str, Any]]]:
    lines: list[str] = []
    stream_report(about, lines.append)
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines[:-1]:
        values = json.loads(line)
        found.setdefault(values.pop("class"), []).append(values)
    return found


def test_every_class_with_persons_is_searched_or_says_why_not() -> None:
    persons = {of for of in CATALOGUE.classes if of.whose - {Whose.NOBODY}}
    assert set(searched_classes()) == persons
    assert COLLECTORS.keys() | NOT_SEARCHED.keys() == persons
    assert not COLLECTORS.keys() & NOT_SEARCHED.keys()
    assert all(why.endswith(".") for why in NOT_SEARCHED.values())


def test_an_account_is_found_in_every_way(town: PersonTown) -> None:
    found = collected(sought(town, ADA, auditor=True))
    [account, password, alias] = found["accounts"]
    assert account["address"] == str(ADA) and account["name"] == "Ada of q7x"
    assert password["name"] == "ada's telephone" and alias["address"] == ALIAS
    assert [item["client_address"] for item in found["access_events"]] == [CLIENT]
    assert [item["id"] for item in found["traces"]] == ["q0", "q1", "q2"]
    [transcript] = found["transcripts"]
    assert any(str(ADA) in line for line in transcript["lines"])
    assert not any(str(BO) in line for line in transcript["lines"])
    assert {item["folder"] for item in found["mail"]} >= {"INBOX"}
    assert "account.show" in {item["action"] for item in found["audit"]}
    assert found["directory"][0]["account_number"] == town.ada


def test_names_of_what_clients_keep_beside_folders(town: PersonTown) -> None:
    limits = AnnotationLimits(10, 10_000)
    with town.installation.account(town.acme, town.ada) as account:
        inbox = account.mailboxes.find("INBOX").id
        account.annotations.change(town.ada, inbox, {"/private/comment": b"secret"}, limits)
        account.annotations.change(AccountId(99), inbox, {"/private/comment": b""}, limits)
    found = [item for item in collected(sought(town, ADA))["mail"] if item["record"] == "account.annotation"]
    assert [(item["folder"], item["entry"], item["octets"]) for item in found] == [
        ("INBOX", "/private/comment", 6),
        ("of another account", "/private/comment", 0),
    ]
    with town.installation.account(town.acme, town.ada) as account:
        account.annotations.change(town.ada, inbox, {"/private/comment": None}, limits)
        account.annotations.forget_others(AccountId(99), ())


def test_who_is_found_by_an_alias_is_the_account(town: PersonTown) -> None:
    found = collected(sought(town, EmailAddress.parse(ALIAS)))
    assert found["accounts"][0]["address"] == str(ADA)


def test_a_stranger_is_found_where_users_met_him(town: PersonTown) -> None:
    found = collected(sought(town, STRANGER))
    assert [item["tenant"] for item in found["withheld"]] == ["acme", "other"]
    assert all(item["recipients"] == [] for item in found["withheld"])  # who got it is theirs
    assert [(item["tenant"], item["list"]) for item in found["settings"]] == [("acme", "deny"), ("other", "deny")]
    assert {item["address"] for item in found["accounts"]} == {"list@acme.test", "away@other.test"}
    assert {item["also_to"][0] for item in found["accounts"]} == {str(STRANGER)}
    assert [item["accounts_that_wrote_to_it"] for item in found["experience"]] == [1, 1]
    assert [item["tenant"] for item in found["forwarded_senders"]] == ["acme", "other"]
    assert found["queue"][0]["recipients"] == [str(STRANGER)]
    assert found["contracts"] == [{"record": "control.contract", "tenant": "other", "contact": str(STRANGER)}]
    assert [item["id"] for item in found["traces"]] == ["q0", "q1", "q3"]
    assert "directory" not in found and "access_events" not in found


def test_who_stands_in_calendars_and_address_books_is_told_by_numbers_alone(town: PersonTown) -> None:
    folded = f"ATTENDEE;CN=Nadia;PARTSTAT=NEEDS-ACTION:mailto:{STRANGER}".encode()
    event = (
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:e1\r\nDTSTAMP:20260101T000000Z\r\n"
        b"DTSTART:20260102T100000Z\r\nSUMMARY:lunch\r\n" + folded[:50] + b"\r\n " + folded[50:] + b"\r\n"
        b"END:VEVENT\r\nEND:VCALENDAR\r\n"
    )
    card = (
        b"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:c1\r\nFN:N\r\nN:N;;;;\r\nEMAIL:%s\r\nEND:VCARD\r\n" % str(STRANGER).encode()
    )
    with town.installation.account(town.acme, town.bo) as account:
        calendar, book = (account.collections.find(*each) for each in CALENDAR_AND_CONTACTS)
        account.objects.put(calendar.id, "e1.ics", calendar_content(event))
        account.objects.put(book.id, "c1.vcf", card_content(card))
    found = collected(sought(town, STRANGER))["collections"]
    assert found == [
        {"record": "account.object", "tenant": "acme", "kind": kind, "entries_that_name_the_address": 1}
        for kind in ("VCARD", "VEVENT")
    ]
    told = {item.get("name"): item["entries"] for item in collected(sought(town, BO))["collections"]}
    assert told["calendar"] == told["contacts"] == 1 and told["notes"] == 0
    assert "collections" not in collected(sought(town, STRANGER, town.other))


def test_limited_to_one_customer_nothing_of_another_is_told(town: PersonTown) -> None:
    text = json.dumps(collected(sought(town, STRANGER, town.other)))
    assert "acme" not in text and '"q3"' in text and '"q0"' not in text
    assert collected(sought(town, ADA, town.other)).keys() <= {"transcripts"}


def test_transcripts_are_for_auditors(town: PersonTown) -> None:
    [item] = collected(sought(town, ADA))["transcripts"]
    assert item["segments_that_name_the_account"] == 1 and "auditors" in item["released_by"]


def test_what_an_order_keeps_secret_is_not_told(town: PersonTown) -> None:
    about = sought(town, ADA)

    def authorities() -> list[str]:
        return sorted(item["authority"] for item in collected(about)["disclosures"])

    assert authorities() == ["District court"]
    about.secrecy_at += 2 * 86_400
    assert authorities() == ["District court", "Secret court k1"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (f"<{STRANGER}>", True),
        (f"'{STRANGER}'.", True),
        (f"SRS0=ab=cd={STRANGER}", True),
        (f"to:{str(STRANGER).upper()},", True),
        (f"x.{STRANGER}", False),
        (f"o'{STRANGER}", False),
        (f"a/{STRANGER}", False),
        (f"{STRANGER}.example", False),
        (f"{STRANGER}-x", False),
    ],
)
def test_who_has_a_longer_name_is_somebody_else(town: PersonTown, text: str, named: bool) -> None:
    assert sought(town, STRANGER).namer()(text) is named


def test_a_hold_is_not_told_while_a_case_is_secret_that_it_may_be_for(town: PersonTown) -> None:
    approvals, audit = town.installation.control.approvals, town.installation.audit
    approvals.ask(Kind.HOLD, {"tenant": "1"}, "the prosecutor", "olga", town.acme, town.ada)
    audit.append("hold.make", "olga", town.acme, town.ada, {"reason": "the prosecutor"})
    about = sought(town, ADA)
    found = collected(about)
    assert "prosecutor" not in json.dumps(found) and "approvals" not in found
    about.secrecy_at += 2 * 86_400
    found = collected(about)
    assert "prosecutor" in json.dumps(found) and [item["kind"] for item in found["approvals"]] == ["hold"]


def test_who_acted_is_told_by_role_and_to_himself_by_name(town: PersonTown) -> None:
    [shown] = [item for item in collected(sought(town, ADA))["audit"] if item["action"] == "account.show"]
    assert shown["by"] is None
    own = seek(town.installation, STRANGER, staff="root")
    assert {item["by"] for item in collected(own)["audit"]} == {"root"}


def test_from_where_others_send_is_theirs(town: PersonTown) -> None:
    facts = {"client": "198.51.100.9", "hello": "bos-laptop", "size": "7"}
    now = town.clock.now()
    town.installation.traces.record(
        TraceEvent(now, "q8", TraceKind.RECEIVED, town.acme, town.bo, str(BO), str(ADA), facts)
    )
    town.installation.flush_logs()
    [of_ada] = [item for item in collected(sought(town, ADA))["traces"] if item["id"] == "q8"]
    [of_bo] = [item for item in collected(sought(town, BO))["traces"] if item["id"] == "q8"]
    assert of_ada["details"] == {"size": "7"} and of_bo["details"] == facts


class TestPackage:
    def test_it_is_whole_and_signed(self, town: PersonTown, tmp_path: Path) -> None:
        target = tmp_path / "ada"
        report = write_report(sought(town, ADA), target, with_mail=True)
        assert report.unreadable == []
        values = verify_report(target, town.keys.verifying_key("manifest"))
        assert values["address"] == str(ADA) and values["counts"]["accounts"] == 3
        assert verify_archive(target / "mail").manifest.name == str(ADA)
        assert json.loads((target / "data" / "accounts.json").read_text())[0]["address"] == str(ADA)
        assert json.loads((target / "data" / "queue.json").read_text()) == []
        page = (target / "report.md").read_text()
        assert "## Access events" in page and CLIENT in page and "Nothing was found." in page
        assert {path.stat().st_mode & 0o077 for path in target.rglob("*") if path.is_file()} == {0}

    @pytest.mark.parametrize("spoil", ["change", "remove", "add", "manifest"])
    def test_a_change_is_found(self, town: PersonTown, tmp_path: Path, spoil: str) -> None:
        target = tmp_path / "report"
        write_report(sought(town, STRANGER), target)
        path = target / "data" / "settings.json"
        if spoil == "change":
            path.write_text(path.read_text().replace("deny", "allow"))
        elif spoil == "remove":
            path.unlink()
        elif spoil == "add":
            (target / "data" / "more.json").write_text("[]")
        else:
            manifest = target / "manifest.json"
            manifest.write_text(manifest.read_text().replace(str(STRANGER), "somebody@far.test"))
        with pytest.raises(InvalidInput):
            verify_report(target)

    def test_another_installation_s_key_does_not_fit(self, town: PersonTown, tmp_path: Path) -> None:
        write_report(sought(town, STRANGER), tmp_path / "report")
        with pytest.raises(InvalidInput, match="signed with the key"):
            verify_report(tmp_path / "report", b"k" * 32)

    def test_it_goes_nowhere_else(self, town: PersonTown, tmp_path: Path) -> None:
        (tmp_path / "full").mkdir()
        (tmp_path / "full" / "file").write_text("x")
        (tmp_path / "link").symlink_to(tmp_path / "full")
        for target in (tmp_path / "full", tmp_path / "link", town.data / "report", town.data):
            with pytest.raises(InvalidInput):
                write_report(sought(town, STRANGER), target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["full", "link"]

    @pytest.mark.parametrize("below", ["file/report", "file/a/report", "missing/" + "n" * 300])
    def test_a_target_that_cannot_be_written_is_told_as_such(
        self, town: PersonTown, tmp_path: Path, below: str
    ) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(Unavailable) as refused:
            write_report(sought(town, STRANGER), tmp_path / below)
        assert "target cannot be written" in refused.value.public

    def test_what_cannot_be_read_is_said(self, tmp_path: Path) -> None:
        town = PersonTown.made(tmp_path / "data")
        town.close()
        shutil.rmtree(town.data / "tenants" / str(town.other))
        town = PersonTown.again(tmp_path / "data")
        try:
            report = write_report(sought(town, STRANGER), tmp_path / "report")
            assert any("other" in each for each in report.unreadable)
            assert report.counts["settings"] == 1
            assert "could not be read" in (tmp_path / "report" / "report.md").read_text()
        finally:
            town.close()

    def test_a_stranger_s_text_is_no_markup(self, town: PersonTown, tmp_path: Path) -> None:
        tenant = town.installation.tenant(town.acme)
        tenant.set_setting("note", f"[{STRANGER}](http://evil.test)<script>\n# x")
        write_report(sought(town, STRANGER), tmp_path / "report")
        tenant.set_setting("note", None)
        page = (tmp_path / "report" / "report.md").read_text()
        assert "\\](http" in page and "\\<script\\>" in page and "\n# x" not in page
