"""Sharing inside a tenant as dialogues: invitations, rights, what is private, and that nothing leaves a tenant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from dav_town import ALICE, BOB, MALLORY, Answer, D, DavTown, new_dav_town, prop
from scheduling_town import meeting, new_scheduling_town

from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.contacts import extension as contacts
from hosting.dav.names import caldav, calendarserver, dav
from hosting.dav.private import may_be_private
from hosting.dav.registry import Registry
from hosting.dav.services import DavServices
from hosting.dav.sharing.extension import Sharing
from hosting.dav.sharing.shares import DirectoryShares
from storage.collections.values import Kind
from storage.directory.rows import State

CAROL = "carol@example.test"
CS = "{http://calendarserver.org/ns/}"
NS = 'xmlns:D="DAV:" xmlns:CS="http://calendarserver.org/ns/" xmlns:C="urn:ietf:params:xml:ns:caldav"'
ALICES, BOBS = f"/dav/calendars/{ALICE}/", f"/dav/calendars/{BOB}/"
XML = "text/xml; charset=utf-8"
_numbers = count(1)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    made: list[Sharing] = []

    def sharing(registry: Registry) -> None:
        for each in made:
            each.register(registry)

    with new_dav_town(tmp_path_factory.mktemp("dav"), [calendars.register, contacts.register, sharing]) as town:
        shares = DirectoryShares(town.installation)
        made.append(Sharing(shares))
        town.handler = town.with_services(shares=shares)
        town.new_account(town.accounts[ALICE][0], CAROL)
        yield town


@pytest.fixture
def calendar(town: DavTown) -> str:
    """A new calendar of alice's, with one event."""
    path = f"{ALICES}team-{next(_numbers)}/"
    assert town.ask("MKCALENDAR", path).status == 201
    assert town.ask("PUT", path + "a.ics", event("a"), content_type="text/calendar").status == 201
    return path


def event(uid: str, *lines: str, summary: str = "Secret meeting") -> str:
    more = "".join(f"{line}\r\n" for line in lines)
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//x//EN\r\nBEGIN:VEVENT\r\n"
        f"UID:{uid}\r\nDTSTAMP:20260101T000000Z\r\nDTSTART:20261201T090000Z\r\nDTEND:20261201T100000Z\r\n"
        f"SUMMARY:{summary}\r\n{more}END:VEVENT\r\nEND:VCALENDAR\r\n"
    )


def share(*people: str, writes: bool = False, remove: tuple[str, ...] = ()) -> str:
    may = "<CS:read-write/>" if writes else "<CS:read/>"
    wishes = [f"<CS:set><D:href>mailto:{each}</D:href><CS:summary>Team</CS:summary>{may}</CS:set>" for each in people]
    wishes += [f"<CS:remove><D:href>mailto:{each}</D:href></CS:remove>" for each in remove]
    return f"<CS:share {NS}>{''.join(wishes)}</CS:share>"


def share_resource(person: str, access: str) -> str:
    return (
        f"<D:share-resource {NS}><D:sharee><D:href>mailto:{person}</D:href>"
        f"<D:share-access><D:{access}/></D:share-access></D:sharee></D:share-resource>"
    )


def reply(town: DavTown, calendar: str, *, accepted: bool = True, who: str = BOB) -> Answer:
    said = "accepted" if accepted else "declined"
    body = (
        f"<CS:invite-reply {NS}><D:href>mailto:{who}</D:href><CS:invite-{said}/>"
        f"<CS:hosturl><D:href>{calendar}</D:href></CS:hosturl><CS:summary>Alice's team</CS:summary></CS:invite-reply>"
    )
    return town.ask("POST", f"/dav/calendars/{who}/", body, who=who, content_type=XML)


def taken(town: DavTown, calendar: str, *, writes: bool = False) -> str:
    """The path of it in bob's home, after he was invited and has accepted."""
    assert town.ask("POST", calendar, share(BOB, writes=writes), content_type=XML).status == 200
    accepted = reply(town, calendar)
    assert accepted.status == 200
    return accepted.xml.findtext(D + "href") or ""


