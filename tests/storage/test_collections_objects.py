"""Objects of collections: put, read, replaced and deleted, under conditions, within the quota, followed by others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from accounts import AccountPlace
from collections_place import HOUR, calendar, event, file, folder, large

from storage.collections.conditions import Namespace, PreconditionFailed, Violated
from storage.collections.values import Collection, Content, Kind, NewCollection, Stored
from storage.database.database import Transaction
from storage.errors import Conflict, InvalidInput, NotFound, NotPermitted, OverQuota
from storage.mail.account import Account
from storage.mail.quota import UNLIMITED, Limits


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path_factory.mktemp("objects"))
    yield place
    place.close()


@pytest.fixture
def account(place: AccountPlace) -> Iterator[Account]:
    yield place.account
    place.account.limits = UNLIMITED


def files_of(account: Account) -> set[str]:
    return {name for part in ("tmp", "new", "cur") for name in account.octets.files.names(part)}


@pytest.mark.parametrize("data", [b"", b"BEGIN:VCALENDAR\r\n", large()], ids=["empty", "small", "large"])
def test_what_is_put_is_read_and_a_change_has_another_etag(account: Account, data: bytes) -> None:
    where = calendar(account)
    made = account.objects.put(where.id, "a.ics", event("a", data))
    assert made.created and account.objects.read(made.stored) == data
    assert account.objects.find(where.id, "a.ics") == made.stored
    assert list(account.objects.read_many([made.stored])) == [(made.stored, data)]
    assert (made.stored.size, made.stored.uid, made.stored.component) == (len(data), "a", "VEVENT")
    again = account.objects.put(where.id, "a.ics", event("a", data + b"x"))
    assert not again.created and again.stored.object_id == made.stored.object_id
    assert again.stored.etag != made.stored.etag and again.stored.modseq > made.stored.modseq
    assert account.objects.read(again.stored) == data + b"x"
    same = account.objects.put(where.id, "b.ics", event("b", data))
    assert same.stored.etag == made.stored.etag
    now = account.collections.by_id(where.id)
    assert (now.objects, now.bytes) == (2, 2 * len(data) + 1)


def test_a_row_and_its_octets_are_of_one_moment(account: Account) -> None:
    where, other = folder(account), folder(account)
    first = [account.objects.put(each.id, "a", file(large("first"))).stored for each in (where, other)]
    second = account.objects.put(where.id, "a", file(b"second")).stored
    assert account.objects.read_now(first[0]) == (second, b"second")
    assert list(account.objects.read_many(first)) == [(second, b"second"), (first[1], large("first"))]
    account.objects.delete(where.id, "a")
    assert [stored for stored, _ in account.objects.read_many(first)] == first[1:]


def test_files_of_large_objects_go_with_their_last_row(place: AccountPlace) -> None:
    account, where = place.account, folder(place.account)
    place.settle()  # what tests before this one removed
    before = files_of(account)
    first = account.objects.put(where.id, "a", file(large("first"))).stored
    copy = account.transfers.copy(first, where.id, "b").stored
    assert len(files_of(account) - before) == 1
    account.objects.put(where.id, "a", file(large("second")))
    place.settle()
    assert len(files_of(account) - before) == 2
    assert account.objects.read(copy) == large("first")
    account.objects.delete(where.id, "b")
    account.objects.put(where.id, "a", file(b"small"))
    place.settle()
    assert files_of(account) == before
    with pytest.raises(NotFound):
        account.objects.read(copy)


def test_conditions_are_checked_where_it_is_written(account: Account) -> None:
    where = calendar(account)
    first = account.objects.put(where.id, "a", event("a"), if_none_match=True).stored
    with pytest.raises(PreconditionFailed):
        account.objects.put(where.id, "a", event("a", b"x"), if_none_match=True)
    with pytest.raises(PreconditionFailed):
        account.objects.put(where.id, "b", event("b"), if_match=("*",))
    with pytest.raises(PreconditionFailed):
        account.objects.put(where.id, "a", event("a", b"x"), if_match=('"other"',))
    with pytest.raises(PreconditionFailed):
        account.objects.put(where.id, "a", event("a", b"x"), if_none_match=('"other"', first.etag))
    with pytest.raises(PreconditionFailed):
        account.objects.delete(where.id, "a", if_match=('"other"',))
    with pytest.raises(PreconditionFailed):
        account.objects.delete(where.id, "absent", if_match=(first.etag,))
    assert account.objects.find(where.id, "a") == first
    second = account.objects.put(where.id, "a", event("a", b"x"), if_match=('"other"', first.etag)).stored
    assert account.objects.delete(where.id, "a", if_match=(second.etag,)) == second
    with pytest.raises(NotFound):
        account.objects.delete(where.id, "a")


def test_of_eight_writers_with_one_etag_exactly_one_wins(account: Account) -> None:
    where = calendar(account)
    etag = account.objects.put(where.id, "a", event("a")).stored.etag
    outcomes: list[str] = []
    begin = threading.Barrier(8)

    def write(number: int) -> None:
        begin.wait()
        try:
            account.objects.put(where.id, "a", event("a", b"%d" % number), if_match=(etag,))
            outcomes.append(f"{number}")
        except PreconditionFailed:
            outcomes.append("refused")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [each for each in outcomes if each != "refused"]
    assert len(outcomes) == 8 and account.objects.read(account.objects.find(where.id, "a")) == winner.encode()


def test_schedule_tags_change_with_what_others_have_to_know(account: Account) -> None:
    where = calendar(account)
    assert account.objects.put(where.id, "plain", event("p")).stored.schedule_tag is None
    first = account.objects.put(where.id, "a", event("a", scheduling=True)).stored
    kept = account.objects.put(where.id, "a", event("a", b"x", scheduling=True), keep_schedule_tag=True).stored
    assert first.schedule_tag == kept.schedule_tag is not None and first.etag != kept.etag
    changed = account.objects.put(
        where.id, "a", event("a", b"y", scheduling=True), if_schedule_tag=kept.schedule_tag
    ).stored
    assert changed.schedule_tag != kept.schedule_tag
    with pytest.raises(PreconditionFailed):
        account.objects.put(where.id, "a", event("a", b"z"), if_schedule_tag=kept.schedule_tag)


def test_a_uid_stands_once_in_a_calendar(account: Account) -> None:
    where, other = calendar(account), calendar(account)
    account.objects.put(where.id, "a.ics", event("same"))
    with pytest.raises(Violated) as taken:
        account.objects.put(where.id, "b.ics", event("same"))
    assert (taken.value.condition, taken.value.namespace, taken.value.name) == (
        "no-uid-conflict",
        Namespace.CALDAV,
        "a.ics",
    )
    with pytest.raises(Violated):
        account.objects.put(where.id, "a.ics", event("another"))
    second = account.objects.put(other.id, "b.ics", event("same")).stored
    assert [each.name for each in account.objects.by_uid("same")] == ["a.ics", "b.ics"]
    assert account.objects.by_uid("same", (Kind.ADDRESS_BOOK,)) == []
    with pytest.raises(Violated):
        account.transfers.move(second, where.id, "c.ics")
    account.objects.delete(where.id, "a.ics")
    account.objects.put(where.id, "b.ics", event("same"))
    inbox = account.collections.find(Kind.INBOX, "inbox")
    for name in ("one", "two"):
        account.objects.put(inbox.id, name, event("same"))
    book = account.collections.find(Kind.ADDRESS_BOOK, "contacts")
    card = Content(b"card", "text/vcard", "c", "VCARD")
    account.objects.put(book.id, "a.vcf", card)
    with pytest.raises(Violated) as taken:
        account.objects.put(book.id, "b.vcf", card)
    assert taken.value.namespace is Namespace.CARDDAV


def test_a_collection_takes_the_components_that_it_says(account: Account) -> None:
    where = calendar(account, components=("VTODO",))
    with pytest.raises(Violated) as refused:
        account.objects.put(where.id, "a", event("a"))
    assert refused.value.condition == "supported-calendar-component"
    assert account.objects.list(where.id) == [] and account.collections.by_id(where.id).objects == 0


def test_the_quota_counts_what_is_stored_and_gives_it_back(account: Account) -> None:
    where, used = calendar(account), account.usage().bytes
    account.limits = Limits(bytes=used + 100)
    account.objects.put(where.id, "a", event("a", bytes(60)))
    before = files_of(account)
    for data in (bytes(41), large()):
        with pytest.raises(OverQuota):
            account.objects.put(where.id, "b", event("b", data))
    assert files_of(account) == before
    account.objects.put(where.id, "a", event("a", bytes(100)))
    account.limits = Limits(bytes=1)
    account.objects.put(where.id, "a", event("a", bytes(50)))  # smaller than before: never refused
    assert account.usage().bytes == used + 50
    account.objects.delete(where.id, "a")
    assert account.usage().bytes == used
    account.limits = Limits(messages=1)  # of mail, which says nothing about events
    account.objects.put(where.id, "a", event("a"))


def test_a_schedule_tag_is_never_given_out_again_wherever_a_meeting_moves(account: Account) -> None:
    where, there = calendar(account), calendar(account)
    seen = [account.objects.put(where.id, "a", event("a", b"%d" % n, scheduling=True)).stored for n in range(6)]
    account.objects.put(there.id, "b", event("b"))  # modseqs that `where` has come to and left behind
    moved = account.transfers.move(seen[-1], there.id, "a").stored
    back = account.transfers.move(moved, where.id, "a").stored
    tags = [each.schedule_tag for each in (*seen, moved, back)]
    assert None not in tags and len(set(tags)) == len(tags)


def test_what_moves_is_not_charged_again_also_beyond_the_quota(account: Account) -> None:
    where, there, used = calendar(account), calendar(account), account.usage().bytes
    stored = account.objects.put(where.id, "a", event("a", bytes(100))).stored
    account.properties.set(where.id, stored.object_id, "{x}y", b"<y/>")
    account.limits = Limits(bytes=1)
    moved = account.transfers.move(stored, there.id, "b").stored
    renamed = account.transfers.move(moved, there.id, "c").stored
    assert account.properties.get(there.id, renamed.object_id) == {"{x}y": b"<y/>"}
    assert account.properties.get(where.id, stored.object_id) == {}
    assert account.usage().bytes == used + 108
    assert [account.collections.by_id(each.id).bytes for each in (where, there)] == [0, 100]
    with pytest.raises(OverQuota):
        account.transfers.copy(renamed, where.id, "d")
    account.objects.delete(there.id, "c")
    assert account.usage().bytes == used


def test_what_the_server_writes_its_owner_only_reads(account: Account) -> None:
    where, used = calendar(account, source="feed"), account.usage().bytes
    with pytest.raises(NotPermitted):
        account.objects.put(where.id, "a", event("a"))
    stored = account.objects.put(where.id, "a", event("a"), by_server=True).stored
    assert account.usage().bytes == used
    with pytest.raises(NotPermitted):
        account.objects.delete(where.id, "a")
    with pytest.raises(NotPermitted):
        account.transfers.move(stored, calendar(account).id, "a")
    account.transfers.copy(stored, calendar(account).id, "a")
    account.objects.delete(where.id, "a", by_server=True)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "a\nb", "ä\x85", "x" * 256, "ä" * 128, "\ud800"])
def test_names_that_are_no_segment_of_a_path_are_refused(account: Account, name: str) -> None:
    where = calendar(account)
    with pytest.raises(InvalidInput):
        account.objects.put(where.id, name, event("a"))
    with pytest.raises(InvalidInput):
        account.collections.create(NewCollection(Kind.CALENDAR, name))


def test_a_name_is_the_same_in_every_spelling(account: Account) -> None:
    where = folder(account)
    composed, decomposed = "Caf\u00e9", "Cafe\u0301"
    account.objects.put(where.id, decomposed, file())
    assert account.objects.find(where.id, composed).name == composed
    assert not account.objects.put(where.id, decomposed, file(b"x")).created


class Log:
    """A follower that remembers, or refuses."""

    def __init__(self, collection: Collection) -> None:
        self.lines: list[tuple[str, str, str | None]] = []
        self._collection_id = collection.id

    def stored(
        self, transaction: Transaction, collection: Collection, before: Stored | None, after: Stored, content: Content
    ) -> None:
        if collection.id == self._collection_id:
            assert account_octets(content) != b"refused"
            self.lines.append(("stored", after.name, before.etag if before else None))

    def removed(self, transaction: Transaction, collection: Collection, stored: Stored) -> None:
        if collection.id == self._collection_id:
            self.lines.append(("removed", stored.name, stored.etag))


def account_octets(content: Content) -> bytes:
    return content.data


def test_followers_are_told_in_the_writing_transaction(place: AccountPlace) -> None:
    account = place.account
    where, other = calendar(account), calendar(account)
    log = Log(where)
    account.objects.follow(log)
    first = account.objects.put(where.id, "a", event("a")).stored
    second = account.objects.put(where.id, "a", event("a", b"x")).stored
    with pytest.raises(AssertionError):
        account.objects.put(where.id, "a", event("a", b"refused"))
    assert account.objects.find(where.id, "a") == second
    there = account.transfers.move(second, other.id, "a").stored
    account.transfers.copy(there, where.id, "c")
    account.collections.delete(where.id)
    place.settle()
    assert log.lines == [
        ("stored", "a", None),
        ("stored", "a", first.etag),
        ("removed", "a", second.etag),
        ("stored", "c", None),
        ("removed", "c", second.etag),
    ]


def test_what_a_caller_writes_within_is_committed_with_the_object_or_not_at_all(account: Account) -> None:
    where = calendar(account)
    seen: list[tuple[str | None, str]] = []

    def within(transaction: Transaction, before: Stored | None, after: Stored) -> None:
        seen.append((before and before.etag, after.etag))
        account.properties.change_in(transaction, after.collection_id, after.object_id, put={"{x}y": b"<y/>"})
        if len(seen) == 2:
            raise Conflict("no")

    stored = account.objects.put(where.id, "a", event("a"), within=within).stored
    assert account.properties.get(where.id, stored.object_id) == {"{x}y": b"<y/>"}
    with pytest.raises(Conflict):
        account.objects.put(where.id, "a", event("a", b"x"), within=within)
    assert account.objects.find(where.id, "a") == stored and seen[1][0] == stored.etag


def test_many_are_put_in_few_commits(account: Account) -> None:
    where = calendar(account)
    assert (
        account.objects.put_many(where.id, ((f"{n}", event(f"{n}", b"%d" % n, at=n * HOUR)) for n in range(450))) == 450
    )
    found = account.objects.list(where.id)
    assert [each.name for each in found] == [str(n) for n in range(450)]
    assert account.objects.entries(where.id) == [(each.name, each.etag) for each in found]
    assert [data for _, data in account.objects.read_many(found)] == [b"%d" % n for n in range(450)]
    names = [str(n) for n in range(0, 900, 3)]
    assert account.objects.find_many(where.id, names) == [each for each in found if each.name in set(names)]
    assert account.objects.find_many(where.id, ["7", "x", "5"]) == [found[7], found[5]]
    assert [each.name for each in account.objects.some(where.id, found[9].object_id, 3)] == ["10", "11", "12"]


def test_candidates_in_a_time_come_from_the_index(account: Account) -> None:
    where = calendar(account)
    for n in range(10):
        account.objects.put(where.id, f"{n}", event(f"{n}", at=n * HOUR))
    stored = account.objects.put(where.id, "5", event("5", b"later", at=100 * HOUR)).stored
    account.objects.delete(where.id, "4")

    def names(start: int, end: int, component: str | None = None) -> list[str]:
        return sorted(each.name for each, _ in account.objects.in_time(where.id, start, end, component))

    assert names(3 * HOUR, 7 * HOUR) == ["3", "6"]
    assert names(3 * HOUR + 1, 3 * HOUR + 2) == ["3"] and names(HOUR * 11, HOUR * 99) == []
    assert names(0, 1000 * HOUR, "VTODO") == [] and len(names(0, 1000 * HOUR, "VEVENT")) == 9
    [(found, times)] = account.objects.in_time(where.id, 99 * HOUR, 101 * HOUR)
    assert found == stored and times.first == 100 * HOUR and not times.floating
    account.transfers.move(stored, calendar(account).id, "moved")
    assert names(99 * HOUR, 101 * HOUR) == []
