"""Seeded fuzzer of the iCalendar reader: objects as clients write them, strange ones, and octets changed at random.

    python scripts/fuzz/icalendar.py --seed 1 --seconds 60

What must hold of every object: it is read or refused with a sentence and a precondition, nothing else is raised; the
octets of its lines and components cover the data in order; what is written is read as the same; the index of times
answers as the object itself does, or does not know; instances come in order and within the limits.
The first thing that does not hold is printed with its seed, and the exit status is 1.
"""

# ruff: noqa: E402 - the path first
from __future__ import annotations

import argparse
import random
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
# This file is called as a package is that storage uses: its folder must not be looked into.
sys.path[1:] = [one for one in sys.path[1:] if Path(one or ".").resolve() != Path(__file__).resolve().parent]

from storage.collections.conditions import Violated
from storage.collections.values import ENDLESS, Times
from storage.icalendar.checked import CalendarObject, checked
from storage.icalendar.content import content_of
from storage.icalendar.contentlines import BOM, Component, Malformed, read, write
from storage.icalendar.instances import BEGINNING, alarm_times, overlapping, packed_instances
from storage.icalendar.limits import CalendarLimits
from storage.icalendar.recurrence import instances
from storage.icalendar.rules import TooMuch
from storage.icalendar.values import UTC
from storage.icalendar.zones import named

LIMITS = CalendarLimits(max_instances=2_000, max_attendees=5, max_steps=8_000)

ZONES = [
    "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "/freeassociation.sourceforge.net/Europe/Zurich",
    "W. Europe Standard Time", "Own", "EST", "Nowhere/Else", "UTC", "",
]  # fmt: skip
RULES = [
    "FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,WE,FR", "FREQ=MONTHLY;BYDAY=-1SU", "FREQ=YEARLY", "FREQ=DAILY;COUNT=5",
    "FREQ=WEEKLY;UNTIL=20270101", "FREQ=DAILY;UNTIL=20260401T120000Z", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29",
    "FREQ=SECONDLY;BYMONTH=2;BYMONTHDAY=30", "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1", "FREQ=HOURLY;COUNT=30",
    "FREQ=YEARLY;BYWEEKNO=53;BYDAY=SA", "FREQ=YEARLY;BYYEARDAY=-1,366", "FREQ=MINUTELY", "FREQ=", "FREQ=DAILY;X",
    "RSCALE=GREGORIAN;FREQ=MONTHLY;SKIP=FORWARD;BYMONTHDAY=31", "RSCALE=HEBREW;FREQ=YEARLY", "FREQ=DAILY;COUNT=9999",
]  # fmt: skip
DURATIONS = ["PT1H", "P1D", "P1W", "PT0S", "-PT15M", "P1DT2H", "P", "PT", "P400D", "P9999999999D"]
LINES = [
    "SUMMARY:Text with \\, and \\n", "SUMMARY;LANGUAGE=de:Grüße 😀 " + "x" * 90, "X-MOZ-LASTACK:20260101T000000Z",
    'ATTENDEE;CN="Doe, \\"Jane\\"";PARTSTAT=ACCEPTED:mailto:jane@example.com', "ORGANIZER:mailto:jane@example.com",
    "ORGANIZER:mailto:jim@example.com", "SEQUENCE:3", "CREATED:00001231T000000Z", "COMPLETED:20260310T090000Z",
    "CREATED:20260210T090000Z", "CLASS:PRIVATE", "ATTENDEE:mailto:a@b", "X-LIST;A=1,2,\"3,4\";B=^n^'^^:v", "junk", ":x",
    "FREEBUSY:20260301T100000Z/PT1H,20260302T100000Z/20260302T120000Z", "DURATION:PT2H", "SUMMARY:\ufffe", "item.X:1",
]  # fmt: skip
OWN = (
    "BEGIN:VTIMEZONE\r\nTZID:Own\r\nBEGIN:STANDARD\r\nDTSTART:16010101T030000\r\nTZOFFSETFROM:+0230\r\n"
    "TZOFFSETTO:+0130\r\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\r\nEND:STANDARD\r\nBEGIN:DAYLIGHT\r\n"
    "DTSTART:16010101T020000\r\nTZOFFSETFROM:+0130\r\nTZOFFSETTO:+0230\r\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r\n"
    "END:DAYLIGHT\r\nEND:VTIMEZONE\r\n"
)