def types(town: DavTown, path: str, who: str = ALICE) -> set[str]:
    found = town.propfind(path, dav("resourcetype"), who=who).properties()[dav("resourcetype")]
    return {each.tag for each in found}


class TestInvitations:
    def test_invited_asked_accepted_told(self, town: DavTown, calendar: str) -> None:
        """caldav-sharing §5.3, §5.4."""
        assert town.ask("POST", calendar, share(BOB, writes=True), content_type=XML).status == 200
        assert types(town, calendar) >= {caldav("calendar"), CS + "shared-owner"}
        invite = town.propfind(calendar, calendarserver("invite")).properties()[CS + "invite"]
        assert invite.findtext(f"{CS}user/{D}href") == f"mailto:{BOB}"
        assert invite.find(f"{CS}user/{CS}invite-noresponse") is not None
        assert invite.find(f"{CS}user/{CS}access/{CS}read-write") is not None
        assert not [each for each in town.propfind(BOBS, depth="1", who=BOB).hrefs() if "shared" in each]

        principal = f"/dav/principals/{BOB}/"
        url = town.propfind(principal, calendarserver("notification-URL"), who=BOB).properties()
        notifications = url[CS + "notification-URL"].findtext(D + "href") or ""
        assert types(town, notifications, BOB) == {D + "collection", CS + "notification"}
        listed = town.propfind(notifications, calendarserver("notificationtype"), dav("getetag"), depth="1", who=BOB)
        notice = listed.hrefs()[-1]
        assert listed.properties(notice)[CS + "notificationtype"][0].tag == CS + "invite-notification"
        told = town.ask("GET", notice, who=BOB)
        assert told.headers["ETag"] == listed.properties(notice)[dav("getetag")].text
        asked = told.xml.find(CS + "invite-notification")
        assert asked is not None
        assert asked.findtext(f"{CS}hosturl/{D}href") == calendar
        assert asked.findtext(f"{CS}organizer/{D}href") == f"mailto:{ALICE}"
        assert asked.findtext(CS + "summary") == "Team"

        accepted = reply(town, calendar)
        here = accepted.xml.findtext(D + "href") or ""
        assert accepted.xml.tag == CS + "shared-as"
        assert types(town, here, BOB) >= {caldav("calendar"), CS + "shared"}
        assert town.value(here, dav("displayname"), BOB) == "Alice's team"
        assert town.ask("GET", notice, who=BOB).status == 404
        home = town.propfind(f"{ALICES}notifications/", depth="1").hrefs()
        answered = town.ask("GET", home[-1]).xml.find(CS + "invite-reply")
        assert answered is not None and answered.find(CS + "invite-accepted") is not None
        assert town.ask("DELETE", home[-1]).status == 204
        assert town.propfind(f"{ALICES}notifications/", depth="1").hrefs() == home[:-1]
        assert town.ask("DELETE", f"{ALICES}notifications/").status == 403

    def test_declined(self, town: DavTown, calendar: str) -> None:
        town.ask("POST", calendar, share(BOB), content_type=XML)
        assert reply(town, calendar, accepted=False).status == 204
        invite = town.propfind(calendar, calendarserver("invite")).properties()[CS + "invite"]
        assert invite.find(f"{CS}user/{CS}invite-declined") is not None
        assert town.ask("GET", calendar + "a.ics", who=BOB).status == 403
        town.ask("POST", calendar, share(BOB), content_type=XML)  # asked again
        assert reply(town, calendar).status == 200

    def test_who_was_not_invited_cannot_accept(self, town: DavTown, calendar: str) -> None:
        assert reply(town, calendar).status == 404
        assert reply(town, calendar, who=MALLORY).status == 404
        town.ask("POST", calendar, share(BOB), content_type=XML)
        body = share(CAROL)
        assert town.ask("POST", calendar, body, who=BOB, content_type=XML).status == 403

    def test_nobody_of_other_tenants(self, town: DavTown, calendar: str) -> None:
        """The same answer as for nobody, by whatever name."""
        people = (MALLORY, "nobody@example.test", "nobody@nowhere.test", ALICE)
        told = town.ask("POST", calendar, share(*people, BOB), content_type=XML)
        assert {each: told.status_of(f"mailto:{each}") for each in people} == dict.fromkeys(people, 403)
        assert reply(town, calendar).status == 200  # who is of the tenant is invited all the same
        town.ask("POST", calendar, share_resource(MALLORY, "read-write"), content_type=XML)
        by_path = f"<CS:share {NS}><CS:set><D:href>/dav/principals/{MALLORY}/</D:href><CS:read/></CS:set></CS:share>"
        assert town.ask("POST", calendar, by_path, content_type=XML).status == 207
        for path in (calendar, calendar + "a.ics", ALICES, f"{ALICES}notifications/"):
            assert town.ask("PROPFIND", path, who=MALLORY, depth="0").status == 404
        tenant_id, mallory = town.accounts[MALLORY]
        alice_tenant, alice = town.accounts[ALICE]
        rows = town.installation.tenant(alice_tenant).shares
        assert mallory not in {each.sharee_id for each in rows.of_owner(alice)}
        assert not town.installation.tenant(tenant_id).shares.of_sharee(mallory)

    @pytest.mark.parametrize(
        "body",
        [
            f"<CS:share {NS}/>",
            f"<CS:share {NS}><CS:set><CS:read/></CS:set></CS:share>",
            f"<CS:share {NS}><CS:set><D:href>mailto:{BOB}</D:href></CS:set></CS:share>",
            f"<CS:other {NS}/>",
            share_resource(BOB, "everything"),
        ],
    )
    def test_what_is_not_understood(self, town: DavTown, calendar: str, body: str) -> None:
        assert town.ask("POST", calendar, body, content_type=XML).status == 400
        assert town.ask("POST", f"{ALICES}inbox/", share(BOB), content_type=XML).status in (403, 405, 415)

    def test_notifications_are_synchronised(self, town: DavTown, calendar: str) -> None:
        """RFC 6578 §3.2, as Apple's clients ask of them."""
        place = f"/dav/calendars/{CAROL}/notifications/"

        def changes(token: str) -> Answer:
            return town.ask(
                "REPORT",
                place,
                f"<D:sync-collection {NS}><D:sync-token>{token}</D:sync-token><D:sync-level>1</D:sync-level>"
                f"{prop(dav('getetag'))}</D:sync-collection>",
                who=CAROL,
            )

        first = changes("")
        assert first.hrefs() == []
        token = first.xml.findtext(D + "sync-token") or ""
        assert token == town.value(place, dav("sync-token"), CAROL)
        ctag = town.value(place, calendarserver("getctag"), CAROL)
        town.ask("POST", calendar, share(CAROL), content_type=XML)
        assert town.value(place, calendarserver("getctag"), CAROL) != ctag
        second = changes(token)
        [notice] = second.hrefs()
        later = second.xml.findtext(D + "sync-token") or ""
        assert changes(later).hrefs() == []
        town.ask("POST", calendar, share(CAROL, writes=True), content_type=XML)
        assert changes(later).hrefs() == [notice]
        assert town.ask("DELETE", calendar).status == 204  # nobody can accept it any more
        gone = changes(later)
        assert gone.hrefs() == [notice] and gone.status_of(notice) == 404
        for wrong in ("urn:x", "urn:cleanmail:notifications:AAAA", later[:-6]):
            refused = changes(wrong)
            assert (refused.status, refused.condition) == (403, dav("valid-sync-token"))


