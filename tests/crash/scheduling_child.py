"""Invites, answers and cancels over DAV on real storage, and dies at each step: `python scheduling_child.py FOLDER`.

It imports everything once and opens nothing itself: each try is a fork, on a copy of the same data. The steps are those
of audit_driver.py. Prints a line of JSON for each try: how it ended, what a request was told if it was, and what all
concerned have once the jobs role has looked after it, when nobody's claims count any more.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from audit_driver import dying_at, in_fork

from hosting.auth.signin import Principal
from hosting.config import Config
from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.request import DavRequest
from hosting.dav.services import DavServices
from hosting.scheduling.assembly import make_scheduling
from hosting.scheduling_round import SchedulingRound
from storage.check import check_installation
from storage.checks.finding import Severity
from storage.clock import FixedClock
from storage.collections.values import Kind
from storage.directory.provisioning import Provisioning
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master, read_master_file, write_master_file
from storage.keys.source import LocalKeys
from storage.mail.account import Account
from storage.values import AccountId, Domain, EmailAddress, TenantId

TENANT = TenantId(1)
PEOPLE = {"alice@one.test": AccountId(1), "bob@one.test": AccountId(2)}
ALICE, BOB = PEOPLE
CLAIMS = 3600  # seconds after which nobody's claim counts
MEETING = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//c//EN\r\nBEGIN:VEVENT\r\nUID:meeting\r\nDTSTAMP:20250101T000000Z\r\n"
    b"DTSTART:20300101T100000Z\r\nDURATION:PT1H\r\nORGANIZER:mailto:alice@one.test\r\n"
    b"ATTENDEE:mailto:alice@one.test\r\nATTENDEE:mailto:bob@one.test\r\nATTENDEE:mailto:far@far.test\r\n"
    b"END:VEVENT\r\nEND:VCALENDAR\r\n"
)


class Place:
    """The installation, and DAV over it."""

    def __init__(self, data: Path, later: int = 0) -> None:
        self.clock = FixedClock(time.time() + later)
        keys = LocalKeys(KeyStore(data / "keys", read_master_file(data / "master"), self.clock))
        self.installation = Installation(data, keys, self.clock)
        config = replace(Config())
        parts = make_scheduling(self.installation, config)
        self.round = SchedulingRound(self.installation, config, parts)
        services = DavServices(self.installation, self.clock, scheduler=parts.scheduler)
        self.handler = make_handler(services, [calendars.register])

    def ask(self, method: str, path: str, login: str, body: bytes = b"") -> int:
        principal = Principal(TENANT, PEOPLE[login], login, "password", 1, 1, 0, 0)
        headers = {"host": "x", "content-type": "text/calendar"}
        path = f"/dav/calendars/{login}/calendar/{path}"
        return self.handler.handle(DavRequest(method, path, headers, body, principal, "192.0.2.1")).status

    def objects(self, login: str, kind: Kind = Kind.CALENDAR, name: str = "calendar") -> dict[str, bytes]:
        with self.installation.account(TENANT, PEOPLE[login]) as account:
            return _objects(account, kind, name)

    def close(self) -> None:
        self.installation.close()


def _objects(account: Account, kind: Kind, name: str) -> dict[str, bytes]:
    place = account.collections.find(kind, name)
    return {each.name: data for each, data in account.objects.read_many(account.objects.list(place.id))}


def fill(data: Path, *, invited: bool) -> None:
    data.mkdir()
    write_master_file(data / "master", Master.generate())
    clock = FixedClock(time.time())
    keys = LocalKeys(KeyStore.create(data / "keys", read_master_file(data / "master"), clock))
    Installation.create(data, keys, clock)
    installation = Installation(data, keys, clock)
    provisioning = Provisioning(installation)
    provisioning.create_tenant("one", "one")
    installation.control.add_domain(TENANT, Domain.parse("one.test"))
    installation.control.verify_domain(Domain.parse("one.test"), None)
    for login in PEOPLE:
        provisioning.create_account(TENANT, EmailAddress.parse(login))
    installation.close()
    if invited:
        place = Place(data)
        assert invite(place) == 201
        place.close()


# What is asked


def invite(place: Place) -> int:
    return place.ask("PUT", "m.ics", ALICE, MEETING)


def accept(place: Place) -> int:
    [(name, data)] = place.objects(BOB).items()
    data = re.sub(rb"ATTENDEE[^:]*:mailto:bob", b"ATTENDEE;PARTSTAT=ACCEPTED:mailto:bob", data.replace(b"\r\n ", b""))
    return place.ask("PUT", name, BOB, data)


def cancel(place: Place) -> int:
    return place.ask("DELETE", "m.ics", ALICE)


WAYS: dict[str, Callable[[Place], int]] = {each.__name__: each for each in (invite, accept, cancel)}


def seen(data: Path) -> dict[str, Any]:
    """What there is when the jobs role has done its part."""
    place = Place(data, CLAIMS)
    for account_id in PEOPLE.values():
        place.round.work(TENANT, account_id)
    place.round.again()
    found = {
        "alice": [_told(each) for each in place.objects(ALICE).values()],
        "bob": [_told(each) for each in place.objects(BOB).values()],
        "inbox of alice": [_told(each) for each in place.objects(ALICE, Kind.INBOX, "inbox").values()],
        "inbox of bob": [_told(each) for each in place.objects(BOB, Kind.INBOX, "inbox").values()],
        "mail": len(list(place.installation.queue.entries())),
        "wrong": [each.text for each in check_installation(place.installation) if each.severity is not Severity.NOTE],
    }
    place.close()
    return found


def _told(data: bytes) -> str:
    """In a word: the method, or whether bob comes, or that it is cancelled."""
    data = data.replace(b"\r\n ", b"")
    method = re.search(rb"METHOD:([A-Z]+)", data)
    if method is not None:
        return method[1].decode()
    if b"STATUS:CANCELLED" in data:
        return "cancelled"
    return "accepted" if re.search(rb"PARTSTAT=ACCEPTED[^\r]*:mailto:bob", data) else "invited"


def main(folder: Path) -> None:
    for way, do in WAYS.items():
        template = folder / f"before {way}"
        assert in_fork(lambda template=template, way=way: fill(template, invited=way != "invite"))[0] == 0
        for step in range(1000):
            data = folder / "data"
            shutil.copytree(template, data)
            answer = folder / "answer"
            answer.unlink(missing_ok=True)

            def attempt(data: Path = data, step: int = step, do: Callable[[Place], int] = do) -> None:
                place = Place(data)
                dying_at(step)
                status = do(place)
                (folder / "answer").write_text(str(status))
                os._exit(0)

            status, _ = in_fork(attempt)
            told, found = in_fork(lambda data=data: seen(data))
            assert told == 0, (way, step)
            answered = int(answer.read_text()) if answer.exists() else 0
            print(json.dumps({"way": way, "status": status, "answered": answered, **found}), flush=True)
            shutil.rmtree(data)
            if status == 0:
                break


if __name__ == "__main__":
    main(Path(sys.argv[1]))
