"""Collections: made, changed, deleted, copied and moved with all that lies in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from accounts import ACCOUNT, AccountPlace
from collections_place import calendar, event, file, folder, large

from storage.check import check_account
from storage.collections.conditions import PreconditionFailed
from storage.collections.properties import home
from storage.collections.values import Collection, Kind, NewCollection
from storage.errors import AlreadyExists, Conflict, InvalidInput, LimitReached, NotFound, NotPermitted
from storage.mail.account import Account

COLOR = "{http://apple.com/ns/ical/}calendar-color"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path_factory.mktemp("tree"))
    yield place
    place.close()


@pytest.fixture
def account(place: AccountPlace) -> Account:
    return place.account


def tree(account: Account, top: Collection, above: str = "") -> dict[str, bytes | None]:
    """Paths below a folder; None is a folder."""
    found: dict[str, bytes | None] = {
        above + stored.name: data for stored, data in account.objects.read_many(account.objects.list(top.id))
    }
    for each in account.collections.list(Kind.FOLDER, top.id):
        found[f"{above}{each.name}/"] = None
        found |= tree(account, each, f"{above}{each.name}/")
    return found


def planted(account: Account) -> Collection:
    """A folder with folders and files."""
    top = folder(account)
    inner = folder(account, top.id, "inner")
    folder(account, inner.id, "empty")
    account.objects.put(top.id, "a", file(b"a"))
    account.objects.put(inner.id, "b", file(b"b"))
    stored = account.objects.put(inner.id, "large", file(large())).stored
    account.properties.set(inner.id, stored.object_id, COLOR, b"<c>blue</c>")
    account.properties.set(inner.id, 0, COLOR, b"<c>red</c>")
    return top


GROWN = {"a": b"a", "inner/": None, "inner/b": b"b", "inner/large": large(), "inner/empty/": None}


def test_every_account_has_its_first_collections_once(place: AccountPlace) -> None:
    def first() -> list[tuple[Kind, str, tuple[str, ...]]]:
        return [(each.kind, each.name, each.components) for each in place.account.collections.list()][:6]

    expected = [
        (Kind.CALENDAR, "calendar", ("VEVENT", "VAVAILABILITY")),
        (Kind.CALENDAR, "tasks", ("VTODO",)),
        (Kind.CALENDAR, "notes", ("VJOURNAL",)),
        (Kind.INBOX, "inbox", ()),
        (Kind.OUTBOX, "outbox", ()),
        (Kind.ADDRESS_BOOK, "contacts", ()),
    ]
    assert first() == expected
    tasks = place.account.collections.find(Kind.CALENDAR, "tasks")
    place.account.collections.delete(tasks.id)
    place.account.close()
    place.open()
    assert [each[1] for each in first()[:5]] == ["calendar", "notes", "inbox", "outbox", "contacts"]
    for kind in (Kind.INBOX, Kind.OUTBOX):
        with pytest.raises(NotPermitted):
            place.account.collections.delete(place.account.collections.find(kind, kind.value).id)


def test_an_account_of_before_gets_them_when_it_is_opened(place: AccountPlace) -> None:
    def forget(transaction: object) -> None:
        driver = transaction.driver  # type: ignore[attr-defined]
        for table in ("collection", "object", "object_data", "object_time", "object_gone", "property"):
            driver.execute(f"DELETE FROM {table}")
        driver.execute("DELETE FROM counter WHERE name LIKE '%object%' OR name IN ('collection_id', 'note_id')")
        driver.execute("UPDATE usage SET bytes = 0")

    place.account.database.write(forget)
    place.account.close()
    account = place.open()
    assert len(account.collections.list()) == 6
    assert account.objects.put(account.collections.list()[0].id, "a", event("a")).created


def test_what_is_said_of_a_collection_stays_until_it_is_changed(account: Account) -> None:
    new = NewCollection(
        Kind.CALENDAR,
        "Réunions",
        display_name="Réunions",
        description="d",
        color="#FF0000",
        position=3,
        timezone="BEGIN:VCALENDAR",
        components=("VEVENT", "VTODO"),
        transparent=True,
        properties={COLOR: b"<c/>"},
    )
    made = account.collections.create(new)
    assert made == account.collections.find(Kind.CALENDAR, "Re\u0301unions") == account.collections.by_id(made.id)
    assert (made.description, made.position, made.components) == ("d", 3, ("VEVENT", "VTODO")) and made.transparent
    assert account.properties.get(made.id) == {COLOR: b"<c/>"}
    changed = account.collections.update(made.id, description="", position=None, color="#00FF00")
    assert (changed.description, changed.position, changed.color) == ("", None, "#00FF00")
    assert changed.display_name == "Réunions" and changed.highest_modseq == made.highest_modseq
    with pytest.raises(InvalidInput):
        account.collections.update(made.id, display_name="x" * 1001)
    with pytest.raises(AlreadyExists):
        account.collections.create(new)
    account.collections.create(NewCollection(Kind.ADDRESS_BOOK, "Réunions"))


def test_folders_lie_in_folders_and_nothing_else_does(account: Account) -> None:
    top = folder(account)
    account.objects.put(top.id, "file", file())
    inner = folder(account, top.id, "inner")
    assert [each.name for each in account.collections.path(inner.id)] == [top.name, "inner"]
    with pytest.raises(NotPermitted):
        account.collections.create(NewCollection(Kind.CALENDAR, "x", top.id))
    with pytest.raises(Conflict):
        account.collections.create(NewCollection(Kind.FOLDER, "x", calendar(account).id))
    with pytest.raises(Conflict):
        account.collections.create(NewCollection(Kind.FOLDER, "x", 999_999))
    with pytest.raises(AlreadyExists):
        folder(account, top.id, "file")
    with pytest.raises(Conflict):
        account.objects.put(top.id, "inner", file())
    for _ in range(18):
        inner = folder(account, inner.id, "deeper")
    with pytest.raises(LimitReached):
        folder(account, inner.id, "deeper")
    with pytest.raises(LimitReached):
        account.transfers.copy_collection(planted(account).id, account.collections.path(inner.id)[-2].id, "x")


def test_a_deleted_collection_is_gone_at_once_and_emptied_later(place: AccountPlace) -> None:
    account = place.account
    place.settle()
    used, files = account.usage().bytes, set(account.octets.files.names("cur"))
    top = planted(account)
    inner = account.collections.find(Kind.FOLDER, "inner", top.id)
    account.locks.create(inner.id, 0, ACCOUNT)
    account.collections.delete(top.id)
    assert account.usage().bytes == used
    for gone in (top, inner):
        with pytest.raises(NotFound):
            account.collections.by_id(gone.id)
        with pytest.raises(NotFound):
            account.objects.put(gone.id, "x", file())
        with pytest.raises(NotFound):
            account.properties.set(gone.id, 0, COLOR, b"")
    assert not account.locks.has_any()
    again = folder(account, 0, top.name)
    assert again.id != top.id and account.objects.list(again.id) == []
    place.settle()
    assert account.objects.list(inner.id) == [] and set(account.octets.files.names("cur")) == files


def test_a_folder_moves_with_everything_and_keeps_its_ids(account: Account) -> None:
    top, other = planted(account), folder(account)
    stored = account.objects.find(top.id, "a")
    moved = account.transfers.move_collection(top.id, other.id, "new")
    assert moved.created and moved.collection.id == top.id
    assert tree(account, other) == {"new/": None} | {f"new/{name}": data for name, data in GROWN.items()}
    assert account.objects.find(top.id, "a") == stored
    inner = account.collections.find(Kind.FOLDER, "inner", top.id)
    with pytest.raises(NotPermitted):
        account.transfers.move_collection(top.id, inner.id, "x")
    with pytest.raises(NotPermitted):
        account.transfers.move_collection(inner.id, 0, other.name, overwrite=True)  # it lies in what it overwrites
    with pytest.raises(Conflict):
        account.transfers.move_collection(top.id, 999_999, "x")
    renamed = account.transfers.move_collection(top.id, other.id, "newer").collection
    assert renamed.name == "newer"


def test_a_copy_of_a_folder_is_whole_and_apart(place: AccountPlace) -> None:
    account, used = place.account, place.account.usage().bytes
    top = planted(account)
    one = account.usage().bytes - used
    copy = account.transfers.copy_collection(top.id, 0, f"copy of {top.name}").collection
    assert tree(account, copy) == GROWN and account.usage().bytes == used + 2 * one
    inner = account.collections.find(Kind.FOLDER, "inner", copy.id)
    assert account.properties.get(inner.id) == {COLOR: b"<c>red</c>"}
    assert list(account.properties.get_below(inner.id).values()) == [{COLOR: b"<c>blue</c>"}]
    account.objects.put(inner.id, "b", file(b"changed"))
    account.collections.delete(top.id)
    place.settle()
    assert tree(account, copy) == GROWN | {"inner/b": b"changed"}
    shallow = account.transfers.copy_collection(copy.id, 0, "shallow", deep=False).collection
    assert tree(account, shallow) == {}
    with pytest.raises(NotPermitted):
        account.transfers.copy_collection(copy.id, inner.id, "x")


@pytest.mark.parametrize("what", ["copy", "move"])
def test_what_is_in_the_way_is_overwritten_only_if_that_was_asked_for(place: AccountPlace, what: str) -> None:
    account = place.account
    top, target, blocked = planted(account), folder(account), folder(account)
    account.objects.put(blocked.id, "file", file())
    transfer = account.transfers.copy_collection if what == "copy" else account.transfers.move_collection
    with pytest.raises(PreconditionFailed):
        transfer(top.id, 0, target.name)
    with pytest.raises(PreconditionFailed):
        transfer(top.id, blocked.id, "file")
    placed = transfer(top.id, 0, target.name, overwrite=True)
    assert not placed.created and tree(account, placed.collection) == GROWN
    with pytest.raises(NotFound):
        account.collections.by_id(target.id)
    again = transfer(placed.collection.id, blocked.id, "file", overwrite=True)
    assert tree(account, blocked) == {"file/": None} | {f"file/{name}": data for name, data in GROWN.items()}
    assert again.collection.parent_id == blocked.id


@pytest.mark.parametrize("what", ["copy", "move"])
def test_objects_are_copied_and_moved_with_their_properties(account: Account, what: str) -> None:
    here, there = folder(account), folder(account)
    stored = account.objects.put(here.id, "a", file(large())).stored
    account.properties.set(here.id, stored.object_id, COLOR, b"<c/>")
    account.locks.create(here.id, stored.object_id, ACCOUNT)
    transfer = account.transfers.copy if what == "copy" else account.transfers.move
    put = transfer(stored, there.id, "b")
    assert put.created and account.objects.read(put.stored) == large() and put.stored.etag == stored.etag
    assert account.properties.get(there.id, put.stored.object_id) == {COLOR: b"<c/>"}
    assert account.locks.covering(there.id, put.stored.object_id) == []
    assert [each.name for each in account.objects.list(here.id)] == (["a"] if what == "copy" else [])
    other = account.objects.put(there.id, "c", file(b"c")).stored
    with pytest.raises(PreconditionFailed):
        transfer(other, there.id, "b", overwrite=False)
    assert not transfer(other, there.id, "b").created
    assert account.objects.read(account.objects.find(there.id, "b")) == b"c"
    with pytest.raises(NotPermitted):
        transfer(account.objects.find(there.id, "b"), there.id, "b")
    with pytest.raises(NotPermitted):
        transfer(account.objects.find(there.id, "b"), calendar(account).id, "b")
    with pytest.raises(NotFound):
        transfer(other if what == "move" else stored, 999_999, "b")  # type: ignore[arg-type]


def test_properties_are_changed_together_within_limits_and_quota(account: Account) -> None:
    where, used = calendar(account), account.usage().bytes
    stored = account.objects.put(where.id, "a", event("a", b"12345")).stored
    account.properties.change(where.id, stored.object_id, put={"{x}a": b"1", "{x}b": b"2"})
    account.properties.change(where.id, stored.object_id, put={"{x}a": b"123"}, remove=("{x}b", "{x}none"))
    assert account.properties.get(where.id, stored.object_id) == {"{x}a": b"123"}
    assert account.usage().bytes == used + 5 + 7
    with pytest.raises(LimitReached):
        account.properties.change(where.id, put={f"{{x}}{n}": b"" for n in range(101)})
    with pytest.raises(LimitReached):
        account.properties.set(where.id, 0, "{x}long", bytes(70_000))
    assert account.properties.get(where.id) == {}
    with pytest.raises(NotFound):
        account.properties.set(where.id, 999_999, "{x}a", b"")
    account.objects.delete(where.id, "a")
    assert account.usage().bytes == used
    account.properties.set(*home(Kind.CALENDAR), "{x}a", b"home")
    assert account.collections.home_properties(Kind.CALENDAR) == {"{x}a": b"home"}
    assert account.collections.home_properties(None) == {}
    assert account.properties.get_many([where.id, 999_999]) == {}


def test_limits_of_an_account_hold(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = account.collections.limits
    monkeypatch.setattr(account.collections, "limits", replace(limits, objects=2, copied=3))
    where = folder(account)
    for name in ("a", "b"):
        account.objects.put(where.id, name, file())
    with pytest.raises(LimitReached):
        account.objects.put(where.id, "c", file())
    account.objects.put(where.id, "b", file(b"again"))
    account.transfers.copy_collection(where.id, 0, "three in all")
    folder(account, where.id)
    with pytest.raises(LimitReached):
        account.transfers.copy_collection(where.id, 0, "more than three")
    monkeypatch.setattr(account.collections, "limits", replace(limits, collections=1))
    with pytest.raises(LimitReached):
        folder(account)


def test_afterwards_everything_agrees(place: AccountPlace) -> None:
    place.settle()
    assert [*check_account(place.account, place.incarnation, contents=True)] == []