class TestRights:
    def test_reading(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar)
        assert town.ask("GET", here + "a.ics", who=BOB).body == event("a").encode()
        assert town.ask("PUT", here + "b.ics", event("b"), who=BOB, content_type="text/calendar").status == 403
        assert town.ask("DELETE", here + "a.ics", who=BOB).status == 403
        assert town.propfind(here, dav("share-access"), who=BOB).properties()[dav("share-access")][0].tag == D + "read"
        assert town.ask("GET", here + "a.ics", who=CAROL).status == 403
        invite = town.propfind(here, calendarserver("invite"), who=BOB).properties()[CS + "invite"]
        assert invite.findtext(f"{CS}organizer/{D}href") == f"mailto:{ALICE}"

    def test_writing_syncing_and_whose_quota(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar, writes=True)
        token = town.value(here, dav("sync-token"), BOB)
        with town.account(ALICE) as alice, town.account(BOB) as bob:
            before = alice.usage().bytes, bob.usage().bytes
        put = town.ask("PUT", here + "b.ics", event("b"), who=BOB, content_type="text/calendar")
        assert put.status == 201
        with town.account(ALICE) as alice, town.account(BOB) as bob:
            assert (alice.usage().bytes, bob.usage().bytes) == (before[0] + len(event("b")), before[1])
        etag = town.ask("GET", calendar + "b.ics").headers["ETag"]
        assert etag == put.headers["ETag"]
        changed = event("b", summary="Other")
        assert town.ask("PUT", calendar + "b.ics", changed, content_type="text/calendar", if_match=etag).status == 204
        stale = town.ask("PUT", here + "b.ics", changed, who=BOB, content_type="text/calendar", if_match=etag)
        assert stale.status == 412
        body = (
            f"<D:sync-collection {NS}><D:sync-token>{token}</D:sync-token><D:sync-level>1</D:sync-level>"
            f"{prop(dav('getetag'))}</D:sync-collection>"
        )
        assert town.ask("REPORT", here, body, who=BOB).hrefs() == [here + "b.ics"]

    def test_how_full_the_owners_account_is_stays_his(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar, writes=True)
        town.provisioning.set_quota(*town.accounts[ALICE], quota_bytes=1 << 30, quota_messages=0)
        free, used = dav("quota-available-bytes"), dav("quota-used-bytes")
        assert town.propfind(here, free, used, who=BOB).statuses() == {free: 404, used: 200}
        town.provisioning.set_quota(*town.accounts[ALICE], quota_bytes=0, quota_messages=0)

    def test_his_own_name_color_and_transparency(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar)
        body = (
            f'<D:propertyupdate {NS} xmlns:I="http://apple.com/ns/ical/"><D:set><D:prop>'
            "<D:displayname>Theirs</D:displayname><I:calendar-color>#112233FF</I:calendar-color>"
            "<C:schedule-calendar-transp><C:transparent/></C:schedule-calendar-transp>"
            "</D:prop></D:set></D:propertyupdate>"
        )
        assert set(town.ask("PROPPATCH", here, body, who=BOB).statuses().values()) == {200}
        assert town.value(here, dav("displayname"), BOB) == "Theirs"
        assert town.value(calendar, dav("displayname")) != "Theirs"
        assert town.propfind(here, caldav("schedule-calendar-transp"), who=BOB).properties()[
            caldav("schedule-calendar-transp")
        ][0].tag == caldav("transparent")

    def test_revoked_at_once(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar)
        assert town.ask("GET", here + "a.ics", who=BOB).status == 200
        assert town.ask("POST", calendar, share(remove=(BOB,)), content_type=XML).status == 200
        assert town.ask("GET", here + "a.ics", who=BOB).status == 404
        assert here not in town.propfind(BOBS, depth="1", who=BOB).hrefs()
        assert CS + "shared-owner" not in types(town, calendar)

    def test_left_by_the_sharee(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar)
        assert town.ask("DELETE", here, who=BOB).status == 204
        assert town.ask("GET", calendar + "a.ics").status == 200
        assert town.ask("GET", here + "a.ics", who=BOB).status == 404

    def test_by_principals_it_is_there_at_once(self, town: DavTown, calendar: str) -> None:
        """draft-pot-webdav-resource-sharing §4.3."""
        asked = town.ask("POST", calendar, share_resource(BOB, "read-write"), content_type="application/davsharing+xml")
        assert asked.status == 200
        sharee = town.propfind(calendar, dav("invite")).properties()[dav("invite")][0]
        assert sharee.find(D + "invite-accepted") is not None
        new = town.propfind(BOBS, dav("share-access"), depth="1", who=BOB).hrefs()[-1]
        assert town.ask("PUT", calendar + "c.ics", event("c"), who=BOB, content_type="text/calendar").status == 201
        assert new.startswith(BOBS)
        town.ask("POST", calendar, share_resource(BOB, "no-access"), content_type="application/davsharing+xml")
        assert town.ask("GET", calendar + "c.ics", who=BOB).status == 403

    def test_address_books(self, town: DavTown) -> None:
        book = f"/dav/addressbooks/{ALICE}/contacts/"
        assert town.ask("POST", book, share_resource(CAROL, "read"), content_type=XML).status == 200
        home = town.propfind(f"/dav/addressbooks/{CAROL}/", dav("resourcetype"), depth="1", who=CAROL)
        assert (
            sum("shared" in each.tag for href in home.hrefs() for each in home.properties(href)[dav("resourcetype")])
            == 1
        )


