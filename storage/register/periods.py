"""How long the classes of data are kept: the policy of an installation, within the bounds that its promises set.

A record is kept for at least `floor_days` and for less than `ceiling_days`: it is removed as soon as it is older than
the floor, and it is an alarm if it is still there at the ceiling. What is kept as long as an account, a contract or the
installation has no days here.

`Periods.of_preset` takes a preset and what an operator wants otherwise. Raises: InvalidInput, with the reason why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from storage.errors import InvalidInput
from storage.register.values import Kept

DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class Period:
    """Of one `Kept`; no days: it ends with what it belongs to, or with its work."""

    kept: Kept
    floor_days: int | None = None
    ceiling_days: int | None = None

    def __post_init__(self) -> None:
        if (self.floor_days is None) != (self.ceiling_days is None):
            raise ValueError(f"the period {self.kept} has a floor or a ceiling only")
        if self.floor_days is not None and self.ceiling_days is not None and self.floor_days >= self.ceiling_days:
            # what is looked for every hour cannot go at an exact moment
            raise ValueError(f"the period {self.kept}: its floor must be at least a day below its ceiling")

    @property
    def bounded(self) -> bool:
        return self.ceiling_days is not None

    def cut_off(self, now: int) -> int:
        """What is older is removed now."""
        return now - (self.floor_days or 0) * DAY

    def limit(self, now: int) -> int:
        """Nothing may be older."""
        return now - (self.ceiling_days or 0) * DAY


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between which ceilings a provider may choose, and the sentence for who wants another."""

    least: int
    most: int
    why: str


BOUNDS: Mapping[Kept, Bounds] = MappingProxyType(
    {
        Kept.QUARANTINE: Bounds(2, 366, "withheld mail is there long enough to be asked for, and a year at most"),
        Kept.TRACES: Bounds(2, 14, "traces of messages are promised to be gone after 14 days"),
        Kept.TRANSCRIPTS: Bounds(
            185, 365, "sender, recipient and time of a message can be reconstructed for 6 months at least, 12 at most"
        ),
        Kept.ACCESS: Bounds(2, 365, "access events are promised to be gone after 12 months"),
        Kept.EXPERIENCE: Bounds(31, 401, "what the filter knows of senders fades within a year"),
        Kept.COUNTS: Bounds(32, 401, "shares of wrongly withheld mail are counted over 30 days"),
        Kept.REVIEWS: Bounds(32, 401, "shares of reviewed mail are counted over 30 days"),
        Kept.STAFF: Bounds(2, 3654, "who worked here has to be known for a while after it"),
        Kept.AUDIT: Bounds(366, 5480, "what administrators did can be proved for a year at least"),
        Kept.BUSINESS: Bounds(3654, 5480, "business records have to be kept for 10 years by law"),
        Kept.BACKUPS: Bounds(2, 366, "what was erased must not live on in backups for more than a year"),
        Kept.KEY_BACKUPS: Bounds(2, 91, "a destroyed key must not live on in copies for more than three months"),
    }
)

# What the work itself sets: nobody chooses it.
_FIXED: Mapping[Kept, int] = MappingProxyType(
    {
        Kept.QUEUE: 31,  # longer than any retry time
        Kept.SENDING: 9,  # limits on sending look back a week
        Kept.FORWARDING: 24,  # bounces of forwarded mail come back for three weeks
    }
)

_STANDARD: Mapping[Kept, int] = MappingProxyType(
    {
        Kept.QUARANTINE: 366,  # each message as long as the rule quarantine_days says, which customers choose
        Kept.TRACES: 14,
        Kept.TRANSCRIPTS: 365,
        Kept.ACCESS: 365,
        Kept.EXPERIENCE: 401,
        Kept.COUNTS: 401,
        Kept.REVIEWS: 401,
        Kept.STAFF: 366,
        Kept.AUDIT: 3654,
        Kept.BUSINESS: 3654,
        Kept.BACKUPS: 220,  # the first of each of six months, and what is left of the seventh
        Kept.KEY_BACKUPS: 30,
    }
)

PRESETS: Mapping[str, Mapping[Kept, int]] = MappingProxyType(
    {
        "standard": _STANDARD,
        "short_transcripts": MappingProxyType({**_STANDARD, Kept.TRANSCRIPTS: 185}),
    }
)


@dataclass(frozen=True, slots=True)
class Periods:
    """All of them, one for each `Kept`."""

    preset: str
    by_kept: Mapping[Kept, Period] = field(repr=False)

    @classmethod
    def of_preset(cls, preset: str = "standard", otherwise: Mapping[Kept, int] | None = None) -> Periods:
        """`otherwise` are ceilings in days that differ from the preset's."""
        if preset not in PRESETS:
            raise InvalidInput(f"There is no preset '{preset[:40]}' of periods; there are {', '.join(PRESETS)}.")
        ceilings = dict(PRESETS[preset])
        for kept, days in (otherwise or {}).items():
            wrong = out_of_bounds(kept, days)
            if wrong:
                raise InvalidInput(wrong)
            ceilings[kept] = days
        ceilings |= _FIXED
        return cls(
            preset,
            MappingProxyType(
                {
                    kept: Period(kept, ceilings[kept] - 1, ceilings[kept]) if kept in ceilings else Period(kept)
                    for kept in Kept
                }
            ),
        )

    def of(self, kept: Kept) -> Period:
        return self.by_kept[kept]

    def __iter__(self) -> Iterator[Period]:
        return iter(self.by_kept.values())


def out_of_bounds(kept: Kept, days: int) -> str:
    """Why `days` are no ceiling that a provider may choose; empty if they are one."""
    bounds = BOUNDS.get(kept)
    if bounds is None:
        return f"How long data of the period '{kept}' is kept is not to be chosen."
    if bounds.least <= days <= bounds.most:
        return ""
    return f"'{kept}' must be {bounds.least} to {bounds.most} days, not {days}: {bounds.why}."


STANDARD = Periods.of_preset()
