"""Seeded fuzzer of everything below /dav/: real requests, damaged in path, headers and body, one after the other.

    python scripts/fuzz/dav.py --seed 1 --seconds 60

Played on DavHandler over real databases, with calendars, contacts, files, locks, scheduling and shared calendars. What
must hold: each request is answered, never by 500 or 503; every answer in XML can be parsed; a refused object comes with
its precondition; what is stored is given back octet for octet under its ETag, and reports can tell of it; nothing that
belongs to others, or is private in what they share, is in any answer, and it is there unchanged in the end.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

# ruff: noqa: E402 - the way to the packages is made first

from __future__ import annotations

import argparse
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote
from xml.etree import ElementTree

# A file beside this one is called as a package is that storage uses: this folder must not be looked into.
sys.path = [one for one in sys.path if Path(one or ".").resolve() != Path(__file__).resolve().parent]
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / folder) for folder in ("", "tests/support")]

from dav_house import Answer, House

from hosting.config import Config
from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.contacts import extension as contacts
from hosting.dav.services import DavServices
from hosting.dav.sharing import subscribed
from hosting.dav.sharing.extension import Sharing
from hosting.dav.sharing.shares import DirectoryShares
from hosting.scheduling.assembly import make_scheduling
from hosting.scheduling.outbox import Outbox
from scripts.fuzz.dav_seeds import (
    ADA,
    BOBS,
    BODIES,
    BOOK,
    CALENDAR,
    COLLECTIONS,
    EVES,
    FILES,
    HEADERS,
    MEETING,
    METHODS,
    NAMES,
    OURS,
    SECRET,
    STANDARD,
    TEAM,
    TEXTS,
    TRICKS,
    doc,
)
from scripts.fuzz.icalendar import random_object
from scripts.fuzz.vcard import random_file as random_card


class Target:
    """ada sends; bob, of her tenant, and eve, of another, have something of their own, and bob shares some of it."""

    def __init__(self, data: Path) -> None:
        self.house = House(data)
        scheduling = make_scheduling(self.house.installation, replace(Config()))
        shares = DirectoryShares(self.house.installation)
        services = DavServices(self.house.installation, self.house.clock, shares=shares, scheduler=scheduling.scheduler)
        extensions: list[Callable[..., None]] = [calendars.register, contacts.register, Sharing(shares).register]
        extensions += [Outbox(scheduling.people).register, subscribed.register]
        self.house.handler = make_handler(services, extensions)
        secret = re.sub(rb"(ORGANIZER|ATTENDEE).*\r\n", b"", MEETING)
        private = secret.replace("SUMMARY:Grüße".encode(), b"CLASS:PRIVATE\r\nSUMMARY:" + SECRET)
        for path, may in ((TEAM, "read"), (OURS, "read-write")):
            assert self.house.ask("MKCALENDAR", path, who="bob").status == 201
            sharee = f"<D:sharee><D:href>mailto:{ADA}</D:href><D:share-access><D:{may}/></D:share-access></D:sharee>"
            asked = doc("D:share-resource", sharee)
            assert self.house.ask("POST", path, asked, who="bob", content_type="text/xml").status == 200
        self.theirs = {
            BOBS: ("bob", secret.replace(b"UID:m", b"UID:" + SECRET)),
            EVES: ("eve", secret.replace(b"UID:m", b"UID:" + SECRET)),
            f"{TEAM}p.ics": ("bob", private.replace(b"UID:m", b"UID:private")),
            f"{TEAM}a.ics": ("bob", secret.replace(b"UID:m", b"UID:shared")),
        }
        ours = {f"{OURS}p.ics": ("bob", private), f"{OURS}a.ics": ("bob", secret.replace(b"UID:m", b"UID:ours"))}
        for path, (who, octets) in (self.theirs | ours).items():
            assert self.house.ask("PUT", path, octets, who=who, content_type="text/calendar").status == 201, path
        self.shared = [TEAM, OURS]
        listed = self.house.ask("PROPFIND", f"/dav/calendars/{ADA}/", depth="1").xml.children
        hrefs = [unquote(each.content("{DAV:}href") or "") for each in listed]
        self.shared += [each for each in hrefs if each.split("/")[-2] not in STANDARD]
        assert len(self.shared) == 4, self.shared

    def ask(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        return self.house.ask(method, path, body, **(headers or {}))

    def restore(self) -> None:
        """What was locked, moved or removed is there again."""
        self.house.clock.advance(4000)
        kind = "<D:resourcetype><D:collection/><CR:addressbook/></D:resourcetype>"
        book = doc("D:mkcol", f"<D:set><D:prop>{kind}</D:prop></D:set>")
        for method, path, body in (
            ("MKCALENDAR", CALENDAR, ""),
            ("MKCALENDAR", f"/dav/calendars/{ADA}/tasks/", ""),
            ("MKCALENDAR", f"/dav/calendars/{ADA}/r&d/", ""),
            ("MKCOL", BOOK, book),
            ("MKCOL", f"{FILES}folder/", ""),
        ):
            assert self.ask(method, path, body.encode()).status in (201, 403, 405), path

    def verify(self) -> None:
        """What others have is as it was."""
        for path, (who, octets) in self.theirs.items():
            assert self.house.ask("GET", path, who=who).body == octets, path


def random_path(chance: random.Random, shared: list[str]) -> str:
    rare = [f"/dav/calendars/{ADA}/r&d/", *shared]
    path = chance.choice([CALENDAR, BOOK, FILES, chance.choice(COLLECTIONS), chance.choice(rare)])
    if chance.random() < 0.75:
        path += quote(chance.choice(NAMES))
    for _ in range(chance.choice([*[0] * 12, 1, 3])):
        trick = chance.choice(TRICKS)
        if chance.random() < 0.5:
            at = chance.randrange(5, len(path) + 1)
            path = path[:at] + trick + path[at:]
        else:
            path = path.rstrip("/") + "/" + trick
    return path if chance.random() > 0.02 else chance.choice([BOBS, EVES, "/", "", "/davx", "*", "http://x/dav/"])


def random_reference(chance: random.Random, shared: list[str]) -> str:
    """What Destination says."""
    prefix = ["", "https://dav.acme.test", "http://dav.acme.test:81", "//x", "https://other.example", "https://["]
    return chance.choices(prefix, [9, 9, 2, 1, 1, 1])[0] + random_path(chance, shared)


def damaged_xml(chance: random.Random, xml: str) -> bytes:
    """Elements doubled, taken out, put into each other; values changed; octets changed."""
    for _ in range(chance.choice([0, 0, 1, 1, 2, 4])):
        spans = [each.span() for each in re.finditer(r"<([\w:-]+)[^<>]*?(?:/>|>[^<]*</\1>)", xml)]
        values = [each.span(1) for each in re.finditer(r"""(?:=['"]|>)([^<>'"]*)(?=['"<])""", xml)]
        way = chance.randrange(6)
        if way == 0 and values:
            start, end = chance.choice(values)
            xml = xml[:start] + chance.choice(TEXTS) + xml[end:]
        elif way == 1 and spans:
            start, end = chance.choice(spans)
            xml = xml[:start] + xml[end:]
        elif way == 2 and spans:
            start, end = chance.choice(spans)
            xml = xml[:start] + xml[start:end] * chance.choice([2, 3, 600]) + xml[end:]
        elif way == 3 and spans:
            (start, end), (there, _) = chance.choice(spans), chance.choice(spans)
            xml = xml[:there] + xml[start:end] + xml[there:]
        elif way == 4:
            xml = re.sub(r"\b(C|D|CR|CS):", lambda m: chance.choice([m[0]] * 9 + ["D:", "C:", "CR:"]), xml)
        elif spans:
            start, end = chance.choice(spans)
            depth = chance.choice([3, 70])
            xml = xml[:start] + "<D:prop>" * depth + xml[start:end] + "</D:prop>" * depth + xml[end:]
    octets = xml.encode("utf-8", "surrogatepass")
    if chance.random() < 0.1:
        at = chance.randrange(len(octets) + 1)
        octets = octets[:at] + chance.choice([b"\xff", b"<", b"\0", b"<!DOCTYPE a>", b"<?x?>", b"&x;"]) + octets[at:]
    if chance.random() < 0.05:
        octets = octets[: chance.randrange(len(octets) + 1)]
    if chance.random() < 0.03:
        octets = chance.choice([xml.encode("utf-16", "replace"), b"\xef\xbb\xbf" + octets,
                                b'<?xml version="1.0" encoding="utf-7"?>' + octets])  # fmt: skip
    return octets


def random_octets(chance: random.Random) -> bytes:
    """A body for PUT: of an object, often damaged."""
    way = chance.random()
    if way < 0.4:
        return random_object(chance)
    if way < 0.65:
        return random_card(chance)
    if way < 0.7:
        return chance.randbytes(chance.choice([0, 1, 300, 70_000]))
    lines = MEETING.split(b"\r\n")
    for _ in range(chance.choice([0, 1, 2, 5])):
        at = chance.randrange(len(lines))
        other = chance.choice(lines)
        way = chance.random()
        if way < 0.3:
            del lines[at : at + 1]
        elif way < 0.6:
            lines.insert(at, other)
        else:
            name, _, value = other.partition(b":")
            new = chance.choice(TEXTS).encode("utf-8", "surrogatepass")
            lines.insert(at, chance.choice([name + b":" + new, name + b";X=" + new + b":" + value, new]))
        lines = lines or [b""]
    uid = chance.choice([b"m", b"m", b"n", b"%d" % chance.randrange(99)])
    return b"\r\n".join(lines).replace(b"UID:m", b"UID:" + uid)


def random_request(chance: random.Random, shared: list[str]) -> tuple[str, str, bytes, dict[str, str]]:
    method = chance.choice(METHODS)
    path = random_path(chance, shared)
    names = chance.sample(list(HEADERS), chance.choice([*[0] * 8, 1, 2, 6]))
    headers = {name: chance.choice(HEADERS[name]) for name in names}
    if method in ("COPY", "MOVE"):
        headers["destination"] = random_reference(chance, shared)
    if method == "PUT":
        body = random_octets(chance)
        headers.setdefault("content-type", "text/vcard" if b"VCARD" in body[:40] else "text/calendar")
    else:
        body = damaged_xml(chance, chance.choice(BODIES.get(method, ["", "<x/>"])))
    if method == "REPORT" and chance.random() < 0.7:
        kind = b"addressbook" in body[:30]
        places = [CALENDAR, CALENDAR, *shared, f"/dav/calendars/{ADA}/r&d/", f"/dav/calendars/{ADA}/"]
        path = BOOK if kind else chance.choice(places)
        headers.pop("host", None)
    elif method == "POST" and chance.random() < 0.7:
        path = chance.choice([f"/dav/calendars/{ADA}/outbox/", CALENDAR])
        headers["content-type"] = "text/calendar" if b"VFREEBUSY" in body else "application/xml"
    return method, path, body, headers


def check(target: Target, method: str, path: str, body: bytes, headers: dict[str, str]) -> int:
    """Asks, and asserts all that must hold of the answer; its status."""
    told = target.ask(method, path, body, headers)
    assert 200 <= told.status < 600 and told.status not in (500, 503), told
    assert SECRET not in told.body, told
    assert all(value.isprintable() for value in told.headers.values()), told.headers
    if method != "HEAD" and "content-length" in told.headers:
        assert told.headers["content-length"] == str(len(told.body)), told
    if "xml" in told.headers.get("content-type", "") and told.body and method != "GET":
        _check_xml(told)
    if method == "PUT":
        _check_put(target, path, body, told)
    return told.status


def _check_xml(told: Answer) -> None:
    root = ElementTree.fromstring(told.body)
    if told.status == 207:
        assert root.tag == "{DAV:}multistatus", told
        for status in root.iter("{DAV:}status"):
            assert "500" not in (status.text or "") and "503" not in (status.text or ""), told
        for response in root.iter("{DAV:}response"):
            assert response.find("{DAV:}href") is not None, told


def _check_put(target: Target, path: str, body: bytes, told: Answer) -> None:
    if told.status in (403, 409) and body and (path.startswith((CALENDAR, BOOK))):
        assert len(told.xml.children) and told.xml.children[0].name.startswith("{"), told
    if told.status not in (201, 204):
        return
    got = target.ask("GET", path)
    assert got.status == 200, (told, got)
    if "etag" in told.headers and "preference-applied" not in told.headers:
        assert (got.headers["etag"], got.body) == (told.headers["etag"], body), (told, got)
    collection = path.rpartition("/")[0] + "/"
    found = target.ask("PROPFIND", path, headers={"depth": "0"})
    assert found.status == 207, found
    if collection in (CALENDAR, BOOK):
        root = "C:calendar-multiget" if collection == CALENDAR else "CR:addressbook-multiget"
        data = "C:calendar-data" if collection == CALENDAR else "CR:address-data"
        query = doc(root, f"<D:prop><D:getetag/><{data}/></D:prop><D:href>{path.replace('&', '&amp;')}</D:href>")
        report = target.ask("REPORT", collection, query.encode())
        assert report.status == 207 and list(report.statuses.values()) == [200], report
        ElementTree.fromstring(report.body)


def run(data: Path, seed: int, count: int | None = None, seconds: float | None = None) -> dict[int, int]:
    """Plays `count` requests, or as many as fit into `seconds`; how often which status was answered."""
    end = None if seconds is None else time.monotonic() + seconds
    statuses: dict[int, int] = {}
    target = Target(data)
    try:
        number = 0
        while (count is None or number < count) and (end is None or time.monotonic() < end):
            request = random_request(random.Random(f"{seed}.{number}"), target.shared)
            begun = time.monotonic()
            if number % 40 == 0:
                target.restore()
            try:
                status = check(target, *request)
            except Exception:
                print(f"seed {seed}, request {number}: {request!r}"[:20_000])
                raise
            if time.monotonic() - begun > 5:
                print(f"seed {seed}, request {number} took {time.monotonic() - begun:.1f} s: {request!r}"[:5000])
            statuses[status] = statuses.get(status, 0) + 1
            number += 1
        target.verify()
    finally:
        target.house.close()
    return statuses


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cleanmail-fuzz-") as folder:
        try:
            statuses = run(Path(folder), options.seed, seconds=options.seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            print(f"does not hold: {error!r}"[:20_000])
            return 1
    told = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    print(f"{sum(statuses.values())} requests, seed {options.seed}: everything held ({told})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
