"""Requests that nobody in his right mind sends: every one gets an answer, none of them 500, and none does harm."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from dav_town import ALICE, BOB, MALLORY, DavTown, bare_calendars, new_dav_town
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

ROOT_OF = {  # what the body of a method is, where it is XML
    "PROPFIND": ("propfind",),
    "PROPPATCH": ("propertyupdate",),
    "MKCOL": ("mkcol",),
    "LOCK": ("lockinfo",),
    "REPORT": (
        "sync-collection",
        "expand-property",
        "principal-property-search",
        "principal-match",
        "principal-search-property-set",
        "acl-principal-prop-set",
    ),
}
METHODS = (*ROOT_OF, "OPTIONS", "GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "MOVE", "UNLOCK", "BREW")
SEGMENTS = [
    "", "calendars", "files", "addressbooks", "principals", ALICE, BOB, MALLORY, "calendar", "inbox", "outbox", "a.ics",
    "%2e%2e", "..", ".", "a%2Fb", "%00", "%FF", "%C3%BC", "x" * 300, "nobody@nowhere.test", "contacts", "f", "new", "%",
]  # fmt: skip
PATHS = st.lists(st.sampled_from(SEGMENTS), max_size=6).map(lambda parts: "/dav/" + "/".join(parts)) | st.text(
    st.characters(min_codepoint=33, max_codepoint=126), max_size=30
).map(lambda text: "/dav/" + text)

NAMES = st.sampled_from(
    """propfind prop allprop propname include set remove lockscope locktype exclusive shared write owner resourcetype
    collection displayname getetag acl sync-token sync-level limit nresults property property-search match self href
    lockdiscovery quota-used-bytes""".split()  # noqa: SIM905
)
TEXTS = st.sampled_from(
    ["", "1", "infinite", "x", "urn:cleanmail:sync:1-1", "urn:cleanmail:sync-home:AAAA", "-1", "\x09"]
)


@st.composite
def elements(draw: st.DrawFn, depth: int = 2) -> str:
    name = draw(NAMES)
    attributes = draw(st.sampled_from(["", ' name="owner"', ' name="x" namespace="u:x"', ' test="anyof"']))
    inner = draw(st.lists(elements(depth - 1), max_size=3)) if depth else []
    return f"<{name}{attributes}>{draw(TEXTS)}{''.join(inner)}</{name}>"


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, str, str]:
    """Method, path and body."""
    method, path = draw(st.sampled_from(METHODS)), draw(PATHS)
    roots = ROOT_OF.get(method, ("x",))
    inner = "".join(draw(st.lists(elements(), max_size=4)))
    root = draw(st.sampled_from(roots))
    body = f'<{root} xmlns="DAV:">{inner}</{root}>'
    how = draw(st.sampled_from(["whole", "whole", "cut", "none", "text"]))
    return method, path, {"whole": body, "cut": body[: len(body) // 2], "none": "", "text": inner}[how]


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "depth": st.sampled_from(["0", "1", "infinity", "2", "", "x"]),
        "destination": PATHS
        | st.sampled_from(["http://", "https://other.example/", "//", "https://dav.example.test/dav/files/"]),
        "overwrite": st.sampled_from(["T", "F", "x"]),
        "if": st.sampled_from(["(<a:b>)", '(["x"])', "(Not <DAV:no-lock>)", "</dav/> (<a>)", "((", "<"]),
        "if_match": st.sampled_from(["*", '"x"', "x", ",", '"']),
        "if_none_match": st.sampled_from(["*", '"x"', ",,"]),
        "lock_token": st.sampled_from(["<urn:uuid:1>", "x", "<>"]),
        "timeout": st.sampled_from(["Second-1", "Infinite", "Second-99999999999999", "x"]),
        "prefer": st.sampled_from(["return=minimal", "return=representation", "depth-noroot", "=;,"]),
        "range": st.sampled_from(["bytes=0-", "bytes=-1", "bytes=9-1", "x"]),
        "if_modified_since": st.sampled_from(["x", "Thu, 01 Jan 1970 00:00:00 GMT", "Thu, 99 Jan 99999 99:99:99 GMT"]),
        "content_type": st.sampled_from(["text/calendar", "application/xml", "", "x/y; z"]),
    },
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DavTown]:
    with new_dav_town(tmp_path_factory.mktemp("dav"), [bare_calendars]) as town:
        town.ask("PUT", f"/dav/calendars/{ALICE}/calendar/a.ics", "uid")
        town.ask("PUT", f"/dav/files/{ALICE}/f", "x")
        town.ask("PUT", f"/dav/calendars/{BOB}/calendar/a.ics", "uid", who=BOB)
        town.ask("PUT", f"/dav/calendars/{MALLORY}/calendar/a.ics", "uid", who=MALLORY)
        yield town


@settings(
    max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None
)
@given(requests(), HEADERS)
def test_every_request_is_answered(town: DavTown, request_: tuple[str, str, str], headers: dict[str, str]) -> None:
    method, path, body = request_
    told = town.ask(method, path, body.encode("utf-8", "surrogatepass"), **headers)
    assert 200 <= told.status < 600 and told.status != 500, told
    assert (
        "Content-Length" not in told.headers
        or method == "HEAD"
        or told.headers["Content-Length"] == str(len(told.body))
    )
    if told.body.startswith(b"<?xml"):
        assert told.xml.tag


def test_a_conflict_is_told_in_xml_whatever_the_names_are(town: DavTown) -> None:
    """RFC 4791 §5.3.2.1: the href of the other object, in the collection that the new one is for."""
    kind = '<D:resourcetype><D:collection/><C:calendar xmlns:C="urn:ietf:params:xml:ns:caldav"/></D:resourcetype>'
    made = f'<D:mkcol xmlns:D="DAV:"><D:set><D:prop>{kind}</D:prop></D:set></D:mkcol>'
    for name in ("r&d", "a'b", "%3Cb%3E"):
        collection = f"/dav/calendars/{ALICE}/{name}/"
        assert town.ask("MKCOL", collection, made).status == 201
        first = f"{collection}%3Cb%3E%20%26%C3%BC.ics"
        assert town.ask("PUT", first, "same").status == 201
        elsewhere = f"/dav/calendars/{ALICE}/calendar/same.ics"
        assert town.ask("PUT", elsewhere, "same").status in (201, 204)
        there = {"destination": f"https://dav.example.test{collection}y.ics"}
        for method, path, headers in (("PUT", f"{collection}x.ics", {}), ("MOVE", elsewhere, there)):
            told = town.ask(method, path, "same", **headers)
            assert told.status == 403 and told.xml[0][0].text == first, (method, told)


def test_what_is_others_is_as_it_was(town: DavTown) -> None:
    for who in (BOB, MALLORY):
        assert town.ask("GET", f"/dav/calendars/{who}/calendar/a.ics", who=who).body == b"uid"