class TestPrivate:
    def test_sharees_see_that_he_is_busy(self, town: DavTown, calendar: str) -> None:
        private = event("p", "CLASS:CONFIDENTIAL", "LOCATION:Bank")
        folded = event("q", "CLA\r\n SS:PRIVATE")
        for name, body in (("p.ics", private), ("q.ics", folded)):
            assert town.ask("PUT", calendar + name, body, content_type="text/calendar").status == 201
        here = taken(town, calendar, writes=True)
        query = (
            f"<C:calendar-query {NS}><D:prop><C:calendar-data/></D:prop><C:filter><C:comp-filter name='VCALENDAR'>"
            "<C:comp-filter name='VEVENT'/></C:comp-filter></C:filter></C:calendar-query>"
        )
        multiget = (
            f"<C:calendar-multiget {NS}><D:prop><C:calendar-data/></D:prop>"
            f"<D:href>{here}p.ics</D:href><D:href>{here}q.ics</D:href></C:calendar-multiget>"
        )
        answers = [
            town.ask("GET", here + "p.ics", who=BOB),
            town.ask("GET", here + "q.ics", who=BOB),
            town.ask("REPORT", here, multiget, who=BOB),
        ]
        assert town.ask("COPY", here + "p.ics", who=BOB, destination=f"{BOBS}calendar/p.ics").status == 201
        answers.append(town.ask("GET", f"{BOBS}calendar/p.ics", who=BOB))
        for each in answers:
            assert each.status in (200, 207)
            assert b"Busy" in each.body and b"Secret" not in each.body and b"Bank" not in each.body
        everything = [town.ask("REPORT", here, query, who=BOB, depth="1").body, town.ask("GET", here, who=BOB).body]
        for each in everything:
            assert each.count(b"Secret") == 1 and b"Bank" not in each  # of a.ics
        assert town.ask("GET", calendar + "p.ics").body == private.encode()

    def test_what_clients_keep_with_them_is_the_owners(self, town: DavTown, calendar: str) -> None:
        here = taken(town, calendar, writes=True)
        kept = '<x:note xmlns:x="u:x">Hospital</x:note>'
        patch = f"<D:propertyupdate {NS}><D:set><D:prop>{kept}</D:prop></D:set></D:propertyupdate>"
        assert town.ask("PROPPATCH", calendar + "a.ics", patch).statuses() == {"{u:x}note": 200}
        assert b"Hospital" in town.propfind(calendar, depth="1").body
        for depth, path in (("0", here + "a.ics"), ("1", here)):
            assert b"Hospital" not in town.propfind(path, depth=depth, who=BOB).body
            assert b"Hospital" not in town.propfind(path, "{u:x}note", depth=depth, who=BOB).body
        multiget = f"<C:calendar-multiget {NS}>{prop('{u:x}note')}<D:href>{here}a.ics</D:href></C:calendar-multiget>"
        query = (
            f"<C:calendar-query {NS}>{prop('{u:x}note', caldav('calendar-data'))}"
            '<C:filter><C:comp-filter name="VCALENDAR"/></C:filter></C:calendar-query>'
        )
        for report in (multiget, query):
            told = town.ask("REPORT", here, report, who=BOB, depth="1")
            assert told.hrefs() == [here + "a.ics"] and b"Hospital" not in told.body
        assert town.ask("PROPPATCH", here + "a.ics", patch, who=BOB).statuses() == {"{u:x}note": 403}
        assert town.ask("COPY", here + "a.ics", destination=f"{BOBS}calendar/kept.ics", who=BOB).status == 201
        assert b"Hospital" not in town.propfind(f"{BOBS}calendar/kept.ics", who=BOB).body
        assert town.ask("DELETE", f"{BOBS}calendar/kept.ics", who=BOB).status == 204

    def test_nothing_is_found_in_them_nor_changed(self, town: DavTown, calendar: str) -> None:
        town.ask("PUT", calendar + "p.ics", event("p", "CLASS:PRIVATE", summary="Doctor"), content_type="text/calendar")
        here = taken(town, calendar, writes=True)
        query = (
            f"<C:calendar-query {NS}><D:prop><D:getetag/></D:prop><C:filter><C:comp-filter name='VCALENDAR'>"
            "<C:comp-filter name='VEVENT'><C:prop-filter name='SUMMARY'><C:text-match>doctor</C:text-match>"
            "</C:prop-filter></C:comp-filter></C:comp-filter></C:filter></C:calendar-query>"
        )
        assert town.ask("REPORT", here, query, who=BOB, depth="1").hrefs() == []
        assert town.ask("REPORT", calendar, query, depth="1").hrefs() == [calendar + "p.ics"]
        body = event("p", summary="Busy")
        assert town.ask("PUT", here + "p.ics", body, who=BOB, content_type="text/calendar").status == 403
        assert town.ask("DELETE", here + "p.ics", who=BOB).status == 403
        moved = town.ask("MOVE", here + "p.ics", who=BOB, destination=f"{BOBS}calendar/m.ics")
        assert moved.status == 403
        assert town.ask("MOVE", here + "a.ics", who=BOB, destination=here + "p.ics").status == 403
        assert b"Doctor" in town.ask("GET", calendar + "p.ics").body
        assert town.ask("DELETE", calendar + "p.ics").status == 204


