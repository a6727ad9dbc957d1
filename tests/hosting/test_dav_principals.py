"""Principals, what one may do with what, and the reports about both (RFC 3744, RFC 3253 §3.8, RFC 5397)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from dav_town import ALICE, BOB, MALLORY, D, DavTown, bare_calendars, new_dav_town, prop

from hosting.dav.names import caldav, calendarserver, dav
from storage.values import EmailAddress

ME, OTHER = f"/dav/principals/{ALICE}/", f"/dav/principals/{BOB}/"
CALENDARS = f"/dav/calendars/{ALICE}/"


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [bare_calendars]) as town:
        tenant_id, _ = town.accounts[ALICE]
        for login, name in (("carla@example.test", "Carla Bruni"), ("carl@example.test", "Carl Benz")):
            address = EmailAddress.parse(login)
            row = town.provisioning.create_account(tenant_id, address, name=name, password_hash=None)
            town.accounts[login] = (tenant_id, row.account_id)
        town.installation.tenant(tenant_id).addresses.add_alias(
            EmailAddress.parse("boss@example.test"), [town.accounts[ALICE][1]]
        )
        yield town


def privileges(town: DavTown, path: str, who: str = ALICE) -> set[str]:
    found = town.propfind(path, dav("current-user-privilege-set"), who=who).properties()
    return {each[0].tag for each in found[dav("current-user-privilege-set")]}


def search(*pairs: tuple[str, str], how: str = "", test: str = "", wanted: str = dav("displayname")) -> str:
    searches = "".join(
        f"<D:property-search>{prop(name)}<D:match{how}>{value}</D:match></D:property-search>" for name, value in pairs
    )
    return f'<D:principal-property-search xmlns:D="DAV:"{test}>{searches}{prop(wanted)}</D:principal-property-search>'


def test_every_resource_leads_to_who_asks(town: DavTown) -> None:
    """RFC 5397."""
    for path in ("/dav/", "/dav/principals/", ME, OTHER, CALENDARS, CALENDARS + "calendar/"):
        found = town.propfind(path, dav("current-user-principal")).properties()[dav("current-user-principal")]
        assert found.findtext(f"{D}href") == ME, path


def test_principals_of_the_tenant_can_be_looked_at(town: DavTown) -> None:
    """RFC 3744 §4."""
    told = town.propfind(OTHER, dav("displayname"), dav("principal-URL"), dav("resourcetype"), dav("alternate-URI-set"))
    found = told.properties()
    assert found[dav("displayname")].text == BOB
    assert found[dav("principal-URL")].findtext(f"{D}href") == OTHER
    assert found[dav("alternate-URI-set")].findtext(f"{D}href") == f"mailto:{BOB}"
    assert {each.tag for each in found[dav("resourcetype")]} == {dav("collection"), dav("principal")}
    assert town.propfind("/dav/principals/", dav("displayname"), depth="1").hrefs() == ["/dav/principals/", ME]
    for name in ("group-member-set", "group-membership"):
        assert town.propfind(OTHER, dav(name)).statuses() == {dav(name): 200}


def test_an_alias_of_ones_own_leads_to_the_same(town: DavTown) -> None:
    found = town.propfind("/dav/principals/boss@example.test/", dav("principal-URL")).properties()
    assert found[dav("principal-URL")].findtext(f"{D}href") == ME
    path = "/dav/calendars/BOSS@Example.Test/calendar/"
    assert town.propfind(path, dav("displayname")).hrefs() == [path]
    assert town.propfind("/dav/calendars/alice%40example.test/calendar/").hrefs() == [CALENDARS + "calendar/"]


def test_what_one_may(town: DavTown) -> None:
    """RFC 3744 §5.4; RFC 6638 §6."""
    everything = {dav("all"), dav("read"), dav("write"), dav("bind"), dav("unbind"), dav("write-content")}
    assert everything <= privileges(town, CALENDARS + "calendar/")
    assert privileges(town, "/dav/") == {dav("read"), dav("read-current-user-privilege-set")}
    assert dav("write-properties") not in privileges(town, OTHER)
    assert caldav("schedule-deliver-invite") in privileges(town, CALENDARS + "inbox/")
    assert caldav("schedule-send-freebusy") in privileges(town, CALENDARS + "outbox/")
    assert not {dav("bind"), dav("all"), dav("write-content")} & privileges(town, CALENDARS + "inbox/")


def test_what_is_granted_is_supported(town: DavTown) -> None:
    """RFC 3744 §5.3: every privilege that is granted anywhere is in supported-privilege-set."""
    for path in ("/dav/", ME, CALENDARS, CALENDARS + "calendar/", CALENDARS + "inbox/", CALENDARS + "outbox/"):
        told = town.propfind(path, dav("supported-privilege-set")).properties()[dav("supported-privilege-set")]
        supported = {each[0].tag for each in told.iter(f"{D}privilege")}
        assert privileges(town, path) <= supported, path


def test_acl(town: DavTown) -> None:
    """RFC 3744 §5.5."""
    found = town.propfind(CALENDARS + "calendar/", dav("acl"), dav("owner"), dav("acl-restrictions")).properties()
    assert found[dav("owner")].findtext(f"{D}href") == ME
    (entry,) = found[dav("acl")]
    assert entry.find(f"{D}principal/{D}property/{D}owner") is not None
    assert entry.find(f"{D}protected") is not None
    assert {each.tag for each in found[dav("acl-restrictions")]} == {dav("grant-only"), dav("no-invert")}


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (search((dav("displayname"), "carl")), {"carla@example.test", "carl@example.test"}),
        (search((dav("displayname"), "CARLA b")), {"carla@example.test"}),
        (search((dav("displayname"), "benz"), how=' match-type="starts-with"'), {"carl@example.test"}),
        (search((dav("displayname"), "carl benz"), how=' match-type="equals"'), {"carl@example.test"}),
        (search((dav("displayname"), "carl"), (dav("displayname"), "bruni")), {"carla@example.test"}),
        (
            search((dav("displayname"), "benz"), (calendarserver("email-address-set"), "bob@"), test=' test="anyof"'),
            {"carl@example.test", BOB},
        ),
        (search((caldav("calendar-user-address-set"), "mailto:bob@example.test")), {BOB}),
        (search((calendarserver("last-name"), "bruni")), {"carla@example.test"}),
        (search((calendarserver("email-address-set"), "mallory")), set()),
        (search((calendarserver("email-address-set"), "other.test")), set()),
        (search(("{u:x}unknown", "carl")), set()),
    ],
)
def test_people_are_found_in_ones_own_tenant(town: DavTown, body: str, found: set[str]) -> None:
    """RFC 3744 §9.4."""
    told = town.ask("REPORT", "/dav/principals/", body, depth="0")
    assert set(told.hrefs()) == {f"/dav/principals/{each}/" for each in found}


def test_everybody_is_listed_as_python_caldav_asks(town: DavTown) -> None:
    """Without a condition, and with what is wanted beside an empty DAV:prop."""
    body = '<D:principal-property-search xmlns:D="DAV:"><D:prop/><D:displayname/></D:principal-property-search>'
    told = town.ask("REPORT", "/dav/", body, depth="0")
    assert {ME, OTHER} < set(told.hrefs())
    assert not any(MALLORY in href for href in told.hrefs())
    assert told.properties(OTHER)[dav("displayname")].text == BOB


@pytest.mark.parametrize(
    "body",
    [
        search((dav("displayname"), "x"), how=' match-type="sounds-like"'),
        search(*[(dav("displayname"), "x")] * 50),
        '<D:principal-property-search xmlns:D="DAV:"><D:property-search/></D:principal-property-search>',
    ],
)
def test_searches_that_are_refused(town: DavTown, body: str) -> None:
    assert town.ask("REPORT", "/dav/principals/", body, depth="0").status in (400, 403)


def test_searching_by_tokens(town: DavTown) -> None:
    """calendarserver-principal-search, as Apple's clients complete names."""
    body = (
        '<C:calendarserver-principal-search xmlns:C="http://calendarserver.org/ns/" xmlns:D="DAV:" context="attendee">'
        "<C:search-token>car</C:search-token><C:search-token>example</C:search-token>{}"
        "<D:prop><D:displayname/></D:prop></C:calendarserver-principal-search>"
    )
    found = town.ask("REPORT", "/dav/principals/", body.format(""), depth="0")
    assert len(found.hrefs()) == 2
    cut = town.ask("REPORT", "/dav/principals/", body.format("<C:limit><C:nresults>1</C:nresults></C:limit>"))
    assert cut.status_of("/dav/principals/") == 507


