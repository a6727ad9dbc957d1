"""Calendars, address books, notes and files go out as files that other programs read, and come back as they were."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from entries_place import calendar, card, fill, held
from export_place import ExportPlace
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_export_hostile import sign_again

from storage.check import check_installation
from storage.collections.values import Kind, NewCollection, file_content
from storage.errors import CleanmailError, InvalidInput
from storage.export.account import export_account
from storage.export.restore import restore_archive
from storage.export.tenant import export_tenant
from storage.export.values import COLLECTIONS, MANIFEST, MARKER, Form
from storage.export.verify import verify_archive
from storage.icalendar.content import calendar_content
from storage.values import AccountId
from storage.vcard.content import card_content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExportPlace]:
    place = ExportPlace(tmp_path_factory.mktemp("export") / "data")
    yield place
    place.close()


def view(place: ExportPlace, account_id: AccountId) -> dict[str, Any]:
    with place.account(account_id) as account:
        return held(account)


@pytest.fixture(scope="module")
def full(place: ExportPlace) -> AccountId:
    account_id = place.new_account()
    with place.account(account_id) as account:
        fill(account)
    return account_id


@pytest.mark.parametrize("form", Form)
def test_everything_comes_back_as_it_was(place: ExportPlace, full: AccountId, tmp_path: Path, form: Form) -> None:
    manifest = export_account(place.installation, place.tenant_id, full, tmp_path / "one", form)
    assert manifest.counts["objects"] == 19 and manifest.counts["unreadable_objects"] == 0
    assert verify_archive(tmp_path / "one").strange == []
    other = place.new_account()
    dry = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one", dry_run=True)
    assert view(place, other) == view(place, place.new_account())
    place.clock.advance(1000)
    restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "one")
    assert (restored.objects, restored.objects_present, restored.notes) == (18, 0, [])
    assert (dry.objects, dry.collections, dry.object_octets) == (
        restored.objects, restored.collections, restored.object_octets,
    )  # fmt: skip
    assert view(place, other) == view(place, full)
    for account_id in (other, full):
        again = restore_archive(place.installation, place.tenant_id, account_id, tmp_path / "one")
        assert (again.objects, again.objects_present, again.imported) == (0, 18, 0)
    assert view(place, other) == view(place, full)
    assert list(check_installation(place.installation, contents=True)) == []


def test_other_programs_find_files(place: ExportPlace, full: AccountId, tmp_path: Path) -> None:
    export_account(place.installation, place.tenant_id, full, tmp_path / "to")
    names = {str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*") if path.is_file()}
    assert {"calendars/Wörk & 1/A.ics", "calendars/notes/n.ics", "addressbooks/contacts/photo.vcf"} <= names
    assert "files/Level/Level/1.bin" in names and len({name.casefold() for name in names}) == len(names)
    assert (tmp_path / "to" / "calendars" / "notes" / "n.ics").read_bytes().startswith(b"BEGIN:VCALENDAR")
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "to").rglob("*"))


def test_an_update_writes_what_is_new_and_removes_what_went(place: ExportPlace, tmp_path: Path) -> None:
    account_id, archive = place.new_account(), tmp_path / "to"

    def export(to: Path = archive) -> dict[str, tuple[int, bytes]]:
        export_account(place.installation, place.tenant_id, account_id, to, update=True)
        assert verify_archive(to).strange == []
        paths = [path for path in to.rglob("*") if path.is_file() and path.suffix not in (".json", ".jsonl")]
        return {str(path.relative_to(to)): (path.stat().st_ino, path.read_bytes()) for path in paths}

    with place.account(account_id) as account:
        fill(account)
        before = export()
        assert export() == before
        calendar_id = account.collections.find(Kind.CALENDAR, "Wörk & 1").id
        account.objects.delete(calendar_id, "a.ICS")
        account.objects.put(calendar_id, "A.ics", calendar_content(calendar("a", summary="dinner")))
        account.collections.delete(account.collections.find(Kind.FOLDER, "files").id)
        account.collections.create(NewCollection(Kind.FOLDER, "files"))
        account.collections.create(NewCollection(Kind.ADDRESS_BOOK, "More"))
        after = export()
    assert {name for name in before if name.startswith("files/")} and not any(n.startswith("files/") for n in after)
    assert b"dinner" in after["calendars/Wörk & 1/A.ics"][1] and not (archive / "files" / "Level").exists()
    kept = before.keys() & after.keys() - {"calendars/Wörk & 1/A.ics"}
    assert len(kept) > 8 and all(before[name] == after[name] for name in kept)
    fresh = export(tmp_path / "fresh")
    assert {name: octets for name, (_, octets) in fresh.items()} == {n: octets for n, (_, octets) in after.items()}


def test_a_run_that_broke_off_leaves_what_it_wrote_to_the_next(
    place: ExportPlace, full: AccountId, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from storage.export import collections

    whole, archive = tmp_path / "whole", tmp_path / "to"
    export_account(place.installation, place.tenant_id, full, whole)
    monkeypatch.setattr(collections, "_BATCH_LINES", 2)
    flush, count = collections._Run._flush, 0

    def breaks_off(self: Any, part: Any) -> None:
        nonlocal count
        count += 1
        if count in (6, 16):
            raise OSError(5, "broken")
        flush(self, part)

    monkeypatch.setattr(collections._Run, "_flush", breaks_off)
    for _ in range(2):
        with pytest.raises(CleanmailError):
            export_account(place.installation, place.tenant_id, full, archive)
    export_account(place.installation, place.tenant_id, full, archive)
    files = [
        {
            str(path.relative_to(each)): path.read_bytes()
            for path in each.rglob("*")
            if path.is_file() and path.suffix != ".json"
        }
        for each in (whole, archive)
    ]
    assert files[0] == files[1]


def test_what_an_account_in_use_has_stays(place: ExportPlace, full: AccountId, tmp_path: Path) -> None:
    export_account(place.installation, place.tenant_id, full, tmp_path / "to")
    other = place.new_account()
    with place.account(other) as account:
        own = account.collections.create(NewCollection(Kind.CALENDAR, "Wörk & 1", display_name="Other"))
        account.objects.put(own.id, "A.ics", calendar_content(calendar("mine")))
        account.objects.put(own.id, "other.ics", calendar_content(calendar("b")))
        restored = restore_archive(place.installation, place.tenant_id, other, tmp_path / "to")
        assert (restored.objects, restored.objects_present) == (16, 2)
        assert account.collections.find(Kind.CALENDAR, "Wörk & 1").display_name == "Other"
        assert account.collections.find(Kind.CALENDAR, "tasks") and account.collections.find(Kind.FOLDER, "files")
        stored = account.objects.find(own.id, "A.ics")
        assert account.objects.read(stored) == calendar("mine") and not account.properties.get(own.id, stored.object_id)


def test_an_archive_of_mail_alone_is_taken_and_brought_up_to_date(place: ExportPlace, tmp_path: Path) -> None:
    """As the version before this one made it."""
    account_id, archive = place.new_account(), tmp_path / "to"
    export_account(place.installation, place.tenant_id, account_id, archive)
    (archive / COLLECTIONS).unlink()
    marker = json.loads((archive / MARKER).read_bytes())
    (archive / MARKER).write_text(json.dumps(marker | {"format": 1}))
    values = json.loads((archive / MANIFEST).read_bytes())["manifest"]
    files = {name: value for name, value in values["files"].items() if name != COLLECTIONS}
    counts = {name: number for name, number in values["counts"].items() if "object" not in name}
    sign_again(archive, files=files, format=1, counts={**counts, "collections": 0})
    assert verify_archive(archive).manifest.format == 1
    restored = restore_archive(place.installation, place.tenant_id, place.new_account(), archive)
    assert restored.notes == [] and restored.objects == 0
    export_account(place.installation, place.tenant_id, account_id, archive, update=True)
    assert verify_archive(archive).manifest.counts["collections"] == 6


def test_a_tenants_archive_counts_them(place: ExportPlace, full: AccountId, tmp_path: Path) -> None:
    manifest = export_tenant(place.installation, place.tenant_id, tmp_path / "to")
    assert manifest.counts["objects"] >= 18
    assert verify_archive(tmp_path / "to").manifest.counts == manifest.counts


# Hostile archives


@pytest.fixture
def archive(place: ExportPlace, full: AccountId, tmp_path: Path) -> Path:
    export_account(place.installation, place.tenant_id, full, tmp_path / "archive")
    (tmp_path / "secret").write_bytes(b"of somebody else")
    return tmp_path / "archive"


CHANGES: list[tuple[str, dict[str, Any]]] = [
    ("object", {"file": "../secret"}),
    ("object", {"file": "calendars/../../secret"}),
    ("object", {"file": "account.json"}),
    ("object", {"object": 0}),
    ("object", {"object": "1"}),
    ("object", {"size": -1}),
    ("object", {"size": 1 << 62}),
    ("object", {"name": "a/b"}),
    ("object", {"name": ".."}),
    ("object", {"name": 7}),
    ("object", {"content_type": "text/html\r\nX: y"}),
    ("object", {"sha256": "0" * 64}),
    ("object", {"etag": "none"}),
    ("collection", {"path": "/etc"}),
    ("collection", {"path": "calendars"}),
    ("collection", {"path": "Maildir/cur"}),
    ("collection", {"path": "calendars/.."}),
    ("collection", {"collection": 0}),
    ("collection", {"collection": True}),
    ("collection", {"of": "trash"}),
    ("collection", {"name": ""}),
    ("collection", {"components": "VEVENT"}),
    ("collection", {"components": ["VEVENT\n"]}),
    ("collection", {"transparent": 1}),
    ("collection", {"position": "1"}),
    ("collection", {"kind": "feed"}),
    ("property", {"name": "seen"}),
    ("property", {"value": 5}),
    ("property", {"value": "\ud800"}),
    ("property", {"collection": 77}),
]


@pytest.mark.parametrize(("kind", "change"), CHANGES, ids=str)
def test_an_index_that_lies_is_refused(archive: Path, kind: str, change: dict[str, Any]) -> None:
    lines = [json.loads(line) for line in (archive / COLLECTIONS).read_bytes().splitlines()]
    chosen = next(line for line in lines[1:] if line["kind"] == kind and (kind != "object" or line["size"]))
    chosen |= change
    (archive / COLLECTIONS).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    sign_again(archive)
    with pytest.raises(InvalidInput):
        verify_archive(archive)


def test_bodies_that_no_client_could_store_stay_in_the_archive(
    place: ExportPlace, archive: Path, tmp_path: Path
) -> None:
    lines = [json.loads(line) for line in (archive / COLLECTIONS).read_bytes().splitlines()]
    chosen = next(line for line in lines if line.get("name") == "meeting.ics")
    octets = b"BEGIN:VCALENDAR\r\nno calendar"
    (archive / chosen["file"]).write_bytes(octets)
    chosen |= {"size": len(octets), "sha256": hashlib.sha256(octets).hexdigest()}
    folders = [line for line in lines if line["kind"] == "collection" and line["of"] == "folder"]
    folders[1]["parent"] = folders[-1]["collection"]  # each lies in the other
    (archive / COLLECTIONS).write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    total = sum(line["size"] for line in lines if line["kind"] == "object")
    counts = json.loads((archive / MANIFEST).read_bytes())["manifest"]["counts"]
    sign_again(archive, counts=counts | {"object_octets": total})
    restored = restore_archive(place.installation, place.tenant_id, place.new_account(), archive)
    assert restored.objects == 8 and len(restored.notes) == 2 and "meeting" in restored.notes[1]


def test_links_are_not_followed(archive: Path, tmp_path: Path) -> None:
    chosen = archive / "calendars" / "notes" / "n.ics"
    (tmp_path / "away").write_bytes(chosen.read_bytes())
    chosen.unlink()
    chosen.symlink_to(tmp_path / "away")
    with pytest.raises(InvalidInput):
        verify_archive(archive)


# Properties

segment = st.text(st.sampled_from(list("aA.~b ä✉&%:*")), min_size=1, max_size=5)
bodies = st.dictionaries(segment, st.binary(max_size=40), max_size=4)
trees = st.dictionaries(segment, bodies, max_size=4)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(trees, trees)
def test_whatever_names_there_are_they_come_back(
    place: ExportPlace, tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Any], books: dict[str, Any]
) -> None:
    one, other, to = place.new_account(), place.new_account(), tmp_path_factory.mktemp("names") / "to"
    with place.account(one) as account:
        parent = account.collections.create(NewCollection(Kind.FOLDER, "files")).id
        for kind, tree in ((Kind.FOLDER, folders), (Kind.ADDRESS_BOOK, books)):
            for name, entries in tree.items():
                try:
                    new = NewCollection(kind, name, parent if kind is Kind.FOLDER else 0, display_name=name)
                    made = account.collections.create(new)
                except CleanmailError:  # a name that cannot be
                    continue
                for number, (called, octets) in enumerate(entries.items()):
                    body = file_content(octets, "") if kind is Kind.FOLDER else card_content(card(f"u{number}"))
                    try:
                        account.objects.put(made.id, called, body)
                    except CleanmailError:
                        continue
                parent = made.id if kind is Kind.FOLDER else parent
        wanted = held(account)
    export_account(place.installation, place.tenant_id, one, to)
    assert verify_archive(to).strange == []
    restore_archive(place.installation, place.tenant_id, other, to)
    assert view(place, other) == wanted


def test_what_else_lies_in_an_archive_is_told(archive: Path) -> None:
    (archive / "calendars" / "notes" / "other.ics").write_bytes(b"x")
    (archive / "files" / "other.txt").write_bytes(b"x")
    assert [each.partition(":")[0] for each in verify_archive(archive).strange] == ["calendars/notes", "files"]
