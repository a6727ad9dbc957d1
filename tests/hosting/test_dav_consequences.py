"""What scheduling is asked when objects are stored and removed, and what becomes of its answer (RFC 6638 §3.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from dav_town import ALICE, AnyBody, DavTown, new_dav_town

from hosting.dav.assembly import make_handler
from hosting.dav.handler import DavHandler
from hosting.dav.registry import Registry
from hosting.dav.scheduling import Change
from storage.collections.conditions import Violated
from storage.collections.values import Content, Kind, Stored
from storage.database.database import Transaction
from storage.errors import Conflict

CALENDAR = f"/dav/calendars/{ALICE}/calendar/"


class Meetings(AnyBody):
    """Whatever says so is a meeting."""

    def checked(self, _: object, __: object, name: str, data: bytes, media_type: str) -> Content:
        content = super().checked(_, __, name, data, media_type)
        return replace(content, is_scheduling=b"meeting" in data)


def meetings(registry: Registry) -> None:
    registry.bodies[Kind.CALENDAR] = Meetings()


@dataclass
class Noted:
    content: Content | None
    scheduler: Noting

    def within(self, _: Transaction, before: Stored | None, after: Stored | None) -> None:
        if self.scheduler.conflicts:
            self.scheduler.conflicts -= 1
            raise Conflict
        self.scheduler.stored.append((before and before.name, after and after.name))

    def committed(self) -> None:
        self.scheduler.committed += 1


@dataclass
class Noting:
    """A scheduler that writes a status into what it is shown."""

    changes: list[Change] = field(default_factory=list)
    stored: list[tuple[str | None, str | None]] = field(default_factory=list)
    committed: int = 0
    conflicts: int = 0

    def consequence(self, change: Change) -> Noted:
        self.changes.append(change)
        if change.content is not None and b"forbidden" in change.content.data:
            raise Violated("allowed-organizer-scheduling-object-change", "Not this.")
        told = change.content and replace(change.content, data=change.content.data + b";told")
        return Noted(told, self)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [meetings]) as town:
        yield town


@pytest.fixture
def scheduler() -> Noting:
    return Noting()


@pytest.fixture
def handler(town: DavTown, scheduler: Noting) -> DavHandler:
    return make_handler(replace(town.dav_services, scheduler=scheduler), [meetings])


def test_what_is_no_meeting_is_nobodys_business(town: DavTown, handler: DavHandler, scheduler: Noting) -> None:
    assert "ETag" in town.ask("PUT", CALENDAR + "plain.ics", "plain", handler=handler).headers
    assert town.ask("DELETE", CALENDAR + "plain.ics", handler=handler).status == 204
    assert scheduler.changes == []


def test_a_meeting(town: DavTown, handler: DavHandler, scheduler: Noting) -> None:
    """Stored with what scheduling wrote into it: then no ETag is told, but a Schedule-Tag (§3.2.10)."""
    path = CALENDAR + "m.ics"
    put = town.ask("PUT", path, "meeting 1", handler=handler)
    assert put.status == 201
    assert "ETag" not in put.headers
    got = town.ask("GET", path)
    assert got.body == b"meeting 1;told"
    assert got.headers["Schedule-Tag"] == put.headers["Schedule-Tag"]
    assert town.ask("PUT", path, "meeting 1\n2", handler=handler).status == 204
    assert town.ask("DELETE", path, handler=handler, schedule_reply="F").status == 204
    assert scheduler.stored[0] == (None, "m.ics")
    assert scheduler.stored[-1] == ("m.ics", None)
    last = scheduler.changes[-1]
    assert (last.content, last.reply, last.before_data) == (None, False, b"meeting 1\n2;told")
    assert scheduler.committed == len(scheduler.stored)


def test_what_it_forbids_is_not_stored(town: DavTown, handler: DavHandler, scheduler: Noting) -> None:
    refused = town.ask("PUT", CALENDAR + "f.ics", "meeting forbidden", handler=handler)
    assert (refused.status, refused.condition.split("}")[1]) == (403, "allowed-organizer-scheduling-object-change")
    assert town.ask("GET", CALENDAR + "f.ics").status == 404
    assert scheduler.committed == 0


def test_it_is_worked_out_anew_when_the_object_changed_meanwhile(
    town: DavTown, handler: DavHandler, scheduler: Noting
) -> None:
    scheduler.conflicts = 2
    assert town.ask("PUT", CALENDAR + "c.ics", "meeting c", handler=handler).status == 201
    assert (len(scheduler.changes), scheduler.committed) == (3, 1)
    scheduler.conflicts = 99
    assert town.ask("PUT", CALENDAR + "d.ics", "meeting d", handler=handler).status == 409
    assert town.ask("DELETE", CALENDAR + "c.ics", handler=handler).status == 409
    assert town.ask("GET", CALENDAR + "d.ics").status == 404


def test_schedule_tags_are_conditions(town: DavTown, handler: DavHandler) -> None:
    """§8.3."""
    path = CALENDAR + "t.ics"
    tag = town.ask("PUT", path, "meeting t", handler=handler).headers["Schedule-Tag"]
    assert town.ask("PUT", path, "meeting t", handler=handler, if_schedule_tag_match='"other"').status == 412
    assert town.ask("DELETE", path, handler=handler, if_schedule_tag_match='"other"').status == 412
    assert town.ask("PUT", path, "meeting t", handler=handler, if_schedule_tag_match=tag).status == 204


def test_a_calendar_that_goes_takes_its_meetings_with_it(town: DavTown, handler: DavHandler, scheduler: Noting) -> None:
    town.ask("PUT", CALENDAR + "x.ics", "meeting x", handler=handler)
    count = len(scheduler.changes)
    assert town.ask("DELETE", CALENDAR, handler=handler).status == 204
    gone = [change for change in scheduler.changes[count:] if change.content is None]
    assert "x.ics" in {change.name for change in gone}