def test_what_can_be_searched_for_is_told(town: DavTown) -> None:
    """RFC 3744 §9.5."""
    told = town.ask("REPORT", "/dav/principals/", '<D:principal-search-property-set xmlns:D="DAV:"/>')
    names = {each.tag for each in told.xml.iterfind(f"{D}principal-search-property/{D}prop/*")}
    assert {dav("displayname"), calendarserver("email-address-set")} <= names


def test_principal_match(town: DavTown) -> None:
    """RFC 3744 §9.3."""
    body = f'<D:principal-match xmlns:D="DAV:"><D:self/>{prop(dav("displayname"))}</D:principal-match>'
    assert town.ask("REPORT", "/dav/principals/", body).hrefs() == [ME]
    assert town.ask("REPORT", OTHER, body).hrefs() == []
    assert town.ask("REPORT", "/dav/principals/", body.replace("<D:self/>", "")).status == 400


def test_acl_principal_prop_set(town: DavTown) -> None:
    """RFC 3744 §9.2."""
    body = f'<D:acl-principal-prop-set xmlns:D="DAV:">{prop(dav("displayname"))}</D:acl-principal-prop-set>'
    assert town.ask("REPORT", CALENDARS + "calendar/", body).hrefs() == [ME]
    assert town.ask("REPORT", CALENDARS + "calendar/", body, depth="1").status == 400


