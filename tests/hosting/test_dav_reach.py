"""Who may do what: one's own, what is shared, what others of the tenant keep for themselves, the contract's window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Thread

import pytest
from dav_town import ALICE, BOB, D, DavTown, bare_calendars, new_dav_town, prop

from hosting.dav import reach
from hosting.dav.names import caldav, dav
from hosting.dav.reach import Reach, privileges
from hosting.dav.resources import Person, Share
from storage.collections.values import CollectionId, Content, Kind, NewCollection
from storage.values import AccountId, TenantId

ALICES, BOBS = f"/dav/calendars/{ALICE}/", f"/dav/calendars/{BOB}/"
LOCK = (
    '<D:lockinfo xmlns:D="DAV:"><D:lockscope><D:exclusive/></D:lockscope>'
    "<D:locktype><D:write/></D:locktype></D:lockinfo>"
)


class ListedShares:
    """Shares as they stand in a list."""

    def __init__(self) -> None:
        self.shares: list[Share] = []

    def of_sharee(self, tenant_id: TenantId, sharee_id: AccountId) -> Sequence[Share]:
        return [each for each in self.shares if each.sharee_id == sharee_id]

    def of_collection(self, _: TenantId, owner_id: AccountId, collection_id: CollectionId) -> Sequence[Share]:
        return [
            each for each in self.shares if (each.owner.account_id, each.collection_id) == (owner_id, collection_id)
        ]

    def change(self, _: TenantId, share: Share, fields: Mapping[str, object]) -> None:
        self.shares[self.shares.index(share)] = replace(share, **fields)  # type: ignore[arg-type]

    def leave(self, _: TenantId, share: Share) -> None:
        self.shares.remove(share)


def setting(content: str) -> str:
    return (
        f'<D:propertyupdate xmlns:D="DAV:" xmlns:x="u:x"><D:set><D:prop>{content}</D:prop></D:set></D:propertyupdate>'
    )


class SharingTown(DavTown):
    shares: ListedShares


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [bare_calendars]) as town:
        town.shares = ListedShares()  # type: ignore[attr-defined]
        town.handler = town.with_services(shares=town.shares)  # type: ignore[attr-defined]
        yield town


@pytest.fixture
def shared(town: SharingTown, request: pytest.FixtureRequest) -> Iterator[Share]:
    """A calendar of alice's in bob's home, with one event; the parameter says whether he may write."""
    may_write = getattr(request, "param", False)
    tenant_id, alice = town.accounts[ALICE]
    with town.account(ALICE) as account:
        name = f"team-{len(account.collections.list(Kind.CALENDAR))}-{may_write}"
        made = account.collections.create(NewCollection(Kind.CALENDAR, name, display_name="Team"))
        account.objects.put(made.id, "a.ics", Content(b"uid-a", "text/calendar", "uid-a", "VEVENT"))
    share = Share(
        Person(tenant_id, alice, ALICE),
        made.id,
        town.accounts[BOB][1],
        Kind.CALENDAR,
        may_write,
        f"shared-{name}",
        "Alice's team",
    )
    town.shares.shares.append(share)
    yield share
    town.shares.shares.clear()


def owners_path(share: Share) -> str:
    return f"{ALICES}{share.name.removeprefix('shared-')}/"


def test_others_of_the_tenant_learn_nothing_of_what_is_not_shared(town: DavTown) -> None:
    """403 whether it exists or not, for everything below another's home."""
    for method in ("PROPFIND", "GET", "REPORT", "PUT", "DELETE", "MKCOL", "PROPPATCH", "LOCK", "UNLOCK"):
        for path in ("{}/", "{}/a.ics"):
            bodies = set()
            for name in ("calendar", "inbox", "nothing"):
                body = "x" if method == "PUT" else ""
                told = town.ask(method, ALICES + path.format(name), body, who=BOB, lock_token="<x:y>")
                assert told.status == 403, (method, path)
                bodies.add(told.body.replace(f"/{name}/".encode(), b"/"))
            assert len(bodies) == 1, (method, path)
    for home in (ALICES, f"/dav/files/{ALICE}/", f"/dav/addressbooks/{ALICE}/"):
        refused = town.propfind(home, who=BOB, depth="1")
        assert (refused.status, refused.condition) == (403, dav("need-privileges"))
    assert town.propfind(f"/dav/files/{ALICE}/a/b/c", who=BOB).status == 403
    told = town.ask("COPY", BOBS + "calendar/", who=BOB, destination=ALICES + "stolen/")
    assert told.status == 403


