"""What the fuzzer of /dav/ begins with: places, names, bodies and headers, right ones and wrong ones."""

from __future__ import annotations

from dav_house import NAMESPACES

ADA, BOB, EVE = "ada@acme.test", "bob@acme.test", "eve@other.test"
SECRET = b"only-for-its-owner"

CALENDAR, BOOK, FILES = f"/dav/calendars/{ADA}/calendar/", f"/dav/addressbooks/{ADA}/contacts/", f"/dav/files/{ADA}/"
COLLECTIONS = [
    "/dav/", f"/dav/calendars/{ADA}/", CALENDAR, f"/dav/calendars/{ADA}/tasks/", f"/dav/calendars/{ADA}/notes/",
    f"/dav/calendars/{ADA}/inbox/", f"/dav/calendars/{ADA}/outbox/", f"/dav/calendars/{ADA}/r&d/", BOOK, FILES,
    f"{FILES}folder/", f"/dav/principals/{ADA}/", f"/dav/addressbooks/{ADA}/", "/dav/principals/", "/dav/calendars/",
]  # fmt: skip
STANDARD = ("calendar", "tasks", "notes", "inbox", "outbox", "notifications", ADA)
NAMES = ["a.ics", "p.ics", "b.ics", "c.ics", "a.vcf", "f", "Grüße & <b>.ics", "x" * 250, "a b", "%41.ics", "'\";"]
TRICKS = [
    "..", ".", "%2e%2e", "%2E", "..%2f", "%2f", "%5c", "\\", "%00", "%0d%0a", "%ff", "%C0%AF", "%", "%zz", "//", ";a=b",
    "?", "#", f"../{BOB}/calendar/b.ics", f"..%2F..%2F{BOB}", BOB, EVE, "~", "*", "x" * 3000, "%E2%80%AE", "a" * 300,
    "../../principals", "%252e%252e", "/etc/passwd", "calendar", "inbox", "%F0%9F%98%80", "sync", "folder", "",
]  # fmt: skip
TEAM, OURS = f"/dav/calendars/{BOB}/team/", f"/dav/calendars/{BOB}/ours/"  # shared with ada, to read and to write
BOBS, EVES = f"/dav/calendars/{BOB}/calendar/b.ics", f"/dav/calendars/{EVE}/calendar/e.ics"

RANGE = '<C:time-range start="20260101T000000Z" end="20270101T000000Z"/>'
EVENTS = f'<C:comp-filter name="VCALENDAR"><C:comp-filter name="VEVENT">{RANGE}%s</C:comp-filter></C:comp-filter>'
PROP = "<D:prop><D:getetag/><D:displayname/><D:resourcetype/><D:acl/><D:lockdiscovery/><C:calendar-data/></D:prop>"


def doc(root: str, inner: str) -> str:
    return f"<{root} {NAMESPACES}>{inner}</{root}>"


