"""sync-collection: whoever follows the tokens knows what the server knows (RFC 6578)."""

from __future__ import annotations

import random
import re
import zlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from itertools import count

import pytest
from dav_town import ALICE, Answer, D, DavTown, bare_calendars, new_dav_town, prop

from hosting.dav.names import caldav, dav

CALENDARS = f"/dav/calendars/{ALICE}/"
_numbers = count(1)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [bare_calendars]) as town:
        yield town


@pytest.fixture
def calendar(town: DavTown) -> str:
    path = f"{CALENDARS}calendar-{next(_numbers)}/"
    types = prop(dav("collection"), caldav("calendar")).replace("D:prop", "D:resourcetype")
    body = f'<D:mkcol xmlns:D="DAV:"><D:set><D:prop>{types}</D:prop></D:set></D:mkcol>'
    assert town.ask("MKCOL", path, body).status == 201
    return path


def sync(town: DavTown, path: str, token: str = "", *, limit: str = "", level: str = "1", **headers: str) -> Answer:
    cut = f"<D:limit><D:nresults>{limit}</D:nresults></D:limit>" if limit else ""
    body = (
        f'<D:sync-collection xmlns:D="DAV:"><D:sync-token>{token}</D:sync-token><D:sync-level>{level}</D:sync-level>'
        f"{cut}{prop(dav('getetag'))}</D:sync-collection>"
    )
    return town.ask("REPORT", path, body, **headers)


def token_of(told: Answer) -> str:
    found = told.xml.findtext(f"{D}sync-token")
    assert found
    return found


def test_first_and_later(town: DavTown, calendar: str) -> None:
    """§3.4."""
    for name in ("a", "b", "c"):
        town.ask("PUT", f"{calendar}{name}.ics", name)
    first = sync(town, calendar)
    assert first.hrefs() == [f"{calendar}{name}.ics" for name in ("a", "b", "c")]
    assert token_of(first) == town.value(calendar, dav("sync-token"))
    assert sync(town, calendar, token_of(first)).hrefs() == []
    town.ask("PUT", calendar + "b.ics", "b\nnew")
    town.ask("DELETE", calendar + "a.ics")
    town.ask("PUT", calendar + "d.ics", "d")
    later = sync(town, calendar, token_of(first))
    assert later.status_of(calendar + "a.ics") == 404
    assert set(later.hrefs()) == {f"{calendar}{name}.ics" for name in ("a", "b", "d")}
    etag = later.properties(calendar + "b.ics")[dav("getetag")].text
    assert etag == town.ask("GET", calendar + "b.ics").headers["ETag"]


def test_what_came_and_went_is_not_a_change(town: DavTown, calendar: str) -> None:
    token = token_of(sync(town, calendar))
    town.ask("PUT", calendar + "a.ics", "a")
    town.ask("DELETE", calendar + "a.ics")
    town.ask("PUT", calendar + "a.ics", "a")
    told = sync(town, calendar, token)
    assert told.statuses(calendar + "a.ics") == {dav("getetag"): 200}


def test_moves_are_a_removal_and_an_arrival(town: DavTown, calendar: str) -> None:
    there = calendar[:-1] + "-2/"
    types = prop(dav("collection"), caldav("calendar")).replace("D:prop", "D:resourcetype")
    town.ask("MKCOL", there, f'<D:mkcol xmlns:D="DAV:"><D:set><D:prop>{types}</D:prop></D:set></D:mkcol>')
    town.ask("PUT", calendar + "a.ics", "a")
    here, other = token_of(sync(town, calendar)), token_of(sync(town, there))
    town.ask("MOVE", calendar + "a.ics", destination=there + "b.ics")
    assert sync(town, calendar, here).status_of(calendar + "a.ics") == 404
    assert sync(town, there, other).hrefs() == [there + "b.ics"]


