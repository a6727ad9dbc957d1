"""Programs of others against the whole server over HTTP: python-caldav and its tester of servers, vdirsyncer, khal,
litmus. Each has its own idea of what a calendar server is; what they need together is what users need.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from whole_server import WholeServer, until

pytestmark = pytest.mark.slow

ALICE, BOB = "alice@one.test", "bob@one.test"
PROGRAMS = Path(sys.executable).parent
PATIENCE = 120
START = datetime(2031, 3, 3, 9, 0, tzinfo=UTC)  # a Monday


def installed(name: str) -> str:
    """The path of a program of the test environment; skips where there is none."""
    found = shutil.which(name, path=f"{PROGRAMS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "HOME": str(cwd), "TZ": "UTC", "LC_ALL": "C.UTF-8", **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout[-3000:], done.stderr[-3000:])
    return done.stdout


@pytest.fixture(scope="module")
def url(whole_server: WholeServer) -> str:
    return f"http://localhost:{whole_server.ports['http']}/dav/"


@pytest.mark.parametrize("part", ["basic", "copymove", "props", "locks", "http"])
def test_litmus_over_http(part: str, whole_server: WholeServer, url: str, tmp_path: Path) -> None:
    at = f"{url}files/{ALICE}/"
    said = run(installed("litmus"), at, ALICE, whole_server.passwords[ALICE], cwd=tmp_path, TESTS=part)
    summary = re.search(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, (\d+) failed", said)
    assert summary is not None and (summary[1], summary[4]) == (part, "0"), said
    assert "WARNING" not in said


def test_nothing_is_broken_for_the_tester_of_servers(whole_server: WholeServer, url: str, tmp_path: Path) -> None:
    """caldav-server-tester, with a second account for what is about two."""
    program = installed("caldav-server-tester")
    if importlib.util.find_spec("vobject") is None:
        pytest.skip("vobject is not installed: the tester takes its absence for a fault of the server")
    sections = {
        name: {"caldav_url": url, "caldav_username": login, "caldav_password": whole_server.passwords[login]}
        for name, login in (("default", ALICE), ("two", BOB))
    }
    (tmp_path / "servers.json").write_text(json.dumps(sections))
    said = run(
        program, "--config-section", "default", "--config-section", "two", "--format", "json",
        cwd=tmp_path, CALDAV_CONFIG_FILE=str(tmp_path / "servers.json"),
    )  # fmt: skip
    found = {name: each["support"] for name, each in json.loads(said)["features"].items()}
    faults = {"broken", "ungraceful", "quirk", "fragile"}
    assert {name: support for name, support in found.items() if support in faults} == {}
    # What it tells beside the faults is what differs from all that there could be: these are there.
    assert {found.get(name, "full") for name in ("scheduling", "principal-search", "save-load", "search")} == {"full"}


# The library python-caldav


@pytest.fixture(scope="module")
def people(whole_server: WholeServer, url: str) -> Iterator[dict[str, Any]]:
    caldav = pytest.importorskip("caldav", reason="caldav is not installed")
    clients = {
        login: caldav.DAVClient(url, username=login, password=whole_server.passwords[login]) for login in (ALICE, BOB)
    }
    yield {login: client.principal() for login, client in clients.items()}
    for client in clients.values():
        client.close()


@pytest.fixture
def calendar(people: dict[str, Any]) -> Iterator[Any]:
    made = people[ALICE].make_calendar(name="Outside", supported_calendar_component_set=["VEVENT", "VTODO", "VJOURNAL"])
    yield made
    made.delete()


@pytest.mark.parametrize("path", ["/.well-known/caldav", "/", "/dav"])
def test_calendars_are_found_from_where_one_begins(path: str, whole_server: WholeServer) -> None:
    """Followed by niquests, a redirected PROPFIND comes without its body."""
    caldav = pytest.importorskip("caldav", reason="caldav is not installed")
    at = f"http://localhost:{whole_server.ports['http']}{path}"
    with caldav.DAVClient(at, username=ALICE, password=whole_server.passwords[ALICE]) as client:
        names = {each.get_display_name() for each in client.principal().get_calendars()}
    assert {"Calendar", "Tasks", "Notes"} <= names


def test_a_life_of_events(calendar: Any) -> None:
    event = calendar.add_event(dtstart=START, dtend=START + timedelta(hours=1), summary="Standup", uid="daily-1",
                               rrule={"FREQ": "DAILY", "COUNT": 5})  # fmt: skip
    assert calendar.get_display_name() == "Outside"
    week = {"start": START, "end": START + timedelta(days=7)}
    assert [each.component["SUMMARY"] for each in calendar.search(event=True, expand=True, **week)] == ["Standup"] * 5
    # One instance is moved; another is only looked for where it is now.
    third = calendar.search(event=True, expand=True, **week)[2]
    with third.edit_icalendar_instance():
        third.component["SUMMARY"] = "Standup, late"
    third.save(all_recurrences=False)
    event.load()
    assert len(event.icalendar_instance.walk("VEVENT")) == 2
    found = calendar.search(event=True, expand=True, **week)
    assert sorted(str(each.component["SUMMARY"]) for each in found) == ["Standup"] * 4 + ["Standup, late"]
    assert [each.id for each in calendar.search(event=True, summary="late")] == ["daily-1"]
    busy = calendar.freebusy_request(START, START + timedelta(days=2)).icalendar_instance.walk("VFREEBUSY")[0]
    assert "20310303T090000Z" in busy.to_ical().decode()
    assert "20310304T090000Z" in busy.to_ical().decode()
    event.delete()
    assert calendar.get_events() == []


def test_a_life_of_tasks_and_journals(calendar: Any) -> None:
    task = calendar.add_todo(summary="Sweep", due=START, uid="sweep")
    again = calendar.add_todo(summary="Water", dtstart=START, due=START + timedelta(hours=1), uid="water",
                              rrule={"FREQ": "WEEKLY"})  # fmt: skip
    assert {each.id for each in calendar.get_todos()} == {"sweep", "water"}
    task.complete()
    again.complete(handle_rrule=True)
    assert [each.id for each in calendar.get_todos()] == ["water"]
    assert {each.id for each in calendar.get_todos(include_completed=True)} >= {"sweep", "water"}
    task.uncomplete()
    assert {each.id for each in calendar.get_todos()} == {"sweep", "water"}
    calendar.add_journal(summary="Diary", dtstart=date(2031, 3, 3), description="Rain.", uid="diary")
    assert [each.component["DESCRIPTION"] for each in calendar.get_journals()] == ["Rain."]


def test_sync_tokens_tell_what_changed(calendar: Any) -> None:
    event = calendar.add_event(dtstart=START, dtend=START + timedelta(hours=1), summary="One", uid="one")
    known = calendar.get_objects_by_sync_token(load_objects=True)
    assert [each.id for each in known] == ["one"]
    assert len(list(calendar.get_objects_by_sync_token(sync_token=known.sync_token))) == 0
    calendar.add_event(dtstart=START, dtend=START + timedelta(hours=1), summary="Two", uid="two")
    changed = calendar.get_objects_by_sync_token(sync_token=known.sync_token, load_objects=True)
    assert [each.id for each in changed] == ["two"]
    event.delete()
    added, removed = known.sync()
    assert ([each.id for each in added], [str(each.url) for each in removed]) == (["two"], [str(event.url)])


def test_two_accounts_schedule(people: dict[str, Any]) -> None:
    """An invitation, its answer, and busy times asked for across accounts."""
    mine, theirs = (people[each].calendar(cal_id="calendar") for each in (ALICE, BOB))
    me, other = (people[each].get_vcal_address() for each in (ALICE, BOB))
    meeting = mine.save_with_invites(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:met-1\r\nDTSTAMP:20310101T000000Z\r\n"
        "DTSTART:20310310T100000Z\r\nDTEND:20310310T110000Z\r\nSUMMARY:Planning\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n",
        [me, other],
    )
    invited = until(lambda: next(iter(theirs.search(event=True, uid="met-1")), None), "the invitation")
    assert "Planning" in invited.data
    items = people[BOB].schedule_inbox().get_items()
    item = next(each for each in items if each.is_invite_request() and "met-1" in each.data)
    item.accept_invite(calendar=theirs)
    meeting.load()
    assert "PARTSTAT=ACCEPTED" in meeting.data.replace("\r\n ", "")
    told = people[ALICE].freebusy_request(START, START + timedelta(days=10), [people[BOB]])
    assert "20310310T100000Z" in told[str(other)].data
    meeting.delete()
    assert all("STATUS:CANCELLED" in each.data for each in theirs.search(event=True, uid="met-1"))


# vdirsyncer, and khal on what it wrote

_VDIRSYNCER = """
[general]
status_path = "{folder}/status"

