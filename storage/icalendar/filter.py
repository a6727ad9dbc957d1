"""What a calendar-query asks for, as values, and whether an object is it (RFC 4791 §9.7).

hosting.dav reads the XML into `Filter`; `prefilter` says what the index of times can answer of it, `certain` whether
the index alone decides about an object, and `matches` reads the object. A time-range stands for [start, end) in Unix
seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from storage.icalendar.textmatch import TextMatch


@dataclass(frozen=True, slots=True)
class TimeRange:
    """Either end may be open, not both (RFC 4791 §9.9)."""

    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class ParamFilter:
    """Without `text`: it has the parameter (RFC 4791 §9.7.3)."""

    name: str  # upper case, as all names here
    text: TextMatch | None = None
    is_not_defined: bool = False


@dataclass(frozen=True, slots=True)
class PropFilter:
    """Without conditions: there is such a property (RFC 4791 §9.7.2)."""

    name: str
    is_not_defined: bool = False
    time_range: TimeRange | None = None
    text: TextMatch | None = None
    params: tuple[ParamFilter, ...] = ()


@dataclass(frozen=True, slots=True)
class Filter:
    """A comp-filter; the outermost is that of VCALENDAR (RFC 4791 §9.7.1)."""

    name: str
    is_not_defined: bool = False
    time_range: TimeRange | None = None
    props: tuple[PropFilter, ...] = ()
    components: tuple[Filter, ...] = field(default=())


class Candidates(NamedTuple):
    """What the index of times is asked for: no object that is not among these can match."""

    component: str
    start: int | None  # None: from the beginning
    end: int | None  # None: without end
    alone: bool = False  # the filter asks for nothing else


def prefilter(filter_: Filter) -> Candidates | None:
    """What an index can say of `filter_`; None: every object has to be read.

    Of several components that are asked for, an object has to have all, so that any one narrows the search; one with a
    time-range narrows it more.
    """
    if filter_.name != "VCALENDAR" or filter_.is_not_defined:
        return None
    best: Candidates | None = None
    for asked in filter_.components:
        if asked.is_not_defined or asked.name == "VTIMEZONE":
            continue
        within = asked.time_range or TimeRange()
        alone = len(filter_.components) == 1 and not (filter_.props or asked.props or asked.components)
        found = Candidates(asked.name, within.start, within.end, alone)
        if best is None or (asked.time_range and best.start is None and best.end is None):
            best = found
    return best