def test_limits(town: DavTown, calendar: str) -> None:
    """§3.6: 507 for the collection, and a token that skips nothing."""
    for number in range(7):
        town.ask("PUT", f"{calendar}{number}.ics", str(number))
    token, seen, rounds = "", [], 0
    while True:
        told = sync(town, calendar, token, limit="3")
        token, rounds = token_of(told), rounds + 1
        hrefs = told.hrefs()
        seen += [href for href in hrefs if href != calendar]
        if calendar not in hrefs:
            break
        assert told.status_of(calendar) == 507
        assert told.xml.find(f".//{D}error/{D}number-of-matches-within-limits") is not None
        assert len(hrefs) == 4
    assert (rounds, seen) == (3, [f"{calendar}{number}.ics" for number in range(7)])
    assert token == town.value(calendar, dav("sync-token"))


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "urn:cleanmail:sync:1-1",  # another collection's
        "urn:cleanmail:sync:{id}-999999",  # of the future
        "urn:cleanmail:sync:{id}-99999999999999999999999",
        "urn:cleanmail:sync:{id}--1",
        "http://elsewhere.example/1",
        "x" * 100_000,
    ],
)
def test_tokens_that_are_none(town: DavTown, calendar: str, token: str) -> None:
    """§3.2."""
    current = token_of(sync(town, calendar))
    found = re.fullmatch(r"urn:cleanmail:sync:(\d+)-\d+", current)
    assert found is not None
    refused = sync(town, calendar, token.replace("{id}", found[1]))
    assert (refused.status, refused.condition) == (403, dav("valid-sync-token"))


def test_levels_and_depths(town: DavTown, calendar: str) -> None:
    """§3.2, §3.3; clients of earlier drafts send Depth: 1."""
    town.ask("PUT", calendar + "a.ics", "a")
    for level, headers, status in (
        ("1", {"depth": "0"}, 207),
        ("1", {}, 207),
        ("infinite", {"depth": "0"}, 207),
        ("1", {"depth": "1"}, 207),
        ("1", {"depth": "infinity"}, 207),
        ("", {"depth": "1"}, 207),
        ("2", {}, 400),
    ):
        assert sync(town, calendar, level=level, **headers).status == status, (level, headers)
    for limit in ("0", "-1", "x", "1" * 20):
        assert sync(town, calendar, limit=limit).status == 400
    assert town.ask("REPORT", calendar, '<D:sync-collection xmlns:D="DAV:"/>').status == 400


def test_only_collections_of_objects(town: DavTown) -> None:
    for path in ("/dav/", "/dav/calendars/", f"/dav/files/{ALICE}/"):
        refused = sync(town, path)
        assert (refused.status, refused.condition) == (403, dav("supported-report"))
        assert town.propfind(path, dav("sync-token")).statuses() == {dav("sync-token"): 404}


def test_homes(town: DavTown, calendar: str) -> None:
    """Which calendars came, went or changed."""
    first = sync(town, CALENDARS)
    assert {calendar, CALENDARS + "calendar/", CALENDARS + "inbox/"} <= set(first.hrefs())
    token = token_of(first)
    assert token == town.value(CALENDARS, dav("sync-token"))
    assert sync(town, CALENDARS, token).hrefs() == []
    town.ask("PUT", calendar + "a.ics", "a")
    assert sync(town, CALENDARS, token).hrefs() == [calendar]
    deep = sync(town, CALENDARS, token, level="infinite")
    assert deep.hrefs() == [calendar, calendar + "a.ics"]
    token = token_of(deep)
    renamed = "<D:set><D:prop><D:displayname>New</D:displayname></D:prop></D:set>"
    town.ask("PROPPATCH", calendar, f'<D:propertyupdate xmlns:D="DAV:">{renamed}</D:propertyupdate>')
    told = sync(town, CALENDARS, token)
    assert told.hrefs() == [calendar]
    own = '<D:set><D:prop><x:mine xmlns:x="u:x">1</x:mine></D:prop></D:set>'
    town.ask("PROPPATCH", calendar, f'<D:propertyupdate xmlns:D="DAV:">{own}</D:propertyupdate>')
    told = sync(town, CALENDARS, token_of(told))
    assert (told.hrefs(), sync(town, CALENDARS, token_of(told)).hrefs()) == ([calendar], [])
    town.ask("DELETE", calendar + "a.ics")
    deep = sync(town, CALENDARS, token, level="infinite")
    assert deep.status_of(calendar + "a.ics") == 404
    there = calendar[:-1] + "-moved/"
    town.ask("MOVE", calendar, destination=there)
    told = sync(town, CALENDARS, token_of(deep))
    assert (told.status_of(calendar), set(told.hrefs())) == (404, {calendar, there})
    town.ask("DELETE", there)
    gone = sync(town, CALENDARS, token_of(told))
    assert (gone.status_of(there), gone.hrefs()) == (404, [there])