def test_expand_property_passes_by_what_is_no_resource(town: DavTown) -> None:
    """An address is none, in whatever letters."""
    principal = replace(town.principal(), login="j\u00fcrgen&co@example.test")
    body = (
        '<D:expand-property xmlns:D="DAV:"><D:property name="alternate-URI-set"><D:property name="owner"/></D:property>'
    )
    path = "/dav/principals/j%C3%BCrgen%26co@example.test/"
    told = town.ask("REPORT", path, body + "</D:expand-property>", principal=principal)
    assert told.status_of("mailto:j\u00fcrgen&co@example.test") == 400


def test_expand_property(town: DavTown) -> None:
    """RFC 3253 §3.8."""
    body = (
        '<D:expand-property xmlns:D="DAV:"><D:property name="owner"><D:property name="displayname"/>'
        '<D:property name="principal-URL"><D:property name="resourcetype"/></D:property></D:property>'
        '<D:property name="getctag" namespace="http://calendarserver.org/ns/"/></D:expand-property>'
    )
    found = town.ask("REPORT", CALENDARS + "calendar/", body).properties(CALENDARS + "calendar/")
    inner = found[dav("owner")].find(f"{D}response")
    assert inner is not None
    assert inner.findtext(f"{D}href") == ME
    assert inner.findtext(f".//{D}displayname") == ALICE
    assert inner.find(f".//{D}response//{D}resourcetype/{D}principal") is not None
    assert town.ask("REPORT", CALENDARS, body, depth="1").hrefs()[0] == CALENDARS


@pytest.mark.parametrize(
    "body",
    [
        '<D:expand-property xmlns:D="DAV:"><D:property/></D:expand-property>',
        '<D:expand-property xmlns:D="DAV:"><D:property name="a b"/></D:expand-property>',
        '<D:expand-property xmlns:D="DAV:">' + '<D:property name="x"/>' * 600 + "</D:expand-property>",
    ],
)
def test_expansions_that_are_refused(town: DavTown, body: str) -> None:
    assert town.ask("REPORT", ME, body).status == 400


def test_expansion_ends(town: DavTown) -> None:
    """Hrefs that lead to each other are followed a few times."""
    inner = '<D:property name="owner"/>'
    for _ in range(40):
        inner = f'<D:property name="owner">{inner}</D:property>'
    told = town.ask("REPORT", ME, f'<D:expand-property xmlns:D="DAV:">{inner}</D:expand-property>')
    assert told.status == 207
    assert told.body.count(b"<D:response>") < 10


def test_reports_are_told_and_others_refused(town: DavTown) -> None:
    """RFC 3253 §3.1.5, §3.6."""
    found = town.propfind(CALENDARS + "calendar/", dav("supported-report-set")).properties()
    names = {each[0][0].tag for each in found[dav("supported-report-set")]}
    assert {dav("sync-collection"), dav("expand-property")} <= names
    refused = town.ask("REPORT", CALENDARS, '<x:strange xmlns:x="u:x"/>')
    assert (refused.status, refused.condition) == (403, dav("supported-report"))
    assert town.ask("REPORT", CALENDARS).status == 400
    assert town.ask("REPORT", CALENDARS, "<broken").status == 400


def test_methods_are_told(town: DavTown) -> None:
    found = town.propfind(CALENDARS + "calendar/", dav("supported-method-set")).properties()
    names = {each.get("name") for each in found[dav("supported-method-set")]}
    assert {"PROPFIND", "REPORT", "DELETE"} <= names
    assert town.ask("POST", CALENDARS + "calendar/", "x").status == 405


def test_nobody_elses_tenant(town: DavTown) -> None:
    """What is another tenant's and what does not exist are the same."""
    for method in ("PROPFIND", "GET", "REPORT", "DELETE", "PROPPATCH", "MKCOL", "LOCK", "PUT", "OPTIONS"):
        for path in (
            "/dav/principals/{}/",
            "/dav/calendars/{}/",
            "/dav/calendars/{}/calendar/",
            "/dav/files/{}/a/b",
            "/dav/calendars/{}/calendar/a.ics",
            "/dav/addressbooks/{}/contacts/",
        ):
            there = town.ask(method, path.format(MALLORY), depth="0")
            nowhere = town.ask(method, path.format("nobody@nowhere.test"), depth="0")
            assert (there.status, there.body) == (nowhere.status, nowhere.body), (method, path)
            assert there.status >= 400 or method == "OPTIONS"