@pytest.mark.parametrize("shared", [False, True], indirect=True)
def test_what_is_shared_stands_in_the_sharees_home(town: SharingTown, shared: Share) -> None:
    path = f"{BOBS}{shared.name}/"
    home = town.propfind(BOBS, dav("displayname"), dav("owner"), depth="1", who=BOB)
    found = home.properties(path)
    assert found[dav("displayname")].text == "Alice's team"
    assert found[dav("owner")].findtext(f"{D}href") == f"/dav/principals/{ALICE}/"
    assert town.ask("GET", path + "a.ics", who=BOB).body == b"uid-a"
    assert town.propfind(path, dav("getetag"), depth="1", who=BOB).hrefs() == [path, path + "a.ics"]
    assert town.propfind(owners_path(shared) + "a.ics", dav("getetag"), who=BOB).status == 207
    assert town.propfind(path, who=ALICE).status == 403  # bob's home is bob's


@pytest.mark.parametrize("shared", [False], indirect=True)
def test_who_may_only_read(town: SharingTown, shared: Share) -> None:
    for path in (f"{BOBS}{shared.name}/", owners_path(shared)):
        for method, name, headers in (
            ("PUT", "a.ics", {}),
            ("PUT", "b.ics", {}),
            ("DELETE", "a.ics", {}),
            ("MOVE", "a.ics", {"destination": BOBS + "calendar/a.ics"}),
            ("PROPPATCH", "a.ics", {}),
        ):
            body = '<D:propertyupdate xmlns:D="DAV:"/>' if method == "PROPPATCH" else "uid-x"
            told = town.ask(method, path + name, body, who=BOB, **headers)
            assert told.status == 403, (method, told.body)
        assert dav("write-content") not in granted(town, path, BOB)
        assert dav("read") in granted(town, path, BOB)
    assert town.ask("COPY", f"{BOBS}{shared.name}/a.ics", who=BOB, destination=BOBS + "calendar/mine.ics").status == 201
    assert town.ask("GET", BOBS + "calendar/mine.ics", who=BOB).body == b"uid-a"
    town.ask("DELETE", BOBS + "calendar/mine.ics", who=BOB)


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_who_may_write(town: SharingTown, shared: Share) -> None:
    path = f"{BOBS}{shared.name}/"
    assert town.ask("PUT", path + "b.ics", "uid-b", who=BOB).status == 201
    assert town.ask("GET", owners_path(shared) + "b.ics").body == b"uid-b"
    assert town.ask("PUT", path + "b.ics", "uid-b\nnew", who=BOB).status == 204
    town.ask("PUT", BOBS + "calendar/c.ics", "uid-c", who=BOB)
    assert town.ask("MOVE", BOBS + "calendar/c.ics", who=BOB, destination=path + "c.ics").status == 201
    assert town.ask("GET", owners_path(shared) + "c.ics").body == b"uid-c"
    assert town.ask("GET", BOBS + "calendar/c.ics", who=BOB).status == 404
    assert town.ask("DELETE", path + "c.ics", who=BOB).status == 204
    assert {dav("bind"), dav("unbind"), dav("write-content")} <= granted(town, path, BOB)
    assert dav("write-acl") not in granted(town, path, BOB)


