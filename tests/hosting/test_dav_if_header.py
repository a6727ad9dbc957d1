"""The If header and entity tags, as clients write them (RFC 4918 §10.4, RFC 9110 §13.1)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.dav.errors import Refused
from hosting.dav.if_header import Condition, ConditionList, read_etags, read_if

LOCK = "urn:uuid:181d4fae-7d8c-11d0-a765-00a0c91e6bf2"


@pytest.mark.parametrize(
    ("header", "lists"),
    [
        ("", ()),
        (f"(<{LOCK}>)", (ConditionList("", (Condition(False, token=LOCK),)),)),
        (
            f'(<{LOCK}> ["I am an ETag"]) (["I am another ETag"])',  # §10.4.6
            (
                ConditionList("", (Condition(False, token=LOCK), Condition(False, etag='"I am an ETag"'))),
                ConditionList("", (Condition(False, etag='"I am another ETag"'),)),
            ),
        ),
        (
            f"(Not <{LOCK}>)(NOT<DAV:no-lock>)",  # §10.4.7, §10.4.8
            (
                ConditionList("", (Condition(True, token=LOCK),)),
                ConditionList("", (Condition(True, token="DAV:no-lock"),)),
            ),
        ),
        (
            f'</dav/a> (<{LOCK}> [W/"A weak ETag"]) (["strong ETag"])',  # §10.4.10
            (
                ConditionList("/dav/a", (Condition(False, token=LOCK), Condition(False, etag='W/"A weak ETag"'))),
                ConditionList("/dav/a", (Condition(False, etag='"strong ETag"'),)),
            ),
        ),
    ],
)
def test_lists(header: str, lists: tuple[ConditionList, ...]) -> None:
    assert read_if(header) == lists


@pytest.mark.parametrize(
    "header",
    ["x", "(", "()", "(<>)", "(<a)", "(Not)", "(Not Not <a>)", "<a>", "([x)", "(<a>) y", "(a)", "(<a>" * 1000],
)
def test_what_is_malformed_is_refused(header: str) -> None:
    with pytest.raises(Refused) as refused:
        read_if(header)
    assert refused.value.status == 400


def test_conditions_are_bounded() -> None:
    with pytest.raises(Refused):
        read_if("(<a:b>)" * 100_000)
    with pytest.raises(Refused):
        read_if("(" + "<a:b>" * 100_000 + ")")


@given(st.text(alphabet='()<>[]"Not ,ab:', max_size=60))
def test_nothing_else_is_raised(header: str) -> None:
    try:
        lists = read_if(header)
    except Refused:
        return
    assert all(each.conditions for each in lists)


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("", None),
        ("*", ("*",)),
        ('"a"', ('"a"',)),
        ('"a", W/"b","c,d"', ('"a"', 'W/"b"', '"c,d"')),
        ("a, b", ("a", "b")),
        ('"open', ('"open',)),
        (" , ,", ()),
    ],
)
def test_entity_tags(header: str, tags: tuple[str, ...] | None) -> None:
    assert read_etags(header) == tags