def test_shares_rest_and_end_with_their_accounts(town: DavTown) -> None:
    tenant_id = town.accounts[ALICE][0]
    dave, erin = "dave@example.test", "erin@example.test"
    for each in (dave, erin):
        town.new_account(tenant_id, each)
    path = f"/dav/calendars/{dave}/calendar/"
    town.ask("PUT", path + "a.ics", event("a"), who=dave, content_type="text/calendar")
    assert town.ask("POST", path, share_resource(erin, "read"), who=dave, content_type=XML).status == 200
    assert town.ask("GET", path + "a.ics", who=erin).status == 200
    tenant = town.installation.tenant(tenant_id)
    owner, sharee = town.accounts[dave][1], town.accounts[erin][1]
    tenant.change_state(owner, State.SUSPENDED)
    assert town.ask("GET", path + "a.ics", who=erin).status == 403
    tenant.change_state(owner, State.ACTIVE)
    assert town.ask("GET", path + "a.ics", who=erin).status == 200
    collection = tenant.shares.of_owner(owner)[0].collection_id
    tenant.change_state(sharee, State.ENDED)
    assert not tenant.shares.of_owner(owner)
    tenant.remove_account(sharee)
    assert not tenant.shares.remove(owner, collection, sharee)


def test_meetings_in_a_shared_calendar_are_the_owners(tmp_path: Path) -> None:
    """RFC 6638 §3.2: who is organizer or attendee is the owner of the calendar, whoever writes."""
    with new_scheduling_town(tmp_path) as here:
        tenant_id, alice = here.accounts[ALICE]
        shares = DirectoryShares(here.installation)
        services = DavServices(here.installation, here.clock, shares=shares, scheduler=here.scheduling.scheduler)
        here.handler = make_handler(services, [calendars.register, Sharing(shares).register])
        with here.account(ALICE) as account:
            calendar = account.collections.find(Kind.CALENDAR, "calendar").id
        carl = here.accounts["carl@example.test"][1]
        rows = shares.rows(tenant_id)
        share = rows.invite(alice, calendar, carl, Kind.CALENDAR, may_write=True, at_once=True)
        put = here.put("m.ics", meeting(), "carl@example.test", share.name)
        assert put.status == 201
        [notice] = here.inbox(BOB)
        assert b"ORGANIZER:mailto:alice@example.test" in notice.replace(b"\r\n ", b"")
        answered = here.only(BOB).replace(b"ATTENDEE;RSVP=TRUE:mailto:bob", b"ATTENDEE;PARTSTAT=ACCEPTED:mailto:bob")
        [name] = here.objects(BOB)
        assert here.put(name, answered, BOB).status == 204
        assert b"PARTSTAT=ACCEPTED" in here.only(ALICE)
        assert here.inbox("carl@example.test") == [] and len(here.inbox(ALICE)) == 1