@pytest.mark.parametrize("shared", [False, True], indirect=True)
def test_a_sharee_names_it_for_himself(town: SharingTown, shared: Share) -> None:
    path = f"{BOBS}{shared.name}/"
    renamed = town.ask("PROPPATCH", path, setting("<D:displayname>Bob's</D:displayname>"), who=BOB)
    assert renamed.statuses() == {dav("displayname"): 200}
    assert town.value(path, dav("displayname"), who=BOB) == "Bob's"
    assert town.value(owners_path(shared), dav("displayname")) == "Team"
    assert town.ask("PROPPATCH", path, setting("<x:p>1</x:p>"), who=BOB).statuses() == {"{u:x}p": 403}


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_copies_into_what_is_shared_overwrite_only_on_demand(town: SharingTown, shared: Share) -> None:
    path = f"{BOBS}{shared.name}/"
    town.ask("PUT", BOBS + "calendar/c.ics", "uid-a", who=BOB)
    kept = town.ask("COPY", BOBS + "calendar/c.ics", who=BOB, destination=path + "a.ics", overwrite="F")
    assert kept.status == 412
    assert town.ask("COPY", BOBS + "calendar/c.ics", who=BOB, destination=path + "a.ics").status == 204
    town.ask("DELETE", BOBS + "calendar/c.ics", who=BOB)


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_a_sharee_takes_it_out_of_his_home_and_no_further(town: SharingTown, shared: Share) -> None:
    path = f"{BOBS}{shared.name}/"
    assert town.ask("MOVE", path, who=BOB, destination=BOBS + "mine/").status == 403
    assert town.ask("COPY", path, who=BOB, destination=BOBS + "mine/").status == 403
    assert town.ask("MKCOL", path, who=BOB).status == 405
    assert town.ask("DELETE", path, who=BOB).status == 204
    assert town.propfind(path, who=BOB).status == 404
    assert town.ask("GET", owners_path(shared) + "a.ics").status == 200


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_the_owner_sees_with_whom_it_is_shared(town: SharingTown, shared: Share) -> None:
    acl = town.propfind(owners_path(shared), dav("acl")).properties()[dav("acl")]
    assert [each.findtext(f"{D}principal/{D}href") for each in acl] == [None, f"/dav/principals/{BOB}/"]
    body = f'<D:acl-principal-prop-set xmlns:D="DAV:">{prop(dav("displayname"))}</D:acl-principal-prop-set>'
    found = town.ask("REPORT", owners_path(shared), body).hrefs()
    assert found == [f"/dav/principals/{ALICE}/", f"/dav/principals/{BOB}/"]
    assert town.ask("REPORT", f"{BOBS}{shared.name}/", body, who=BOB).status == 403


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_locks_count_for_who_holds_them(town: SharingTown, shared: Share) -> None:
    """RFC 4918 §6.4: another's token opens nothing."""
    mine, his = owners_path(shared) + "a.ics", f"{BOBS}{shared.name}/a.ics"
    token = town.ask("LOCK", mine, LOCK).headers["Lock-Token"]
    assert town.ask("PUT", his, "uid-a\n2", who=BOB, **{"if": f"({token})"}).status == 423
    assert town.ask("UNLOCK", his, who=BOB, lock_token=token).status == 403
    assert town.ask("PUT", mine, "uid-a\n2", **{"if": f"({token})"}).status == 204
    assert town.ask("UNLOCK", mine, lock_token=token).status == 204
    token = town.ask("LOCK", his, LOCK, who=BOB).headers["Lock-Token"]
    discovered = town.propfind(his, dav("lockdiscovery"), who=BOB).properties()[dav("lockdiscovery")]
    assert discovered.findtext(f".//{D}lockroot/{D}href") == his
    assert town.ask("UNLOCK", mine, lock_token=token).status == 204  # whoever owns it may


@pytest.mark.parametrize("shared", [True], indirect=True)
def test_what_its_owner_removed_is_gone_for_the_sharee(town: SharingTown, shared: Share) -> None:
    assert town.ask("DELETE", owners_path(shared)).status == 204
    assert town.propfind(f"{BOBS}{shared.name}/", who=BOB).status == 404
    assert town.propfind(BOBS, dav("displayname"), depth="1", who=BOB).status == 207