def test_a_calendar_that_is_made_anew_is_a_change(town: DavTown, calendar: str) -> None:
    town.ask("PUT", calendar + "a.ics", "a")
    token = token_of(sync(town, CALENDARS))
    town.ask("DELETE", calendar)
    types = prop(dav("collection"), caldav("calendar")).replace("D:prop", "D:resourcetype")
    town.ask("MKCOL", calendar, f'<D:mkcol xmlns:D="DAV:"><D:set><D:prop>{types}</D:prop></D:set></D:mkcol>')
    told = sync(town, CALENDARS, token)
    assert told.hrefs() == [calendar]
    assert told.statuses(calendar) == {dav("getetag"): 200}
    deep = sync(town, CALENDARS, token, level="infinite")
    assert deep.condition == dav("valid-sync-token")  # whoever knows what was in it has to look again


def test_long_listings_of_homes_are_cut(town: DavTown, calendar: str) -> None:
    for number in range(5):
        town.ask("PUT", f"{calendar}{number}.ics", str(number))
    for level in ("1", "infinite"):
        whole = sync(town, CALENDARS, level=level)
        token, seen = "", set()
        while CALENDARS in (told := sync(town, CALENDARS, token, level=level, limit="2")).hrefs():
            assert told.status_of(CALENDARS) == 507
            token = token_of(told)
            seen |= set(told.hrefs())
        seen |= set(told.hrefs())
        assert seen - {CALENDARS} == set(whole.hrefs())
        assert sync(town, CALENDARS, token_of(told), level=level).hrefs() == []


HOME = "urn:cleanmail:sync-home:"


@pytest.mark.parametrize(
    "token",
    [
        "nonsense",
        "urn:cleanmail:sync:1-1",
        HOME,
        HOME + "!!!!",
        HOME + "AAAA",
        HOME + urlsafe_b64encode(zlib.compress(b"1 2 3")).decode(),
        HOME + urlsafe_b64encode(zlib.compress(b"1 2 -3 4 5 x")).decode(),
        HOME + urlsafe_b64encode(zlib.compress(b"1 2 3 4 5 x")[:-4]).decode(),
        HOME + urlsafe_b64encode(zlib.compress(b"1 2 3 4 5 x\n" * 5000)).decode(),
        HOME + urlsafe_b64encode(zlib.compress(b"x" * 50_000_000)).decode(),
        HOME + "A" * 1_000_000,
    ],
    ids=lambda token: token[:40],
)
def test_tokens_of_homes_that_are_none(town: DavTown, token: str) -> None:
    refused = sync(town, CALENDARS, token)
    assert (refused.status, refused.condition) == (403, dav("valid-sync-token"))


def test_a_token_of_the_future_in_a_home(town: DavTown, calendar: str) -> None:
    state = zlib.decompress(urlsafe_b64decode(token_of(sync(town, CALENDARS, level="infinite")).removeprefix(HOME)))
    lines = [line.split(b" ") for line in state.split(b"\n")]
    forged = b"\n".join(b" ".join([*line[:2], b"999999", *line[3:]]) for line in lines)
    refused = sync(town, CALENDARS, HOME + urlsafe_b64encode(zlib.compress(forged)).decode(), level="infinite")
    assert (refused.status, refused.condition) == (403, dav("valid-sync-token"))


def test_a_client_that_follows_knows_what_the_server_knows(town: DavTown, calendar: str) -> None:
    """Pages of every size between random changes."""
    choose = random.Random(6578)
    known: dict[str, str] = {}
    token, names = "", [f"{calendar}{number}.ics" for number in range(12)]
    for step in range(60):
        for _ in range(choose.randrange(4)):
            name = choose.choice(names)
            if choose.random() < 0.6:
                town.ask("PUT", name, f"{name}\n{step}{choose.random()}")
            else:
                town.ask("DELETE", name)
        told = sync(town, calendar, token, limit=str(choose.randrange(1, 5)))
        token = token_of(told)
        for href in told.hrefs():
            if href == calendar:
                continue
            if told.responses()[href].find(f"{D}status") is not None:
                known.pop(href, None)
            else:
                known[href] = told.properties(href)[dav("getetag")].text or ""
    while calendar in (told := sync(town, calendar, token, limit="2")).hrefs() or told.hrefs():
        token = token_of(told)
        for href in told.hrefs():
            if href == calendar:
                continue
            if told.responses()[href].find(f"{D}status") is not None:
                known.pop(href, None)
            else:
                known[href] = told.properties(href)[dav("getetag")].text or ""
    listed = town.propfind(calendar, dav("getetag"), depth="1")
    truth = {href: listed.properties(href)[dav("getetag")].text for href in listed.hrefs() if href != calendar}
    assert known == truth
