"""Files of events and cards become objects, one for each UID, where they belong; what is broken is told."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from entries_place import calendar, card
from export_place import ExportPlace

from storage.archives.entries import EntryFiles, are_entries
from storage.collections.values import Kind
from storage.errors import InvalidInput
from storage.importing import Progress
from storage.importing_entries import EntryReport, import_entries
from storage.mail.account import Account
from storage.mail.quota import Limits

HEAD, TAIL = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\n", b"END:VCALENDAR\r\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportPlace]:
    place = ExportPlace(tmp_path_factory.mktemp("import") / "data")
    yield place
    place.close()


@pytest.fixture
def account(place: ExportPlace) -> Iterator[Account]:
    with place.account(place.new_account()) as account:
        yield account


def component(uid: str, name: str = "VEVENT", summary: str = "lunch") -> bytes:
    return calendar(uid, name, summary=summary)[len(HEAD) : -len(TAIL)]


def names(account: Account, kind: Kind, name: str) -> list[str]:
    return [each.name for each in account.objects.list(account.collections.find(kind, name).id)]


def put(path: Path, octets: bytes) -> EntryFiles:
    path.write_bytes(octets)
    return EntryFiles(path)


MIXED = HEAD + component("e1") + component("t/1", "VTODO") + component("n1", "VJOURNAL") + component("e2") + TAIL


def test_each_component_goes_where_it_belongs(account: Account, tmp_path: Path) -> None:
    told: list[Progress] = []
    report = import_entries(account, put(tmp_path / "all.ics", MIXED), progress=told.append)
    assert (report.imported, report.failed, report.made, report.stopped) == (4, [], [], None)
    assert names(account, Kind.CALENDAR, "calendar") == ["e1.ics", "e2.ics"]
    [task] = names(account, Kind.CALENDAR, "tasks")
    assert task.endswith(".ics") and "/" not in task
    assert names(account, Kind.CALENDAR, "notes") == ["n1.ics"]
    assert "Notes" in {each.name for each in account.mailboxes.list()}  # its other face
    assert told and told[-1].total == len(MIXED)
    cards = import_entries(account, put(tmp_path / "all.vcf", card("c1") + card("c2")))
    assert cards.imported == 2 and names(account, Kind.ADDRESS_BOOK, "contacts") == ["c1.vcf", "c2.vcf"]


def test_what_is_there_stays_or_is_replaced(account: Account, tmp_path: Path) -> None:
    first = put(tmp_path / "a.ics", HEAD + component("e1") + component("e2") + TAIL)
    other = put(tmp_path / "b.ics", HEAD + component("e1", summary="dinner") + component("e2") + TAIL)
    book = account.collections.find(Kind.CALENDAR, "calendar")
    assert import_entries(account, first).imported == 2
    again = import_entries(account, first)
    assert (again.imported, again.present) == (0, 2)
    tried = import_entries(account, other, replace=True, dry_run=True)
    stored = account.objects.find(book.id, "e1.ics")
    assert account.objects.read(stored) == calendar("e1")
    done = import_entries(account, other, replace=True)
    assert (done.replaced, done.present) == (tried.replaced, tried.present) == (1, 1)
    assert account.objects.read(stored) == calendar("e1", summary="dinner")


def test_broken_entries_are_told_with_their_lines_and_the_others_are_kept(account: Account, tmp_path: Path) -> None:
    broken = component("bad").replace(b"DTSTART:20260102T100000Z", b"DTSTART:never")
    octets = HEAD + component("e1") + broken + component("e2") + TAIL
    before = octets.partition(b"UID:bad")[0].count(b"\n")  # the BEGIN above it
    report = import_entries(account, put(tmp_path / "a.ics", octets))
    [failure] = report.failed
    assert report.imported == 2 and failure.origin == f"a.ics, line {before}"
    assert failure.reason.endswith(".")
    cards = card("c1") + b"\r\nBEGIN:VCARD\r\nVERSION:3.0\r\nrubbish\r\nEND:VCARD\r\n" + card("c2")
    report = import_entries(account, put(tmp_path / "a.vcf", cards))
    assert report.imported == 2 and report.failed[0].origin == "a.vcf, line 8"
    nothing = import_entries(account, put(tmp_path / "b.ics", b"no calendar"))
    assert [each.origin for each in nothing.failed] == ["b.ics"]


def test_a_named_collection_is_made_or_found(account: Account, tmp_path: Path) -> None:
    files = put(tmp_path / "a.ics", MIXED)
    tried = import_entries(account, files, "Old", dry_run=True)
    assert (tried.imported, tried.made) == (4, ["Old"])
    assert import_entries(account, files, "Old").made == ["Old"]
    assert len(names(account, Kind.CALENDAR, "Old")) == 4
    assert import_entries(account, files, "Old").present == 4
    refused = import_entries(account, files, "Tasks")  # as it is shown; it takes nothing else
    assert refused.imported == 1 and len(refused.failed) == 3
    assert import_entries(account, files, "a/b").stopped


def test_without_its_own_calendar_another_one_is_taken(account: Account, tmp_path: Path) -> None:
    account.collections.delete(account.collections.find(Kind.CALENDAR, "tasks").id)
    report = import_entries(account, put(tmp_path / "a.ics", HEAD + component("t1", "VTODO") + TAIL))
    assert report.made == ["tasks"] and names(account, Kind.CALENDAR, "tasks") == ["t1.ics"]


def test_the_quota_ends_an_import(account: Account, tmp_path: Path) -> None:
    account.limits = Limits(bytes=300)
    report = import_entries(account, put(tmp_path / "a.ics", MIXED))
    assert report.stopped and report.imported == 1


def test_folders_and_zips_are_read(account: Account, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "a.ics").write_bytes(calendar("e1"))
    (folder / "below" / "b.vcf").write_bytes(card("c1"))
    (folder / "readme.txt").write_text("no entry")
    (folder / ".hidden.ics").write_bytes(calendar("e9"))
    (folder / "link.ics").symlink_to(folder / "a.ics")
    assert are_entries(folder) and import_entries(account, EntryFiles(folder)).imported == 2
    packed = tmp_path / "takeout.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("Takeout/Calendar/me.ics", HEAD + component("e1") + component("e3") + TAIL)
        archive.writestr("../../evil.vcf", card("c3"))
        archive.writestr("Takeout/index.html", "<html>")
    assert are_entries(packed)
    report = import_entries(account, EntryFiles(packed))
    assert (report.imported, report.present, report.failed) == (2, 1, [])
    assert not (tmp_path.parent / "evil.vcf").exists()


def test_a_zip_that_lies_ends_with_a_sentence(
    account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.archives import entries

    octets = io.BytesIO()
    with zipfile.ZipFile(octets, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.ics", b"\n" * 5_000_000)
        archive.writestr("a.ics", calendar("e1"))
    monkeypatch.setattr(entries, "FILE_MAX", 1_000_000)
    report = import_entries(account, put(tmp_path / "a.zip", octets.getvalue()))
    assert report.imported == 1 and [each.origin for each in report.failed] == ["bomb.ics"]
    monkeypatch.setattr(entries, "ZIP_MAX", 900_000)
    with pytest.raises(InvalidInput):
        import_entries(account, EntryFiles(tmp_path / "a.zip"))
    torn = octets.getvalue()
    report = EntryReport()
    for cut in range(len(torn) - 60, len(torn), 7):
        (tmp_path / "torn.zip").write_bytes(torn[:cut])
        try:
            report = import_entries(account, EntryFiles(tmp_path / "torn.zip"))
        except InvalidInput:
            continue
    assert report.imported == 0


@pytest.mark.parametrize(
    ("name", "octets", "is_one"),
    [
        ("calendar", b"\xef\xbb\xbfBEGIN:VCALENDAR\r\n", True),
        ("cards", "BEGIN:VCARD\r\n".encode("utf-16"), True),
        ("x.VCF", b"", True),
        ("mbox", b"From a@b Thu Jan  1 00:00:00 1970\n", False),
        ("a.eml", b"Subject: x\r\n\r\n", False),
    ],
)
def test_what_a_file_is(tmp_path: Path, name: str, octets: bytes, is_one: bool) -> None:
    (tmp_path / name).write_bytes(octets)
    assert are_entries(tmp_path / name) is is_one
