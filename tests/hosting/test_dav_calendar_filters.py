"""Filters of calendar-query as they stand in requests (RFC 4791 §9.7), and the ones that mean nothing."""

from __future__ import annotations

import pytest

from hosting.dav.calendars.filters import read_filter
from hosting.dav.xml import parse
from storage.collections.conditions import Violated
from storage.icalendar.filter import Filter, ParamFilter, PropFilter, TimeRange
from storage.icalendar.textmatch import Collation, MatchType, TextMatch

JAN = 1_767_225_600  # 2026-01-01


def read(text: str) -> Filter:
    return read_filter(parse(f'<C:filter xmlns:C="urn:ietf:params:xml:ns:caldav">{text}</C:filter>'.encode()))


def comp(name: str, *inner: str) -> str:
    return f'<C:comp-filter name="{name}">{"".join(inner)}</C:comp-filter>'


def prop(name: str, *inner: str) -> str:
    return f'<C:prop-filter name="{name}">{"".join(inner)}</C:prop-filter>'


RANGE = '<C:time-range start="20260101T000000Z" end="20260102T000000Z"/>'
DAY = TimeRange(JAN, JAN + 86_400)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (comp("VCALENDAR"), Filter("VCALENDAR")),
        (
            comp("VCALENDAR", comp("VEVENT", RANGE)),
            Filter("VCALENDAR", components=(Filter("VEVENT", time_range=DAY),)),
        ),
        (
            comp("VCALENDAR", comp("vtodo", '<C:time-range end="20260102T000000Z"/>')),
            Filter("VCALENDAR", components=(Filter("VTODO", time_range=TimeRange(None, JAN + 86_400)),)),
        ),
        (
            comp("VCALENDAR", comp("VJOURNAL", "<C:is-not-defined/>")),
            Filter("VCALENDAR", components=(Filter("VJOURNAL", is_not_defined=True),)),
        ),
        (
            comp("VCALENDAR", comp("VTODO", comp("VALARM", RANGE))),
            Filter("VCALENDAR", components=(Filter("VTODO", components=(Filter("VALARM", time_range=DAY),)),)),
        ),
        (
            comp(
                "VCALENDAR",
                comp(
                    "VEVENT",
                    prop("UID", '<C:text-match collation="i;octet">x &amp; y</C:text-match>'),
                    prop(
                        "ATTENDEE",
                        '<C:text-match negate-condition="yes">ada</C:text-match>',
                        '<C:param-filter name="PARTSTAT"><C:text-match>NEEDS</C:text-match></C:param-filter>',
                        '<C:param-filter name="CN"/>',
                        '<C:param-filter name="ROLE"><C:is-not-defined/></C:param-filter>',
                    ),
                    prop("COMPLETED", "<C:is-not-defined/>"),
                    prop("DTSTAMP", RANGE),
                    prop("SUMMARY", '<C:text-match match-type="starts-with">A</C:text-match>'),
                ),
            ),
            Filter(
                "VCALENDAR",
                components=(
                    Filter(
                        "VEVENT",
                        props=(
                            PropFilter("UID", text=TextMatch("x & y", Collation.OCTET)),
                            PropFilter(
                                "ATTENDEE",
                                text=TextMatch("ada", negate=True),
                                params=(
                                    ParamFilter("PARTSTAT", TextMatch("NEEDS")),
                                    ParamFilter("CN"),
                                    ParamFilter("ROLE", is_not_defined=True),
                                ),
                            ),
                            PropFilter("COMPLETED", is_not_defined=True),
                            PropFilter("DTSTAMP", time_range=DAY),
                            PropFilter("SUMMARY", text=TextMatch("A", match_type=MatchType.STARTS_WITH)),
                        ),
                    ),
                ),
            ),
        ),
    ],
)
def test_what_is_asked(text: str, meant: Filter) -> None:
    assert read(text) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        comp("VEVENT"),
        comp("VCALENDAR") * 2,
        prop("UID"),
        comp(""),
        comp("VCALENDAR", "<C:is-not-defined/>"),
        comp("VCALENDAR", RANGE),
        comp("VCALENDAR", comp("VALARM")),
        comp("VCALENDAR", comp("VTIMEZONE", RANGE)),
        comp("VCALENDAR", comp("VJOURNAL", comp("VALARM"))),
        comp("VCALENDAR", comp("VEVENT", comp("VEVENT"))),
        comp("VCALENDAR", comp("VEVENT", RANGE, RANGE)),
        comp("VCALENDAR", comp("VEVENT", RANGE, "<C:is-not-defined/>")),
        comp("VCALENDAR", comp("VEVENT", "<C:text-match>x</C:text-match>")),
        comp("VCALENDAR", comp("VEVENT", prop("UID", RANGE, "<C:text-match>x</C:text-match>"))),
        comp("VCALENDAR", comp("VEVENT", prop("UID", comp("VALARM")))),
        comp("VCALENDAR", comp("VEVENT", prop("", "<C:is-not-defined/>"))),
        comp("VCALENDAR", comp("VEVENT", prop("UID", '<C:param-filter name="CN"><C:x/></C:param-filter>'))),
        comp("VCALENDAR", comp("VEVENT", "<C:time-range/>")),
        comp("VCALENDAR", comp("VEVENT", '<C:time-range start="20260101" end="20260102"/>')),
        comp("VCALENDAR", comp("VEVENT", '<C:time-range start="20260101T000000" end="20260102T000000"/>')),
        comp("VCALENDAR", comp("VEVENT", '<C:time-range start="20260102T000000Z" end="20260101T000000Z"/>')),
        comp("VCALENDAR", comp("VEVENT", '<C:time-range start="2026-01-01"/>')),
        comp("VCALENDAR", comp("VEVENT", *[prop("UID")] * 101)),
        comp("VCALENDAR", comp("X-A", comp("X-B", comp("X-C", comp("X-D"))))),
    ],
)
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(Violated) as violated:
        read(text)
    assert violated.value.condition == "valid-filter"


def test_a_collation_that_is_not_there() -> None:
    with pytest.raises(Violated) as violated:
        read(comp("VCALENDAR", comp("VEVENT", prop("UID", '<C:text-match collation="i;x">x</C:text-match>'))))
    assert violated.value.condition == "supported-collation"