def _time(chance: random.Random, name: str, form: str, at: datetime) -> str:
    if form == "DATE":
        return f"{name};VALUE=DATE:{at:%Y%m%d}"
    if form == "UTC":
        return f"{name}:{at:%Y%m%dT%H%M%SZ}"
    if form == "FLOATING":
        return f"{name}:{at:%Y%m%dT%H%M%S}"
    return f"{name};TZID={form}:{at:%Y%m%dT%H%M%S}"


def random_object(chance: random.Random) -> bytes:
    """An object of some kind, in half of the cases with something that does not belong there."""
    kind = chance.choice(["VEVENT"] * 4 + ["VTODO", "VTODO", "VJOURNAL", "VFREEBUSY", "VAVAILABILITY"])
    form = chance.choice(["DATE", "UTC", "FLOATING", *ZONES[:6], chance.choice(ZONES)])
    start = datetime(2026, 1, 1) + timedelta(days=chance.randrange(400), minutes=chance.randrange(1440))
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//fuzz//EN"]
    if chance.random() < 0.02:
        lines.append(chance.choice(["METHOD:REQUEST", "CALSCALE:GREGORIAN", "CALSCALE:HEBREW", "VERSION:2.0"]))
    if chance.random() < 0.5 or form == "Own":
        lines.extend(OWN.split("\r\n")[:-1])
    recurring = chance.random() < 0.5 and kind in ("VEVENT", "VTODO", "VJOURNAL")
    lines.extend(_component(chance, kind, form, start, recurring))
    if recurring:
        for number in range(chance.randrange(3)):
            at = start + timedelta(days=chance.randrange(20) + 20 * number)
            moved = at + timedelta(hours=chance.randint(-40, 40))
            name = "RECURRENCE-ID" + chance.choice(["", "", ";RANGE=THISANDFUTURE"])
            lines.extend(
                [f"BEGIN:{kind}", "UID:u", _time(chance, name, form, at), _time(chance, "DTSTART", form, moved)]
            )
            if chance.random() < 0.5:
                lines.append("DURATION:" + chance.choice(DURATIONS))
            lines.append(f"END:{kind}")
    lines.append("END:VCALENDAR")
    line_end = chance.choice(["\r\n"] * 4 + ["\n"])
    data = line_end.join(_folded(chance, line, line_end) for line in lines) + chance.choice([line_end, ""])
    octets = data.encode()
    if chance.random() < 0.05:
        octets = BOM + octets
    return _damaged(octets, chance) if chance.random() < 0.25 else octets


def _component(chance: random.Random, kind: str, form: str, start: datetime, recurring: bool) -> list[str]:
    lines = [f"BEGIN:{kind}", "UID:" + ("u" if chance.random() < 0.98 else ""), "DTSTAMP:20260101T000000Z"]
    if chance.random() < 0.85:
        lines.append(_time(chance, "DTSTART", form, start))
    end = chance.random()
    if end < 0.4 and kind != "VJOURNAL":
        later = start + timedelta(minutes=chance.choice([0, 30, 1440, 3000, -10]))
        lines.append(_time(chance, "DUE" if kind == "VTODO" else "DTEND", form, later))
    elif end < 0.7:
        lines.append("DURATION:" + chance.choice(DURATIONS))
    if recurring:
        lines.append("RRULE:" + chance.choice(RULES))
        if chance.random() < 0.3:
            lines.append(_time(chance, "EXDATE", chance.choice([form, "DATE"]), start + timedelta(days=7)))
        if chance.random() < 0.3:
            lines.append(_time(chance, "RDATE", form, start + timedelta(days=chance.randrange(99), hours=1)))
        if chance.random() < 0.1:
            lines.append("RDATE;VALUE=PERIOD:20260301T100000Z/PT1H,20260302T100000Z/20260302T090000Z")
    lines.extend(chance.choices(LINES, k=chance.randrange(4)))
    if chance.random() < 0.2:
        trigger = chance.choice(["-PT15M", "P1D", ";RELATED=END:PT0S", ";VALUE=DATE-TIME:20260301T000000Z", "x"])
        colon = "" if trigger.startswith(";") else ":"
        lines.extend(["BEGIN:VALARM", "ACTION:DISPLAY", f"TRIGGER{colon}{trigger}", "REPEAT:3", "DURATION:PT5M"])
        lines.append("END:VALARM")
    if kind == "VAVAILABILITY" and chance.random() < 0.7:
        lines.extend(["BEGIN:AVAILABLE", "UID:a", _time(chance, "DTSTART", form, start), "DURATION:PT8H"])
        lines.extend(["RRULE:" + chance.choice(RULES), "END:AVAILABLE"])
    lines.append(f"END:{kind}")
    return lines


