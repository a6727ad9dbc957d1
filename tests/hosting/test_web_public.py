"""Public links over sockets: what they show, how they are revoked, and that guessing leads nowhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web_town import ALICE, WebPlace, echo, web_place

from hosting.web import public
from storage.collections.defaults import CALENDAR
from storage.collections.values import Kind
from storage.directory.rows import State
from storage.errors import NotFound
from storage.icalendar.content import calendar_content

MEETING = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\nUID:{uid}\r\n"
    "DTSTAMP:20260101T000000Z\r\nDTSTART:20261201T090000Z\r\nSUMMARY:{summary}\r\n{more}END:VEVENT\r\nEND:VCALENDAR\r\n"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebPlace]:
    with web_place(tmp_path_factory.mktemp("web"), echo, plain=False, routes=public.routes) as made:
        yield made


def put(place: WebPlace, uid: str, summary: str, more: str = "") -> None:
    with place.town.account(ALICE) as account:
        calendar = account.collections.find(Kind.CALENDAR, CALENDAR)
        content = calendar_content(MEETING.format(uid=uid, summary=summary, more=more).encode())
        account.objects.put(calendar.id, f"{uid}.ics", content)


@pytest.fixture
def link(place: WebPlace) -> str:
    """The path of a new link to alice's calendar."""
    with place.town.account(ALICE) as account:
        calendar = account.collections.find(Kind.CALENDAR, CALENDAR).id
    _, secret = place.town.installation.control.public_links.create(*place.town.accounts[ALICE], calendar)
    return public.url_of("", secret)


def test_what_everybody_sees(place: WebPlace, link: str) -> None:
    more = "ORGANIZER:mailto:alice@example.test\r\nATTENDEE:mailto:guest@example.org\r\nX-NOTE:inner\r\n"
    put(place, "open", "Fair", more)
    put(place, "closed", "Doctor", "CLASS:PRIVATE\r\n")
    status, fields, body = place.ask("GET", link)
    assert (status, fields["content-type"]) == (200, "text/calendar; charset=utf-8")
    assert b"SUMMARY:Fair" in body and b"SUMMARY:Busy" in body and body.count(b"BEGIN:VCALENDAR") == 1
    for hidden in (b"Doctor", b"guest", b"alice", b"inner"):
        assert hidden not in body
    assert fields["x-robots-tag"].startswith("noindex") and "private" in fields["cache-control"]
    again = place.ask("GET", link, {"If-None-Match": fields["etag"]})
    assert again[0] == 304 and not again[2]
    put(place, "new", "Other")
    changed = place.ask("GET", link, {"If-None-Match": fields["etag"]})
    assert changed[0] == 200 and changed[1]["etag"] != fields["etag"]
    head = place.ask("HEAD", link)
    assert (head[0], head[1]["etag"], head[2]) == (200, changed[1]["etag"], b"")
    assert "content-length" not in head[1]
    assert place.ask("PUT", link, body=b"x")[0] == 405


def test_over_http_it_leads_to_https(place: WebPlace, link: str) -> None:
    client = place.http()
    client.request("GET", link)
    answer = client.getresponse()
    assert answer.status == 308 and (answer.headers["Location"] or "").startswith("https://")
    client.close()


def test_revoked_or_resting_it_is_as_if_it_never_was(place: WebPlace, link: str) -> None:
    tenant_id, alice = place.town.accounts[ALICE]
    tenant = place.town.installation.tenant(tenant_id)
    links = place.town.installation.control.public_links
    never = place.ask("GET", f"/public/{'A' * 43}.ics")
    tenant.change_state(alice, State.SUSPENDED)
    resting = place.ask("GET", link)
    tenant.change_state(alice, State.ACTIVE)
    assert place.ask("GET", link)[0] == 200
    found = links.find(link.removeprefix(public.PREFIX).removesuffix(".ics"))
    assert found is not None
    number = found.number
    assert number not in link
    with pytest.raises(NotFound):
        links.revoke(*place.town.accounts["bob@example.test"], number)
    links.revoke(tenant_id, alice, number)
    revoked = place.ask("GET", link)
    assert {(each[0], each[2]) for each in (never, resting, revoked)} == {(404, b"There is nothing here.\n")}


def test_links_end_with_their_collection_and_their_account(place: WebPlace, link: str) -> None:
    tenant_id, alice = place.town.accounts[ALICE]
    links = place.town.installation.control.public_links
    assert links.forget_collections(tenant_id, alice, [links.of_account(tenant_id, alice)[0].collection_id]) == 0
    before = len(links.of_account(tenant_id, alice))
    assert links.forget_collections(tenant_id, alice, []) == before
    assert place.ask("GET", link)[0] == 404
    with place.town.account("bob@example.test") as bob:
        links.create(*place.town.accounts["bob@example.test"], bob.collections.find(Kind.CALENDAR, CALENDAR).id)
    bobs = place.town.accounts["bob@example.test"]
    place.town.installation.control.endings.remove_rows(bobs[0], [bobs[1]], whole=False)
    assert not links.of_account(*bobs)


def test_guesses_are_slowed_down(place: WebPlace) -> None:
    """Last in this module: the address pauses afterwards."""
    for path in ("/public/", "/public/x", "/public/x.ics/y", "/public/%2e%2e%2fcontrol.db"):
        assert place.ask("GET", path)[0] == 404
    statuses = [place.ask("GET", f"/public/{number:043d}.ics")[0] for number in range(30)]
    assert 429 in statuses and set(statuses) <= {404, 429}
    assert place.service.counters.wrong_links > 0
