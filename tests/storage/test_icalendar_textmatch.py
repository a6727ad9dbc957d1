"""storage.icalendar.textmatch: collations of CalDAV and CardDAV."""

from __future__ import annotations

import pytest

from storage.collections.conditions import Namespace, Violated
from storage.icalendar.textmatch import Collation, MatchType, TextMatch


@pytest.mark.parametrize(
    ("wanted", "value", "collation", "answer"),
    [
        ("CONFERENCE", "a conference call", Collation.ASCII, True),
        ("conference", "CONFERENCE", Collation.ASCII, True),
        ("ü", "Ü", Collation.ASCII, False),
        ("ü", "Ü", Collation.UNICODE, True),
        ("u\u0308", "Ü", Collation.UNICODE, True),
        ("ﬁ", "fi", Collation.UNICODE, True),
        ("ПРИВЕТ", "привет", Collation.UNICODE, True),
        ("conference", "CONFERENCE", Collation.OCTET, False),
        ("[", "{", Collation.ASCII, False),
        ("", "anything", Collation.ASCII, True),
    ],
)
def test_collations(wanted: str, value: str, collation: Collation, answer: bool) -> None:
    assert TextMatch(wanted, collation).matches(value) is answer
    assert TextMatch(wanted, collation, negate=True).matches(value) is not answer


def test_names_of_collations() -> None:
    assert Collation.named("", Namespace.CALDAV) is Collation.ASCII
    assert Collation.named("default", Namespace.CARDDAV) is Collation.UNICODE
    assert Collation.named("i;octet", Namespace.CALDAV) is Collation.OCTET
    with pytest.raises(Violated) as raised:
        Collation.named("i;basic", Namespace.CARDDAV)
    assert (raised.value.condition, raised.value.namespace) == ("supported-collation", Namespace.CARDDAV)


@pytest.mark.parametrize(
    ("match_type", "found"),
    [
        (MatchType.EQUALS, ["ab"]),
        (MatchType.CONTAINS, ["ab", "abc", "cab"]),
        (MatchType.STARTS_WITH, ["ab", "abc"]),
        (MatchType.ENDS_WITH, ["ab", "cab"]),
    ],
)
def test_ways_of_matching(match_type: MatchType, found: list[str]) -> None:
    wanted = TextMatch("AB", match_type=match_type)
    assert [value for value in ("ab", "abc", "cab", "b") if wanted.matches(value)] == found


def test_what_is_looked_for_is_in_no_log() -> None:
    assert "secret" not in repr(TextMatch("secret"))
