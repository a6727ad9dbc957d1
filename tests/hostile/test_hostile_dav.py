"""Bad input over HTTP to a running server: a clear answer or the end of the connection, flat memory, others served.

Every answer is a status of ours with the precondition where there is one, never 500; what one account sends touches
nothing of another one.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from typing import Any

import pytest
from http_wire import HttpAnswer, HttpWire
from whole_server import WholeServer, until
from wire import Closed, Wire

MB = 1024 * 1024
ALICE, BOB, MALLORY = "alice@one.test", "bob@one.test", "mallory@two.test"
CALENDAR, TASKS = f"/dav/calendars/{ALICE}/calendar/", f"/dav/calendars/{ALICE}/tasks/"
BOOK, FILES = f"/dav/addressbooks/{ALICE}/contacts/", f"/dav/files/{ALICE}/"
DECLARED = 'xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav" xmlns:CR="urn:ietf:params:xml:ns:carddav"'
SECRET = b"nobody-else-reads-this"

pytestmark = pytest.mark.slow

_networks = count(1)


@pytest.fixture
def source() -> str:
    return f"127.81.{next(_networks)}.1"


@pytest.fixture
def alice(server: WholeServer, source: str) -> Iterator[HttpWire]:
    with server.dav(ALICE, source=source) as client:
        yield client


def event(*lines: str, uid: str = "one") -> bytes:
    """Begins at ten on 1 January 2026, unless it says something else."""
    given = lines if any(line.startswith("DTSTART") for line in lines) else ("DTSTART:20260101T100000Z", *lines)
    return calendar("BEGIN:VEVENT", f"UID:{uid}", "DTSTAMP:20260101T000000Z", *given, "END:VEVENT")


def calendar(*lines: str) -> bytes:
    head = ("BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//h//EN")
    return "\r\n".join([*head, *lines, "END:VCALENDAR", ""]).encode()


def card(*lines: str, version: str = "3.0") -> bytes:
    return "\r\n".join(["BEGIN:VCARD", f"VERSION:{version}", *lines, "END:VCARD", ""]).encode()


def put(client: HttpWire, path: str, body: bytes, **fields: str) -> HttpAnswer:
    kind = "text/vcard" if path.startswith("/dav/addressbooks") else "text/calendar"
    return client.ask("PUT", path, body, {"Content-Type": kind, **fields})


def flood(wire: Wire, piece: bytes, total: int) -> None:
    with suppress(Closed):
        for _ in range(total // len(piece)):
            wire.send(piece)


def ends(wire: Wire, within: float = 20.0) -> bytes:
    """What it says until it ends, which it does in time."""
    begun = time.monotonic()
    wire.socket.settimeout(within)
    said = wire.rest()
    assert time.monotonic() - begun < within
    return said


# Memory


def test_a_hundred_megabytes(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("web", growth=72 * MB):
        with server.dav(ALICE, source=source) as announced:
            announced.send(announced.head("PUT", FILES + "large", {"Content-Length": 100 * MB}))
            flood(announced, b"x" * MB, 100 * MB)
            assert b"HTTP/1.1 413" in ends(announced)
        with server.dav(ALICE, source=source) as chunked:
            chunked.send(chunked.head("PUT", FILES + "large", {"Transfer-Encoding": "chunked"}))
            flood(chunked, b"100000\r\n" + b"x" * MB + b"\r\n", 100 * MB)
            assert b"HTTP/1.1 413" in ends(chunked)
        with server.dav(ALICE, source=source) as small:
            assert small.ask("GET", FILES + "large").status == 404


def test_bodies_that_are_never_finished_hold_no_more_than_they_may(
    server: WholeServer, meanwhile: Any, source: str
) -> None:
    with meanwhile("web", growth=160 * MB), ExitStack() as stack:
        halves = [stack.enter_context(server.dav(ALICE, source=source)) for _ in range(6)]
        for half in halves:
            half.send(half.head("PUT", FILES + "half", {"Content-Length": 20 * MB}))
            flood(half, b"x" * MB, 19 * MB)
        statuses = [ends(half)[9:12] for half in halves]
        assert set(statuses) == {b"408", b"503"} and statuses.count(b"503") >= 2


ENTITIES = '<!ENTITY e0 "haha">' + "".join(f'<!ENTITY e{n + 1} "&e{n};&e{n};">' for n in range(25))
PROPFIND = '<D:propfind xmlns:D="DAV:"%s>%s</D:propfind>'
PROP = PROPFIND % ("", "<D:prop>%s</D:prop>")
BOMBS = {
    "laughs": f"<!DOCTYPE l [{ENTITIES}]>" + PROPFIND % ("", "&e25;"),
    "quadratic": '<!DOCTYPE l [<!ENTITY a "%s">]>' % ("x" * 50_000) + PROPFIND % ("", "&a;" * 50_000),
    "external": '<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + PROPFIND % ("", "&a;"),
    "parameters": '<!DOCTYPE l [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x"> %a;]>' + PROPFIND % ("", ""),
    "document type": '<!DOCTYPE l SYSTEM "http://127.0.0.1:1/x">' + PROPFIND % ("", ""),
    "stylesheet": '<?xml-stylesheet href="http://127.0.0.1:1/x"?>' + PROPFIND % ("", ""),
    "unknown entity": PROPFIND % ("", "&a;"),
    "depth": '<D:propfind xmlns:D="DAV:">' + "<D:prop>" * 100_000,
    "elements": PROP % ("<x/>" * 200_000),
    "attributes": PROPFIND % ("".join(f" a{n}=''" for n in range(90_000)), ""),
    "namespaces": PROPFIND % ("".join(f" xmlns:a{n}='u:{n}'" for n in range(40_000)), "<a1:x/>"),
    "names": PROP % ("<" + "x" * 900_000 + "/>"),
    "encoding": '<?xml version="1.0" encoding="utf-7"?>' + PROPFIND % ("", ""),
    "not closed": '<D:propfind xmlns:D="DAV:"><D:prop>',
    "prefix": "<D:propfind/>",
    "two roots": PROPFIND % ("", "") + "<x/>",
    "properties": PROP % "".join(f"<D:a{n}/>" for n in range(30_000)),
}


def test_bombs_of_xml(meanwhile: Any, alice: HttpWire) -> None:
    with meanwhile("web", growth=48 * MB):
        for method in ("PROPFIND", "PROPPATCH", "REPORT", "MKCALENDAR", "LOCK"):
            for name, bomb in BOMBS.items():
                answer = alice.ask(method, CALENDAR + ("" if method != "MKCALENDAR" else "new/"), bomb)
                assert 400 <= answer.status < 500 or name == "namespaces", (method, name, answer)
                assert b"root:" not in answer.body


def test_deep_properties_are_kept_or_refused(alice: HttpWire) -> None:
    for depth, status in ((40, 207), (100, 400)):
        deep = "<x:a>" * depth + "</x:a>" * depth
        body = f'<D:set><D:prop><x:p xmlns:x="u:x">{deep}</x:p></D:prop></D:set>'
        body = f"<D:propertyupdate {DECLARED}>{body}</D:propertyupdate>"
        assert alice.ask("PROPPATCH", CALENDAR, body).status == status
    kept = alice.ask("PROPFIND", CALENDAR, f'<D:propfind {DECLARED}><D:prop><p xmlns="u:x"/></D:prop></D:propfind>')
    assert kept.body.count(b":a") == 80


def test_reports_with_very_many_references(meanwhile: Any, alice: HttpWire) -> None:
    assert put(alice, CALENDAR + "many.ics", event(uid="many")).status in (201, 204)
    data = "<D:prop><D:getetag/><C:calendar-data/></D:prop>"
    with meanwhile("web", growth=64 * MB):
        for href in (f"{CALENDAR}many.ics", "/dav/x{n}", "/dav/../{n}", f"/dav/calendars/{BOB}/calendar/{{n}}.ics"):
            hrefs = "".join(f"<D:href>{href.format(n=n)}</D:href>" for n in range(8_000))
            answer = alice.ask(
                "REPORT", CALENDAR, f"<C:calendar-multiget {DECLARED}>{data}{hrefs}</C:calendar-multiget>"
            )
            assert answer.status in (207, 403, 507), (href, answer)


# Calendars and cards that mean harm


def numbers(end: int) -> str:
    return ",".join(map(str, range(end)))


RULES = {
    "FREQ=SECONDLY": 403,
    "FREQ=MINUTELY": 403,
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30": 201,  # never
    "FREQ=DAILY": 201,
    "FREQ=DAILY;COUNT=999999999": 403,
    "FREQ=YEARLY;BYYEARDAY=1," + numbers(367)[4:]: 201,
    f"FREQ=YEARLY;BYHOUR={numbers(24)};BYMINUTE={numbers(60)};BYSECOND={numbers(60)}": 403,
    "FREQ=DAILY;INTERVAL=0": 403,
    "FREQ=DAILY;INTERVAL=99999999999999999999": 403,
    "FREQ=YEARLY;INTERVAL=500;BYMONTH=2;BYMONTHDAY=29": None,
    "FREQ=DAILY;UNTIL=99991231T235959Z": None,
    "FREQ=MONTHLY;BYDAY=99MO": 403,
    "FREQ=WEEKLY;BYDAY=" + ",".join(["MO"] * 100_000): None,
    "FREQ=NEVER": 403,
}


def test_rules_without_end(meanwhile: Any, alice: HttpWire) -> None:
    whole = (
        f"<C:calendar-query {DECLARED}><D:prop><C:calendar-data>"
        "<C:expand start='20260101T000000Z' end='20260401T000000Z'/>"
        "</C:calendar-data></D:prop><C:filter><C:comp-filter name='VCALENDAR'><C:comp-filter name='VEVENT'>"
        "<C:time-range start='20260101T000000Z' end='%s'/></C:comp-filter></C:comp-filter></C:filter>"
        "</C:calendar-query>"
    )
    with meanwhile("web", growth=64 * MB):
        for number, (rule, status) in enumerate(RULES.items()):
            answer = put(alice, f"{CALENDAR}rule{number}.ics", event(f"RRULE:{rule}", uid=f"rule{number}"))
            assert answer.status == status or (status is None and answer.status in (201, 403)), (rule, answer.body)
            if answer.status == 403:
                assert answer.condition in ("valid-calendar-data", "max-instances", "max-resource-size"), answer.body
        for end in ("20260401T000000Z", "29991231T000000Z"):
            assert alice.ask("REPORT", CALENDAR, whole % end).status in (207, 403, 507)
        year = "<C:time-range start='20260101T000000Z' end='20270101T000000Z'/>"
        busy = f"<C:free-busy-query {DECLARED}>{year}</C:free-busy-query>"
        assert alice.ask("REPORT", CALENDAR, busy).status in (200, 403, 507)
    for number in range(len(RULES)):
        alice.ask("DELETE", f"{CALENDAR}rule{number}.ics")


def test_fifty_thousand_exceptions(meanwhile: Any, alice: HttpWire) -> None:
    days = [f"{1900 + n // 336:04}{n // 28 % 12 + 1:02}{n % 28 + 1:02}T100000Z" for n in range(50_000)]
    rule = ("DTSTART:19000101T100000Z", "RRULE:FREQ=DAILY")
    one = "BEGIN:VEVENT\r\nUID:one\r\nDTSTAMP:20260101T000000Z\r\nRECURRENCE-ID:%s\r\nDTSTART:%s\r\nEND:VEVENT"
    bodies = [
        event(*rule, "EXDATE:" + ",".join(days)),
        event(*rule, *(f"EXDATE:{day}" for day in days)),
        event(rule[0], "RDATE:" + ",".join(days)),
        event(*rule).replace(
            b"END:VCALENDAR", "\r\n".join(one % (day, day) for day in days).encode() + b"\r\nEND:VCALENDAR"
        ),
    ]
    with meanwhile("web", growth=200 * MB):
        for body in bodies:
            answer = put(alice, CALENDAR + "exceptions.ics", body)
            assert answer.status in (201, 204, 403), answer.body
            assert answer.status != 403 or answer.condition in (
                "max-instances",
                "max-resource-size",
                "valid-calendar-data",
            )
    alice.ask("DELETE", CALENDAR + "exceptions.ics")


BROKEN = {
    b"": "valid-calendar-data",
    b"BEGIN:VCALENDAR": "valid-calendar-data",
    b"\0" * 1000: "valid-calendar-data",
    b"BEGIN:X\r\n" * 100_000: "valid-calendar-data",
    b"BEGIN:VCALENDAR\r\n" + b" \r\n" * 300_000: "valid-calendar-data",
    event("SUMMARY:\xff").replace("\xff".encode(), b"\xff"): "valid-calendar-data",
    event("SUMMARY:a\x01b"): "valid-calendar-data",
    event().replace(b"VERSION:2.0", b"VERSION:1.0"): "valid-calendar-data",
    event().replace(b"UID:one\r\n", b""): "valid-calendar-object-resource",
    event().replace(b"PRODID", b"METHOD:REQUEST\r\nPRODID"): "valid-calendar-object-resource",
    event() + event(uid="two"): "valid-calendar-data",
    calendar(): "valid-calendar-object-resource",
    event("DTSTART:20269999T999999Z"): "valid-calendar-data",
    event("DTSTART;TZID=Nowhere:20260101T100000"): None,
    event("DTEND:20200101T000000Z"): "valid-calendar-data",
    event("DURATION:" + "P" * 100_000): "valid-calendar-data",
    event(*(f"ATTENDEE:mailto:a{n}@b.test" for n in range(20_000))): "max-attendees-per-instance",
    event().replace(b"VEVENT", b"VTODO"): "supported-calendar-component",
    card("FN:x", "UID:x"): "valid-calendar-data",
}
BROKEN_CARDS = {
    b"": "valid-address-data",
    b"BEGIN:VCARD": "valid-address-data",
    b"\0" * 1000: "valid-address-data",
    b"BEGIN:VCARD\r\n" * 100_000: "valid-address-data",
    card("FN:x", "UID:x", version="9.0"): "supported-address-data",
    card("UID:x"): None,
    card("FN:x", "UID:x") + card("FN:y", "UID:y"): "valid-address-data",
    card("FN:x", "UID:x", "NOTE:\x02"): "valid-address-data",
    card("FN:x", "UID:x", "PHOTO;ENCODING=b:" + "A" * 12_000_000): "max-resource-size",
    event(): "valid-address-data",
}


def test_broken_objects_are_refused_with_what_is_wrong(meanwhile: Any, alice: HttpWire) -> None:
    with meanwhile("web", growth=128 * MB):
        for path, broken in ((CALENDAR + "broken.ics", BROKEN), (BOOK + "broken.vcf", BROKEN_CARDS)):
            for body, condition in broken.items():
                answer = put(alice, path, body)
                if condition is None:
                    assert answer.status in (201, 403), (body[:200], answer.body)
                    alice.ask("DELETE", path)
                else:
                    assert answer.status == 403, (body[:300], answer)
                    assert answer.condition == condition, (body[:300], answer.body)
                assert alice.ask("GET", path).status == 404


# HTTP: lengths, smuggling, pipelines

INNER = b"PUT /dav/files/alice@one.test/smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: %b\r\nContent-Length: 1\r\n\r\nx"
SHAPES = [  # head fields, body before what is smuggled
    (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", b"0\r\n\r\n"),
    (b"Content-Length: 0\r\nContent-Length: 4\r\n", b""),
    (b"Content-Length: 0, 4\r\n", b""),
    (b"Content-Length: +0\r\n", b""),
    (b"Content-Length: -1\r\n", b""),
    (b"Content-Length: 0x0\r\n", b""),
    (b"Content-Length : 0\r\n", b""),
    (b"Content-Length: 99999999999999999999999999999999\r\n", b""),
    (b"Transfer-Encoding: xchunked\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding: chunked, identity\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding : chunked\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding:\x0bchunked\r\n", b"0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", b"0\r\n\r\n"),
    (b"X: y\r\n Content-Length: 0\r\n", b""),
    (b"X: a\0b\r\n", b""),
    (b"X: a\rContent-Length: 9\r\n", b""),
    (b"X\xff: a\r\n", b""),
    (b": a\r\n", b""),
    (b"Transfer-Encoding: chunked\r\n", b"0x0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"-1\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"1\r\nab\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"10000000000000000\r\n\r\n"),
    (b"Transfer-Encoding: chunked\r\n", b"1;" + b"x" * 100_000),
    (b"Transfer-Encoding: chunked\r\n", b"\n0\n\n"),
]


def test_nothing_is_smuggled_behind_another_request(server: WholeServer, alice: HttpWire, source: str) -> None:
    """A shape that two servers read differently is refused, and the connection ends."""
    field = alice.fields["Authorization"].encode()
    for fields, body in SHAPES:
        with server.dav(None, source=source) as wire:
            head = (
                b"PROPFIND /dav/ HTTP/1.1\r\nHost: x\r\nDepth: 0\r\nAuthorization: "
                + field
                + b"\r\n"
                + fields
                + b"\r\n"
            )
            with suppress(Closed):
                wire.send(head + body + INNER % field)
            said = ends(wire)
            assert said.count(b"HTTP/1.1 4") <= 1 and b"HTTP/1.1 2" not in said, (fields, body[:50], said)
            assert b" 500 " not in said
        assert alice.ask("GET", FILES + "smuggled").status == 404, (fields, body[:50])


def test_fields_that_only_proxies_may_write_are_not_heeded(server: WholeServer, alice: HttpWire) -> None:
    names = ("X-Forwarded-User", "X-Remote-User", "Remote-User", "X-Original-URL", "X-Rewrite-URL", "Forwarded")
    claims = dict.fromkeys(names, BOB)
    with server.dav(None, source="127.81.0.9") as nobody:
        assert nobody.ask("PROPFIND", f"/dav/calendars/{BOB}/", headers=claims).status == 401
    claims |= {"X-Original-URL": f"/dav/calendars/{BOB}/", "X-HTTP-Method-Override": "DELETE"}
    answer = alice.ask("PROPFIND", f"/dav/calendars/{ALICE}/", headers={**claims, "Depth": "0"})
    assert answer.hrefs == [f"/dav/calendars/{ALICE}/"]
    assert alice.ask("GET", f"/dav/calendars/{BOB}/calendar/x.ics", headers=claims).status == 403


def test_lengths_that_are_wrong(server: WholeServer, source: str) -> None:
    with server.dav(ALICE, source=source) as short:
        short.send(short.head("PUT", FILES + "short", {"Content-Length": 10}) + b"12345")
        assert ends(short).startswith(b"HTTP/1.1 408")
    with server.dav(ALICE, source=source) as long:
        long.send(long.head("PUT", FILES + "long", {"Content-Length": 5}) + b"1234567890\r\n\r\n")
        assert ends(long)[9:12] in (b"", b"201")  # the octets behind it may end the connection before it is answered
    with server.dav(ALICE, source=source) as client:
        assert client.ask("GET", FILES + "short").status == 404
        stored = client.ask("GET", FILES + "long")
        assert stored.status == 404 or stored.body == b"12345"


def test_many_requests_sent_ahead(meanwhile: Any, server: WholeServer, source: str) -> None:
    with meanwhile("web"), server.dav(ALICE, source=source) as ahead:
        flood(ahead, ahead.head("PROPFIND", CALENDAR, {"Depth": "0"}) * 100, 100 * 30_000)
        assert ends(ahead).count(b"HTTP/1.1 207") < 30


# Slow and vanishing clients


def test_slow_clients_are_cut_off(meanwhile: Any, server: WholeServer, alice: HttpWire, source: str) -> None:
    big = b"x" * (12 * MB)
    assert alice.ask("PUT", FILES + "big", big).status in (201, 204)
    with meanwhile("web", growth=230 * MB), ExitStack() as stack:  # six are read at once; two are kept
        begun = time.monotonic()
        head, body, silent = (stack.enter_context(server.dav(ALICE, source=source)) for _ in range(3))
        readers = [stack.enter_context(server.dav(ALICE, source=source, receive_buffer=4096)) for _ in range(20)]
        for reader in readers:
            reader.send(reader.head("GET", FILES + "big"))
        head.send(b"GET /dav/ HTTP/1.1\r\n")
        body.send(body.head("PUT", FILES + "slow", {"Content-Length": 100_000}))
        dripping = [head, body]
        while dripping and time.monotonic() - begun < 15:
            for wire in tuple(dripping):
                wire.socket.settimeout(0.05)
                with suppress(TimeoutError):
                    if wire.rest() is not None:
                        dripping.remove(wire)
                        continue
                with suppress(Closed):
                    wire.send(b"X: y\r\n")
        assert not dripping and ends(silent) == b""
        until(lambda: sum(map(_is_cut, readers)) == 2, "the end of those who do not read", 30)
        assert [reader.answer().status for reader in readers if not _is_cut(reader)] == [503] * 18
    with server.dav(ALICE, source=source) as client:
        assert client.ask("GET", FILES + "slow").status == 404
        assert client.ask("DELETE", FILES + "big").status == 204


def _is_cut(wire: Wire) -> bool:
    """The server has reset the connection, whatever stands in the buffers."""
    state = wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return state == 7  # closed


def test_who_vanishes_in_the_middle_leaves_nothing(
    meanwhile: Any, server: WholeServer, alice: HttpWire, source: str
) -> None:
    requests = [
        (alice.head("PUT", FILES + "vanished", {"Content-Length": 50_000}), b"x" * 49_999),
        (alice.head("PUT", CALENDAR + "vanished.ics", {"Transfer-Encoding": "chunked"}), b"400\r\n" + event()[:900]),
        (alice.head("REPORT", CALENDAR, {"Content-Length": 400}), b"<D:sync-coll"),
        (alice.head("GET", FILES + "long")[:-2], b""),
        (alice.head("PROPFIND", f"/dav/files/{ALICE}/", {"Depth": "1"}), b""),
    ]
    with meanwhile("web"):
        for number in range(100):
            with server.dav(None, source=source) as wire:
                head, body = requests[number % len(requests)]
                wire.send(head + body)
                if number % 2:  # a reset instead of an end
                    wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert alice.ask("GET", FILES + "vanished").status == 404
    assert alice.ask("GET", CALENDAR + "vanished.ics").status == 404


def test_a_thousand_connections(meanwhile: Any, server: WholeServer) -> None:
    """Of ten from each address; bob is served meanwhile, and they are sent away in time."""
    with meanwhile("web", growth=48 * MB):
        wires = [Wire(server.ports["http"], source=f"127.90.{n // 10}.1") for n in range(1000)]
        for number, wire in enumerate(wires):
            wire.send((b"GET /dav/ HTTP/1.1\r\nX: ", b"P", b"\x16\x03\x01", b"\r\n")[number % 4])
        for wire in wires:
            ends(wire)
            wire.close()


def test_connections_beyond_the_limit_are_turned_away(server: WholeServer, meanwhile: Any, source: str) -> None:
    with meanwhile("web"), ExitStack() as stack:
        wires = [stack.enter_context(server.dav(ALICE, source=source)) for _ in range(45)]
        answered = 0
        for wire in wires:
            with suppress(Closed):
                answered += wire.ask("PROPFIND", "/dav/", headers={"Depth": "0"}).status == 207
        assert answered == 30
    with server.dav(ALICE, source=source.replace("127.81.", "127.82.")) as other:
        assert other.ask("PROPFIND", "/dav/", headers={"Depth": "0"}).status == 207


# What belongs to others

OTHERS = (BOB, MALLORY)


@pytest.fixture(scope="module")
def guarded(server: WholeServer) -> WholeServer:
    """With an event, a card and a file of bob's and of mallory's."""
    for owner in OTHERS:
        with server.dav(owner, source="127.83.0.1") as client:
            secret = event(f"SUMMARY:{SECRET.decode()}", uid=SECRET.decode())
            assert put(client, f"/dav/calendars/{owner}/calendar/s.ics", secret).status == 201
            person = card(f"FN:{SECRET.decode()}", f"UID:{SECRET.decode()}")
            assert put(client, f"/dav/addressbooks/{owner}/contacts/s.vcf", person).status == 201
            assert client.ask("PUT", f"/dav/files/{owner}/s", SECRET).status == 201
    return server


def ways(owner: str) -> Iterator[str]:
    """Paths that might lead to the file of somebody else."""
    yield f"/dav/files/{owner}/s"
    for way in (
        "../{o}/s", "..%2f{o}/s", "%2e%2e/{o}/s", "..%2F{o}%2Fs", "%252e%252e/{o}/s", "..;/{o}/s", "..\\{o}\\s",
        ".%00./{o}/s", "x/../../{o}/s", "%c0%ae%c0%ae/{o}/s", "./../{o}/s", "../../files/{o}/s", "\u2025/{o}/s",
    ):  # fmt: skip
        yield f"/dav/files/{ALICE}/" + way.replace("\u2025", "%E2%80%A5").format(o=owner)
    for way in ("//dav/files/{o}/s", "/dav//files/{o}/s", "/DAV/files/{o}/s", "/dav/Files/{o}/s", "/dav/files/{O}/s",
                "/dav/./files/{o}/s", f"/dav/files/{ALICE}%00{{o}}/s", f"/dav/files/{ALICE},{{o}}/s",
                "/dav/files/{o}%40/s", "http://localhost/dav/files/{o}/s", "/dav;/files/{o}/s"):  # fmt: skip
        yield way.format(o=owner, O=owner.upper())


@pytest.mark.parametrize("owner", OTHERS)
def test_no_path_leads_to_what_is_others(guarded: WholeServer, alice: HttpWire, source: str, owner: str) -> None:
    assert alice.ask("PUT", FILES + "mine", b"mine").status in (201, 204)
    for way in ways(owner):
        statuses = {}
        for method in ("GET", "PROPFIND", "PUT", "DELETE", "LOCK", "PROPPATCH", "MKCOL", "REPORT", "POST"):
            with guarded.dav(ALICE, source=source) as client:
                answer = client.ask(method, way, b"x" if method == "PUT" else b"", {"Depth": "1"})
            statuses[method] = answer.status
            assert SECRET not in answer.body and 300 <= answer.status < 500, (method, way, answer)
        for method, ours, theirs in (("COPY", way, FILES + "got"), ("MOVE", way, FILES + "got"),
                                     ("COPY", FILES + "mine", way), ("MOVE", FILES + "mine", way)):  # fmt: skip
            with guarded.dav(ALICE, source=source) as client:
                answer = client.ask(method, ours, headers={"Destination": theirs, "Overwrite": "T"})
            assert answer.status >= 300, (method, ours, theirs, answer)
    assert alice.ask("GET", FILES + "got").status == 404
    with guarded.dav(owner, source=source) as client:
        assert client.ask("GET", f"/dav/files/{owner}/s").body == SECRET


@pytest.mark.parametrize("owner", OTHERS)
def test_no_report_and_no_header_tells_what_is_others(guarded: WholeServer, alice: HttpWire, owner: str) -> None:
    theirs = [
        f"/dav/calendars/{owner}/calendar/s.ics", f"/dav/calendars/{owner}/calendar/", f"/dav/calendars/{owner}/",
        f"/dav/addressbooks/{owner}/contacts/s.vcf", f"/dav/addressbooks/{owner}/contacts/", f"/dav/files/{owner}/s",
        f"http://localhost/dav/files/{owner}/s", f"/dav/calendars/{owner}/inbox/", f"/dav/calendars/{owner}/outbox/",
    ]  # fmt: skip
    hrefs = "".join(f"<D:href>{href}</D:href>" for href in theirs)
    prop = "<D:prop><D:getetag/><D:displayname/><C:calendar-data/><CR:address-data/></D:prop>"
    said = b""
    for collection, root in ((CALENDAR, "C:calendar-multiget"), (BOOK, "CR:addressbook-multiget")):
        said += alice.ask("REPORT", collection, f"<{root} {DECLARED}>{prop}{hrefs}</{root}>").body
    for there in theirs:
        for root in (
            "C:calendar-query",
            "C:free-busy-query",
            "CR:addressbook-query",
            "D:sync-collection",
            "D:expand-property",
        ):
            answer = alice.ask(
                "REPORT", there.removeprefix("http://localhost"), f"<{root} {DECLARED}>{prop}</{root}>", {"Depth": "1"}
            )
            assert answer.status in (400, 403, 404), (there, root, answer)
            said += answer.body
    with guarded.dav(owner, source="127.83.0.2") as client:
        token = client.sync(f"/dav/calendars/{owner}/calendar/")[1]
        etag = client.ask("GET", f"/dav/files/{owner}/s").headers["etag"]
    answer = alice.ask("REPORT", CALENDAR, f'<D:sync-collection xmlns:D="DAV:"><D:sync-token>{token}</D:sync-token>'
                       "<D:sync-level>1</D:sync-level><D:prop/></D:sync-collection>")  # fmt: skip
    said += answer.body
    if answer.status != 207:  # ids of collections are an account's own: the token may say something to alice's own
        assert answer.condition == "valid-sync-token"
    for condition in (f"(<{token}>)", f"([{etag}])"):
        tagged = alice.ask("PUT", FILES + "probe", b"x", {"If": f"<http://localhost/dav/files/{owner}/s> {condition}"})
        assert tagged.status in (403, 404, 412), tagged
    assert SECRET not in said
    for search in ("D:principal-property-search", "C:x"):
        alice.ask("REPORT", "/dav/principals/", f"<{search} {DECLARED}/>")


def test_of_other_tenants_nobody_learns_who_is_there(guarded: WholeServer, alice: HttpWire) -> None:
    """An account that exists and one that does not are told of alike."""
    for path in ("/dav/principals/%s/", "/dav/calendars/%s/", "/dav/calendars/%s/calendar/s.ics", "/dav/files/%s/s"):
        for method in ("PROPFIND", "GET", "PUT", "DELETE", "REPORT"):
            told = []
            for login in (MALLORY, "nobody@two.test", "mallory@nowhere.test"):
                answer = alice.ask(method, path % login, b"", {"Depth": "0"})
                told.append((answer.status, re.sub(rb"[a-z]+@[a-z.]+", b"", answer.body)))
            assert told[0] == told[1] == told[2] and told[0][0] in (404, 405, 400), (method, path, told)