[pair work]
a = "here"
b = "there"
collections = ["calendar"]
conflict_resolution = "b wins"

[pair people]
a = "cards"
b = "book"
collections = ["contacts"]
conflict_resolution = "a wins"

[storage here]
type = "filesystem"
path = "{folder}/calendars"
fileext = ".ics"

[storage there]
type = "caldav"
url = "{url}"
username = "{login}"
password = "{password}"

[storage cards]
type = "filesystem"
path = "{folder}/cards"
fileext = ".vcf"

[storage book]
type = "carddav"
url = "{url}"
username = "{login}"
password = "{password}"
"""
_KHAL = """
[calendars]
[[work]]
path = {folder}/calendars/calendar
[locale]
timeformat = %H:%M
dateformat = %Y-%m-%d
longdateformat = %Y-%m-%d
datetimeformat = %Y-%m-%d %H:%M
longdatetimeformat = %Y-%m-%d %H:%M
local_timezone = UTC
default_timezone = UTC
[sqlite]
path = {folder}/khal.db
"""


def event(uid: str, summary: str) -> str:
    return (
        f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20310101T000000Z\r\n"
        f"DTSTART:20310401T100000Z\r\nDTEND:20310401T110000Z\r\nSUMMARY:{summary}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    )


def card(uid: str, name: str) -> str:
    return f"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:{uid}\r\nFN:{name}\r\nN:{name};;;;\r\nEND:VCARD\r\n"


def test_vdirsyncer_keeps_folders_and_the_server_alike(whole_server: WholeServer, url: str, tmp_path: Path) -> None:
    """Both ways, with a conflict and removals; khal reads and writes the folder."""
    vdirsyncer, khal = installed("vdirsyncer"), installed("khal")
    values = {"folder": tmp_path, "url": url, "login": BOB, "password": whole_server.passwords[BOB]}
    (tmp_path / "vdirsyncer.ini").write_text(_VDIRSYNCER.format(**values))
    (tmp_path / "khal.ini").write_text(_KHAL.format(**values))
    events, cards = tmp_path / "calendars" / "calendar", tmp_path / "cards" / "contacts"
    events.mkdir(parents=True)
    cards.mkdir(parents=True)

    def sync() -> None:
        run(vdirsyncer, "-c", "vdirsyncer.ini", "sync", cwd=tmp_path)

    def on_server(method: str, path: str, body: str = "", media_type: str = "") -> str:
        requests = pytest.importorskip("niquests", reason="niquests (of caldav) is not installed")
        answer = requests.request(
            method, f"{url}{path}", data=body.encode(), auth=(BOB, values["password"]),
            headers={"Content-Type": media_type} if media_type else {},
        )  # fmt: skip
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        return str(answer.text)

    run(vdirsyncer, "-c", "vdirsyncer.ini", "discover", cwd=tmp_path)
    (events / "here.ics").write_text(event("here", "Made here"))
    (cards / "here.vcf").write_text(card("c-here", "Hera"))
    on_server("PUT", f"calendars/{BOB}/calendar/there.ics", event("there", "Made there"), "text/calendar")
    on_server("PUT", f"addressbooks/{BOB}/contacts/c-there.vcf", card("c-there", "Theo"), "text/vcard")
    sync()
    assert "Made there" in (events / "there.ics").read_text()
    assert "Theo" in (cards / "c-there.vcf").read_text()
    assert "Made here" in on_server("GET", f"calendars/{BOB}/calendar/")
    assert "Hera" in on_server("GET", f"addressbooks/{BOB}/contacts/")

    (events / "there.ics").write_text(event("there", "Changed here"))
    on_server("PUT", f"calendars/{BOB}/calendar/there.ics", event("there", "Changed there"), "text/calendar")
    (cards / "c-there.vcf").write_text(card("c-there", "Theodor"))
    on_server("PUT", f"addressbooks/{BOB}/contacts/c-there.vcf", card("c-there", "Thea"), "text/vcard")
    sync()
    assert "Changed there" in (events / "there.ics").read_text()
    assert "Theodor" in on_server("GET", f"addressbooks/{BOB}/contacts/c-there.vcf")

    listed = run(khal, "-c", "khal.ini", "list", "2031-04-01", "2031-04-02", cwd=tmp_path)
    assert "Made here" in listed and "Changed there" in listed
    run(khal, "-c", "khal.ini", "new", "-a", "work", "2031-04-02", "12:00", "13:00", "From khal", cwd=tmp_path)
    (events / "here.ics").unlink()
    on_server("DELETE", f"addressbooks/{BOB}/contacts/c-there.vcf")
    sync()
    whole = on_server("GET", f"calendars/{BOB}/calendar/")
    assert "From khal" in whole and "Made here" not in whole
    assert sorted(each.name for each in cards.iterdir()) == ["here.vcf"]