REPORTS = [
    doc("D:sync-collection", "<D:sync-token/><D:sync-level>1</D:sync-level><D:limit><D:nresults>2</D:nresults>"
        f"</D:limit>{PROP}"),
    doc("D:sync-collection", "<D:sync-token>urn:cleanmail:sync:1-1</D:sync-token>"
        f"<D:sync-level>infinite</D:sync-level>{PROP}"),
    doc("C:calendar-query", f"{PROP}<C:filter>{EVENTS % ''}</C:filter><C:limit><C:nresults>1</C:nresults></C:limit>"),
    doc("C:calendar-query", "<D:prop><C:calendar-data><C:expand start='20260101T000000Z' end='20260301T000000Z'/>"
        f"</C:calendar-data></D:prop><C:filter>{EVENTS % ''}</C:filter>"),
    doc("C:calendar-query", "<D:prop><C:calendar-data><C:comp name='VCALENDAR'><C:prop name='VERSION'/>"
        "<C:comp name='VEVENT'><C:prop name='SUMMARY' novalue='yes'/><C:allcomp/></C:comp></C:comp>"
        "<C:limit-recurrence-set start='20260101T000000Z' end='20260301T000000Z'/></C:calendar-data></D:prop>"
        "<C:filter>" + EVENTS % ("<C:prop-filter name='ATTENDEE'><C:text-match collation='i;ascii-casemap' "
        "negate-condition='yes'>mailto:x</C:text-match><C:param-filter name='PARTSTAT'><C:is-not-defined/>"
        "</C:param-filter></C:prop-filter><C:comp-filter name='VALARM'>" + RANGE + "</C:comp-filter>")
        + "</C:filter><C:timezone-id>Europe/Berlin</C:timezone-id>"),
    doc("C:calendar-multiget", f"{PROP}<D:href>{CALENDAR}a.ics</D:href><D:href>{BOBS}</D:href><D:href>{EVES}</D:href>"),
    doc("C:free-busy-query", RANGE),
    doc("CR:addressbook-query", "<D:prop><D:getetag/><CR:address-data version='4.0' content-type='text/vcard'>"
        "<CR:prop name='FN'/></CR:address-data></D:prop><CR:filter test='anyof'>"
        "<CR:prop-filter name='EMAIL' test='allof'><CR:text-match match-type='ends-with' "
        "collation='i;unicode-casemap'>x</CR:text-match></CR:prop-filter></CR:filter><CR:limit><CR:nresults>3</CR:nresults></CR:limit>"),
    doc("CR:addressbook-multiget", f"<D:prop><CR:address-data version='3.0'/></D:prop><D:href>{BOOK}a.vcf</D:href>"),
    doc("D:expand-property", "<D:property name='current-user-principal'><D:property name='displayname'/>"
        "<D:property name='calendar-home-set' namespace='urn:ietf:params:xml:ns:caldav'><D:property name='owner'/>"
        "</D:property></D:property>"),
    doc("D:principal-property-search", "<D:property-search><D:prop><D:displayname/></D:prop><D:match>b</D:match>"
        "</D:property-search><D:prop><D:displayname/></D:prop><D:apply-to-principal-collection-set/>"),
    doc("D:principal-match", "<D:self/><D:prop><D:displayname/></D:prop>"),
    doc("D:acl-principal-prop-set", "<D:prop><D:displayname/></D:prop>"),
    doc("D:principal-search-property-set", ""),
    doc("CS:calendarserver-principal-search", "<CS:search-token>b</CS:search-token><D:prop><D:displayname/></D:prop>"),
]  # fmt: skip
BODIES: dict[str, list[str]] = {
    "PROPFIND": ["", doc("D:propfind", PROP), doc("D:propfind", "<D:allprop/><D:include><D:acl/></D:include>"),
                 doc("D:propfind", "<D:propname/>")],
    "PROPPATCH": [
        doc("D:propertyupdate", "<D:set><D:prop><D:displayname xml:lang='de'>Größe</D:displayname>"
            "<I:calendar-color>#FF0000FF</I:calendar-color><I:calendar-order>3</I:calendar-order>"
            "<C:calendar-description>x</C:calendar-description></D:prop></D:set>"),
        doc("D:propertyupdate", "<D:set><D:prop><x:y xmlns:x='urn:x'><x:z a='1'>t<b/>u</x:z></x:y></D:prop></D:set>"
            "<D:remove><D:prop><D:displayname/></D:prop></D:remove>"),
        doc("D:propertyupdate", "<D:set><D:prop><C:calendar-timezone>BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\n"
            "BEGIN:VTIMEZONE\r\nTZID:X\r\nBEGIN:STANDARD\r\nDTSTART:20000101T000000\r\nTZOFFSETFROM:+0100\r\n"
            "TZOFFSETTO:+0100\r\nEND:STANDARD\r\nEND:VTIMEZONE\r\nEND:VCALENDAR\r\n</C:calendar-timezone>"
            "<C:schedule-calendar-transp><C:opaque/></C:schedule-calendar-transp></D:prop></D:set>"),
        doc("D:propertyupdate", "<D:set><D:prop><C:default-alarm-vevent-date>BEGIN:VALARM\r\nEND:VALARM"
            f"</C:default-alarm-vevent-date><C:schedule-default-calendar-URL><D:href>{CALENDAR}</D:href>"
            "</C:schedule-default-calendar-URL><C:calendar-timezone-id>Europe/Berlin</C:calendar-timezone-id>"
            "<C:calendar-free-busy-set><D:href>x</D:href></C:calendar-free-busy-set></D:prop></D:set>"),
    ],
    "MKCALENDAR": ["", doc("C:mkcalendar", "<D:set><D:prop><D:displayname>n</D:displayname>"
                           "<C:supported-calendar-component-set><C:comp name='VEVENT'/>"
                           "</C:supported-calendar-component-set></D:prop></D:set>")],
    "MKCOL": ["", doc("D:mkcol", "<D:set><D:prop><D:resourcetype><D:collection/><CR:addressbook/></D:resourcetype>"
                      "<D:displayname>b</D:displayname></D:prop></D:set>")],
    "LOCK": ["", doc("D:lockinfo", "<D:lockscope><D:shared/></D:lockscope><D:locktype><D:write/></D:locktype>"
                     "<D:owner><D:href>x</D:href></D:owner>")],
    "REPORT": REPORTS,
    "ACL": [doc("D:acl", "<D:ace><D:principal><D:all/></D:principal><D:grant><D:privilege><D:read/></D:privilege>"
                "</D:grant></D:ace>")],
    "POST": ["", doc("CS:share", "<CS:set><D:href>mailto:bob@acme.test</D:href><CS:read-write/></CS:set>"),
             "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nMETHOD:REQUEST\r\nBEGIN:VFREEBUSY\r\nUID:u\r\n"
             "DTSTAMP:20260101T000000Z\r\nDTSTART:20260101T000000Z\r\nDTEND:20260301T000000Z\r\n"
             "ORGANIZER:mailto:ada@acme.test\r\nATTENDEE:mailto:bob@acme.test\r\nATTENDEE:mailto:eve@other.test\r\n"
             "END:VFREEBUSY\r\nEND:VCALENDAR\r\n"],
}  # fmt: skip
METHODS = [
    *["PUT"] * 14, *["REPORT"] * 12, *["PROPFIND"] * 4, *["PROPPATCH"] * 4, *["MKCALENDAR", "MKCOL", "LOCK", "ACL"],
    "POST", "POST", "COPY", "COPY", "MOVE", "MOVE", "DELETE", "GET", "HEAD", "UNLOCK", "OPTIONS", "PATCH", "SEARCH",
]  # fmt: skip
MEETING = (
    "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:m\r\nDTSTAMP:20260101T000000Z\r\n"
    "DTSTART;TZID=Europe/Berlin:20261224T180000\r\nDURATION:PT1H\r\nRRULE:FREQ=WEEKLY;COUNT=9\r\nSUMMARY:Grüße\r\n"
    "ORGANIZER:mailto:ada@acme.test\r\nATTENDEE;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:bob@acme.test\r\n"
    "ATTENDEE:mailto:eve@other.test\r\nATTENDEE;SCHEDULE-AGENT=CLIENT:mailto:far@far.test\r\nEND:VEVENT\r\n"
    "BEGIN:VEVENT\r\nUID:m\r\nDTSTAMP:20260101T000000Z\r\nRECURRENCE-ID;TZID=Europe/Berlin:20261231T180000\r\n"
    "DTSTART;TZID=Europe/Berlin:20261231T200000\r\nORGANIZER:mailto:ada@acme.test\r\n"
    "ATTENDEE:mailto:bob@acme.test\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
).encode()
TEXTS = [
    "", " ", "-1", "0", "99999999999999999999", "VEVENT", "20260101T000000Z", "20260101", "99991231T235959Z",
    "00000101T000000Z", "9" * 300, "infinite", "\N{GREEK SMALL LETTER ALPHA}" * 40, "urn:cleanmail:sync:9-9", "<",
    "]]>", "&#1;", "&amp;", "&x;", "yes", "no", "i;octet", "http://[", "//x", "/dav/../..", "DAV:", "x" * 5000, "\x00",
    "\ud800", "#GGGGGG", "1" * 20, "mailto:", BOBS, EVES, f"/dav/principals/{EVE}/", "Europe/Nowhere", "\x85",
    "../../etc/passwd",
]  # fmt: skip
HEADERS: dict[str, list[str]] = {
    "depth": ["0", "0", "1", "1", "infinity", "2", "", "1,noroot"],
    "overwrite": ["T", "F", "x"],
    "if": ["(<a:b>)", '(["x"])', "(Not <DAV:no-lock>)", f"<{BOBS}> (<a>)", "((", "<", "(" * 900,
           "(<" + "x" * 4000 + ">)", "(" + '["y"]' * 300 + ")", "<http://[> (<x>)", "(Not Not <a>)",
           f"</dav/> ([\"a\"]) <{EVES}> (Not [\"b\"])"],
    "if-match": ["*", '"x"', "x", ",", '"', 'W/"x"', '"a"' * 400, ""],
    "if-none-match": ["*", '"x"', ",,", "*, *"],
    "if-schedule-tag-match": ['"x"', "*", ""],
    "if-modified-since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 99999 99:99:99 GMT", "-1"],
    "if-unmodified-since": ["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 01 Jan 2099 00:00:00 +9999"],
    "lock-token": ["<urn:uuid:1>", "x", "<>", "<", "<" + "x" * 5000 + ">"],
    "timeout": ["Second-1", "Infinite, Second-4100000000", "Second-99999999999999", "x", "Second-", "Second--1"],
    "prefer": ["return=minimal", "return=representation", "depth-noroot", "=;,", 'return="', "return=minimal;" * 90],
    "range": ["bytes=0-", "bytes=-1", "bytes=9-1", "x", "bytes=0-0,2-3", "bytes=-0", "bytes=" + "9" * 400 + "-"],
    "content-type": ["text/calendar", "text/vcard", "application/xml", "", "x/y; z", 'text/calendar; charset="utf-16"',
                     "text/calendar; component=vevent; charset=utf-8", "text/vcard; version=4.0", "\xff", "a" * 900],
    "accept": ["text/vcard; version=4.0", "text/vcard;version=3.0, */*;q=0", "x", ",;q=;", "text/html"],
    "caldav-timezones": ["F", "T", "x"],
    "schedule-reply": ["F", "x"],
    "content-range": ["bytes 0-1/2"],
    "brief": ["t"],
    "host": ["dav.acme.test", "dav.acme.test:99999", "[::1", "", "other.example", "a\xffb"],
    "origin": ["https://elsewhere.example"],
    "user-agent": ["", "x" * 3000],
    "expect": ["100-continue"],
    "x-http-method-override": ["DELETE"],
    "x-forwarded-user": [BOB],
    "originator": [f"mailto:{BOB}"],
    "recipient": [f"mailto:{EVE}"],
}  # fmt: skip