def test_nothing_else_is_done_to_notifications(town: DavTown, calendar: str) -> None:
    town.ask("POST", calendar, share(BOB), content_type=XML)
    place = f"{BOBS}notifications/"
    notice = town.propfind(place, depth="1", who=BOB).hrefs()[-1]
    for method in ("PUT", "MKCOL", "MKCALENDAR", "PROPPATCH", "COPY", "MOVE", "LOCK", "REPORT", "POST"):
        for path in (place, notice, place + "new.xml"):
            told = town.ask(method, path, who=BOB, destination=f"{BOBS}calendar/x.ics")
            assert 400 <= told.status < 500, (method, path, told.status)
    assert town.ask("OPTIONS", notice, who=BOB).status == 200
    assert town.ask("HEAD", notice, who=BOB).status == 200
    everything = town.propfind(place, depth="infinity", who=BOB)
    assert everything.status in (207, 403)
    assert town.ask("MOVE", calendar + "a.ics", destination=f"{ALICES}notifications/x.xml").status in (403, 409)
    for who in (CAROL, MALLORY):
        assert town.propfind(place, depth="1", who=who).status in (403, 404)
        assert town.ask("GET", notice, who=who).status in (403, 404)
    assert town.ask("GET", notice, who=BOB).status == 200
    ending = replace(town.principal(BOB), read_only_from=int(town.clock.now()))
    assert town.ask("DELETE", notice, principal=ending).status == 403  # before the contract's end nothing is changed
    assert town.ask("GET", notice, principal=ending).status == 200


@pytest.mark.parametrize(
    ("data", "hidden"),
    [
        (b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n", False),
        (b"CLASS:PUBLIC", True),
        (b"class:private", True),
        (b"C\n LASS:PRIVATE", True),
        (b"CL\r\n\tASS:PRIVATE", True),
        (b"SUMMARY:nothing of it", False),
    ],
)
def test_what_may_be_private_is_looked_at(data: bytes, hidden: bool) -> None:
    assert may_be_private(data) is hidden