def granted(town: DavTown, path: str, who: str = ALICE) -> set[str]:
    found = town.propfind(path, dav("current-user-privilege-set"), who=who).properties()
    return {each[0].tag for each in found[dav("current-user-privilege-set")]}


def test_the_window_before_a_contracts_end(town: DavTown) -> None:
    """Everything is read, nothing is changed."""
    town.ask("PUT", ALICES + "calendar/w.ics", "uid-w")
    ending = replace(town.principal(), read_only_from=int(town.clock.now()))
    for method, path, body, headers in (
        ("PUT", "calendar/w.ics", "uid-w", {}),
        ("PUT", "calendar/new.ics", "uid-n", {}),
        ("DELETE", "calendar/w.ics", "", {}),
        ("DELETE", "calendar/", "", {}),
        ("MKCOL", "more/", "", {}),
        ("PROPPATCH", "calendar/", '<D:propertyupdate xmlns:D="DAV:"/>', {}),
        ("LOCK", "calendar/w.ics", LOCK, {}),
        ("COPY", "calendar/w.ics", "", {"destination": ALICES + "calendar/y.ics"}),
        ("MOVE", "calendar/w.ics", "", {"destination": ALICES + "calendar/y.ics"}),
    ):
        refused = town.ask(method, ALICES + path, body, principal=ending, **headers)
        assert (refused.status, refused.condition) == (403, dav("need-privileges")), method
    assert town.ask("GET", ALICES + "calendar/w.ics", principal=ending).status == 200
    assert town.ask("PROPFIND", ALICES, depth="1", principal=ending).status == 207
    files = town.ask("PUT", f"/dav/files/{ALICE}/x", "x", principal=ending)
    assert files.status == 403


def test_what_the_server_writes_is_read(town: DavTown) -> None:
    with town.account(ALICE) as account:
        feed = account.collections.create(NewCollection(Kind.CALENDAR, "feed", source="feed"))
        body = Content(b"uid-f", "text/calendar", "uid-f", "VEVENT")
        account.objects.put(feed.id, "f.ics", body, by_server=True)
    path = ALICES + "feed/"
    assert town.ask("GET", path + "f.ics").status == 200
    assert town.ask("PUT", path + "f.ics", "uid-f\n2").status == 403
    assert town.ask("PUT", path + "g.ics", "uid-g").status == 403
    assert town.ask("DELETE", path + "f.ics").status == 403
    assert town.ask("PROPPATCH", path, setting("<D:displayname>F</D:displayname>")).statuses() == {
        dav("displayname"): 200
    }
    assert not {dav("write-content"), dav("bind"), dav("write")} & granted(town, path)
    assert town.ask("DELETE", path).status == 204


def test_two_who_ask_at_once_get_their_own(town: DavTown) -> None:
    town.ask("PUT", ALICES + "calendar/own.ics", "uid-alice")
    town.ask("PUT", BOBS + "calendar/own.ics", "uid-bob", who=BOB)
    wrong = []

    def look(who: str, home: str, expected: bytes) -> None:
        for _ in range(30):
            if town.ask("GET", home + "calendar/own.ics", who=who).body != expected:
                wrong.append(who)

    threads = [Thread(target=look, args=each) for each in ((ALICE, ALICES, b"uid-alice"), (BOB, BOBS, b"uid-bob"))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("what", "names", "not_names"),
    [
        (reach.OWN, {dav("all"), dav("write"), dav("read-acl")}, {caldav("schedule-send")}),
        (reach.LOOK, {dav("read"), caldav("read-free-busy")}, {dav("write"), dav("all")}),
        (Reach.NONE, set(), {dav("read")}),
        (reach.OWN | Reach.DELIVER, {caldav("schedule-deliver"), caldav("schedule-query-freebusy")}, set()),
        (reach.WRITE, {dav("write"), dav("bind")}, {dav("read"), dav("all")}),
    ],
)
def test_privileges(what: Reach, names: set[str], not_names: set[str]) -> None:
    """RFC 3744 §3.12: aggregates contain others."""
    found = set(privileges(what))
    assert names <= found and not (not_names & found)
    assert len(privileges(what)) == len(found)