def _folded(chance: random.Random, line: str, line_end: str) -> str:
    if chance.random() < 0.9 or not line:
        return line
    at = chance.randrange(len(line))
    return line[:at] + line_end + chance.choice(" \t") + line[at:]


def _damaged(data: bytes, chance: random.Random) -> bytes:
    octets = bytearray(data)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(octets))
        octets[at : at + chance.randrange(3)] = chance.choice(
            [b"\r", b"\n", b"\n ", b";", b":", b'"', b"\0", b"\xc3", b"\xff", b"^", chance.randbytes(2)]
        )
    return bytes(octets)


def check(data: bytes, chance: random.Random) -> bool:
    """Asserts all that must hold of an object; whether it was taken."""
    try:
        root = read(data)
    except Malformed as error:
        assert error.public
    else:
        check_lines(data, root)
    try:
        found = checked(data, LIMITS)
        content = content_of(found)
    except Violated as error:
        assert error.condition and error.public
        return False
    assert content.data == data
    assert content.times is not None
    _check_times(found, content.times, chance)
    return True


def check_lines(data: bytes, root: Component) -> None:
    """The octets of components and lines lie in each other in order; what is between is empty lines."""
    spans: list[tuple[int, int]] = []
    for one in root.walk():
        assert one.start < one.inner_start <= one.inner_end < one.end <= len(data)
        spans += [(one.start, one.inner_start), (one.inner_end, one.end)]
        assert all(one.inner_start <= each.start < each.end <= one.inner_end for each in one.properties)
        assert all(one.inner_start <= each.start < each.end <= one.inner_end for each in one.components)
        spans += [(each.start, each.end) for each in one.properties]
    position = 0
    for start, end in sorted(spans):
        assert data[position:start].removeprefix(BOM).translate(None, b"\r\n \t") == b""
        position = end
    assert data[position:].translate(None, b"\r\n \t") == b""
    assert read(write(root)) == root


def _check_times(found: CalendarObject, times: Times, chance: random.Random) -> None:
    assert times.first <= times.last
    packed = packed_instances(times)
    assert [start for start, _ in packed] == sorted(start for start, _ in packed)
    assert len(packed) <= 1_000 + len(found.timed)
    zone = chance.choice([UTC, named("Asia/Tokyo"), named("America/Los_Angeles")])
    assert zone is not None
    around = 1_767_225_600  # 2026
    for _ in range(4):
        start: int | None = around + chance.randint(-40, 700) * 43_200 + chance.choice([0, 0, 1800])
        end: int | None = (start or 0) + chance.choice([1, 3600, 86_400, 30 * 86_400])
        if chance.random() < 0.2:
            start, end = chance.choice([(start, None), (None, end)])
        says = overlapping(times, start, end, zone, found.component)
        try:
            holds = overlapping(found, start, end, zone)
            listed = instances(found, start, end, 3_000, zone)
        except TooMuch:
            continue
        assert says is None or says == holds, (says, start, end, zone.name)
        assert holds == bool(listed)
        assert [one.start for one in listed] == sorted(one.start for one in listed)
        for one in listed[:3]:
            assert one.end >= one.start or one.timed.start is None
            for alarm in one.timed.component.below("VALARM"):
                assert len(alarm_times(found, one, alarm, zone)) <= 101
    assert BEGINNING <= times.first <= ENDLESS


def run(seed: int, count: int | None = None, seconds: float | None = None) -> tuple[int, int]:
    """Checks `count` objects, or as many as fit into `seconds`; how many they were, and how many were taken."""
    end = None if seconds is None else time.monotonic() + seconds
    number = taken = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        chance = random.Random(f"{seed}.{number}")
        data = random_object(chance)
        try:
            taken += check(data, chance)
        except Exception:
            print(f"seed {seed}.{number}: {data!r}")
            raise
        number += 1
    return number, taken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    try:
        number, taken = run(options.seed, seconds=options.seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        print(f"does not hold: {error!r}")
        return 1
    print(f"{number} objects, {taken} of them taken, seed {options.seed}: everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
