"""Check, sweep, rebuild and backups know what collections store."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import ACCOUNT, KEY, TENANT, AccountPlace
from backup_town import BOB, ONE, BackupTown
from collections_place import event, file, folder, large

from storage.backup.manifest import DATA
from storage.backup.whole import restore_installation
from storage.check import check_account, check_installation
from storage.checks.finding import Kind as Found
from storage.checks.finding import Severity
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Collection, Content, Kind
from storage.files.incarnation import Incarnation
from storage.icalendar.content import calendar_content
from storage.mail.account import DATABASE, Account
from storage.rebuild import Rebuilt, rebuild_account
from storage.register.catalogue import CATALOGUE
from storage.sweep import Swept, sweep_account

EVENT = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//y//EN\r\nBEGIN:VEVENT\r\nUID:one\r\nDTSTAMP:20260101T000000Z\r\n"
    b"DTSTART:20260102T100000Z\r\nDTEND:20260102T110000Z\r\nSUMMARY:%b\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
CARD = b"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:card\r\nFN:Somebody\r\nN:Somebody;;;;\r\nNOTE:%b\r\nEND:VCARD\r\n"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


def fill(account: Account) -> Collection:
    """Small and large objects of all kinds, a copy, a property; the folder that has some of them."""
    top = folder(account, 0, "top")
    inner = folder(account, top.id, "inner")
    account.objects.put(top.id, "small", file(b"small"))
    account.objects.put(top.id, "large", file(b"before" + large()))
    stored = account.objects.put(top.id, "large", file(large())).stored
    account.transfers.copy(stored, inner.id, "copy")
    account.objects.put(inner.id, "other", file(large("other")))
    account.properties.set(inner.id, 0, "{x}y", b"<y/>")
    calendar = account.collections.find(Kind.CALENDAR, "calendar")
    account.objects.put(calendar.id, "event", event("one", EVENT % large()[:70_000]))
    account.objects.put(calendar.id, "little", event("two", b"little"))
    book = account.collections.find(Kind.ADDRESS_BOOK, "contacts")
    account.objects.put(book.id, "card", Content(CARD % large()[:70_000], "text/vcard", "card", "VCARD"))
    return top


def contents(account: Account) -> dict[str, bytes]:
    found = {}
    for each in account.collections.list():
        path = "/".join([each.kind, *(above.name for above in account.collections.path(each.id))])
        for stored, data in account.objects.read_many(account.objects.list(each.id)):
            found[f"{path}/{stored.name}"] = data
    return found


def findings(place: AccountPlace, *, contents: bool = True) -> list[tuple[Found, Severity]]:
    return [(each.kind, each.severity) for each in check_account(place.account, place.incarnation, contents=contents)]


def test_nothing_is_found_where_nothing_is_wrong_and_every_file_is_declared(place: AccountPlace) -> None:
    fill(place.account)
    place.settle()
    assert findings(place) == []
    assert CATALOGUE.undeclared(place.data) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("UPDATE collection SET objects = objects + 1 WHERE name = 'top'", {Found.COUNTER_WRONG}),
        ("UPDATE collection SET bytes = bytes + 1 WHERE name = 'top'", {Found.COUNTER_WRONG, Found.USAGE_WRONG}),
        ("UPDATE usage SET bytes = bytes - 1", {Found.USAGE_WRONG}),
        ("UPDATE object SET modseq = 999 WHERE name = 'small'", {Found.MODSEQ_BEYOND_HIGHEST}),
        ("UPDATE counter SET value = 1 WHERE name = 'object_id'", {Found.ID_BEYOND_COUNTER}),
        ("DELETE FROM object_data WHERE file IS NULL", {Found.CONTENT_MISSING}),
        ("DELETE FROM object_time", {Found.INDEX_WRONG}),
        ("DELETE FROM collection WHERE name = 'contacts'", {Found.OBJECT_LOOSE, Found.USAGE_WRONG}),
        ("UPDATE collection SET name = 'notes' WHERE name = 'tasks'", {Found.COLLECTION_LOOSE}),
        ("UPDATE object_data SET data = x'28b52ffd' WHERE file IS NULL", {Found.FILE_UNREADABLE}),
        ("UPDATE object SET etag = '\"x\"' WHERE name = 'small'", {Found.FILE_DIFFERS}),
    ],
)
def test_what_is_wrong_among_rows_is_found(place: AccountPlace, damage: str, found: set[Found]) -> None:
    fill(place.account)
    place.settle()
    place.account.database.write(lambda transaction: transaction.driver.execute(damage))
    assert {kind for kind, _ in findings(place)} == found


def test_a_lost_file_is_an_alarm_and_a_loose_one_is_no_loss(place: AccountPlace) -> None:
    fill(place.account)
    place.settle()
    cur = place.account.octets.files.path / "cur"
    names = sorted(path.name for path in cur.iterdir())
    (cur / names[0]).rename(cur / f"x{names[0]}")
    assert (Found.FILE_MISSING, Severity.ALARM) in findings(place, contents=False)
    assert (Found.FILE_WITHOUT_ROW, Severity.ERROR) in findings(place, contents=False)


def test_the_sweep_removes_what_the_dead_left_and_nothing_else(place: AccountPlace) -> None:
    account, where = place.account, folder(place.account)
    dead = Incarnation(place.data)
    mine, others = account.octets, [large(f"{n}") for n in range(4)]
    mine._incarnation = dead.name
    committed = account.objects.put(where.id, "a", file(others[0])).stored
    name = next(iter(mine.files.names("cur")))
    (mine.files.path / "cur" / name).rename(mine.files.path / "new" / name)  # as if it had died before it settled it
    lost = mine.pack(file(others[1]))
    unfinished = mine.pack(file(others[2]))
    assert lost.file and unfinished.file
    (mine.files.path / "new" / unfinished.file).rename(mine.files.path / "tmp" / unfinished.file)
    mine._incarnation = place.incarnation.name
    living = mine.pack(file(others[3]))
    assert sweep_account(account, place.incarnation) == Swept()
    dead.close()
    assert {kind for kind, _ in findings(place)} == {Found.FILE_UNFINISHED}
    assert sweep_account(account, place.incarnation) == Swept(tmp=1, new=1, settled=1)
    assert account.objects.read(committed) == others[0]
    assert list(mine.files.names("new")) == [living.file] and list(mine.files.names("cur")) == [name]
    mine.drop(living)
    assert findings(place) == []


def rebuild(place: AccountPlace) -> Rebuilt:
    place.account.close()
    rebuilt = rebuild_account(place.root, TENANT, ACCOUNT, KEY, place.surroundings)
    place.open()
    place.settle()
    return rebuilt


def test_a_rebuild_keeps_what_the_old_database_says(place: AccountPlace) -> None:
    top = fill(place.account)
    before, usage = contents(place.account), place.account.usage()
    token = place.account.collections.by_id(top.id).highest_modseq
    assert rebuild(place).objects == 7
    assert contents(place.account) == before and place.account.usage() == usage
    inner = place.account.collections.find(Kind.FOLDER, "inner", top.id)
    assert place.account.properties.get(inner.id) == {"{x}y": b"<y/>"}
    with pytest.raises(TokenTooOld):
        place.account.objects.changes(top.id, token)
    assert place.account.objects.put(top.id, "new", file()).created
    assert findings(place) == []


def test_without_the_old_database_large_objects_come_back_from_their_files(place: AccountPlace) -> None:
    fill(place.account)
    before = contents(place.account)
    lose_database(place)
    assert rebuild(place).objects == 4
    kept = {name: data for name, data in before.items() if len(data) > 65_536 and not name.endswith("copy")}
    assert contents(place.account) == kept
    calendar = place.account.collections.find(Kind.CALENDAR, "calendar")
    [(stored, times)] = place.account.objects.in_time(calendar.id, 1_767_348_000, 1_767_348_001)
    assert (stored.uid, stored.component, times.last - times.first) == ("one", "VEVENT", 3600)
    assert findings(place) == []


def test_a_rebuild_works_out_anew_when_events_take_place(place: AccountPlace) -> None:
    account, calendar = place.account, place.account.collections.find(Kind.CALENDAR, "calendar")
    account.objects.put(calendar.id, "small", calendar_content(EVENT % b"small"))
    account.objects.put(calendar.id, "large", calendar_content((EVENT % large()).replace(b"UID:one", b"UID:two")))
    account.objects.put(calendar.id, "unreadable", event("three"))
    account.database.write(lambda transaction: transaction.driver.execute("DELETE FROM object_time"))
    rebuild(place)
    found = place.account.objects.in_time(calendar.id, 1_767_348_000, 1_767_348_001)
    assert [each.name for each, _ in found] == ["small", "large"]


def lose_database(place: AccountPlace) -> None:
    place.account.close()
    for path in place.root.glob(DATABASE + "*"):
        path.unlink()


def test_no_token_outlives_a_database_that_was_lost_whole(place: AccountPlace) -> None:
    before = folder(place.account, 0, "top")
    place.account.objects.put(before.id, "large", file(large()))
    calendar = place.account.collections.find(Kind.CALENDAR, "calendar")
    event_before = place.account.objects.put(calendar.id, "event", event("one", EVENT)).stored
    lose_database(place)
    rebuild(place)
    account = place.account
    top = account.collections.find(Kind.FOLDER, "top")
    assert top.id > before.id + 1000  # a client's token names a collection that is not there any more
    calendar = account.collections.find(Kind.CALENDAR, "calendar")
    account.objects.put(calendar.id, "another", event("two", EVENT))
    with pytest.raises(TokenTooOld):
        account.objects.changes(calendar.id, event_before.modseq)


def test_large_objects_come_back_whose_places_were_taken_since(place: AccountPlace) -> None:
    account, top = place.account, folder(place.account, 0, "top")
    moved = account.objects.put(top.id, "x", file(large("moved"))).stored
    account.transfers.move(moved, top.id, "y")
    inner = folder(account, top.id, "x")
    account.objects.put(inner.id, "inner", file(large("inner")))
    lose_database(place)
    rebuilt = rebuild(place)
    assert (rebuilt.objects, rebuilt.unreadable) == (2, [])
    assert sorted(contents(place.account).values()) == [large("inner"), large("moved")]
    assert findings(place) == []


def test_what_a_damaged_database_has_left_is_made_whole(place: AccountPlace) -> None:
    fill(place.account)
    place.settle()

    def damage(transaction: object) -> None:
        driver = transaction.driver  # type: ignore[attr-defined]
        driver.execute("DELETE FROM collection WHERE name IN ('contacts', 'inbox', 'top')")
        driver.execute("DELETE FROM object_data WHERE object_id = (SELECT object_id FROM object WHERE name = 'little')")
        driver.execute("UPDATE counter SET value = 0")

    place.account.database.write(damage)
    assert rebuild(place).objects == 4
    assert sorted(contents(place.account)) == [
        "address_book/contacts/card",
        "calendar/calendar/event",
        "folder/top/inner/other",
        "folder/top/large",
    ]
    assert [each.name for each in place.account.collections.list(Kind.INBOX)] == ["inbox"]
    assert findings(place) == []


def test_a_backup_has_objects_with_their_files_and_no_token_outlives_a_restore(tmp_path: Path) -> None:
    town = BackupTown(tmp_path)
    try:
        with town.installation.account(ONE, BOB) as account:
            top = fill(account)
            before = contents(account)
        stored = town.backup().stored
        found = [path for path in (stored.root / DATA).rglob("objects/*/*") if path.is_file()]
        assert {path.parent.name for path in found} == {"cur"} and len(found) == 4
        with town.installation.account(ONE, BOB) as account:
            account.objects.put(top.id, "later", file())
            token = account.collections.by_id(top.id).highest_modseq
        target = tmp_path / "restored"
        target.mkdir(mode=0o700)
        shutil.copytree(town.data / "keys", target / "keys")
        town.clock.advance(3600)
        restore_installation(town.place, stored, target, town.keys(target), town.clock)
        restored = town.open(target)
        try:
            assert [*check_installation(restored, contents=True)] == []
            with restored.account(ONE, BOB) as account:
                assert contents(account) == before
                with pytest.raises(TokenTooOld):
                    account.objects.changes(top.id, token)
                assert account.collections.by_id(top.id).highest_modseq > token
                stored_again = account.objects.put(top.id, "again", file(large("again"))).stored
                account.objects.delete(top.id, "again")
                assert stored_again.object_id > 100
        finally:
            restored.close()
    finally:
        town.close()
