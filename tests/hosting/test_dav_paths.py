"""Paths are decoded once, and never lead out of where they are; references of headers and bodies likewise."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imap_town import PASSWORD

from hosting.auth.signin import Principal
from hosting.dav.errors import Refused
from hosting.dav.paths import read_path, read_reference
from hosting.dav.request import DavRequest
from hosting.dav.resources import href
from hosting.dav.services import DavLimits
from storage.values import AccountId, TenantId

LIMITS = DavLimits()


def asked(host: str = "dav.example.test") -> DavRequest:
    principal = Principal(TenantId(1), AccountId(1), "a@example.test", PASSWORD, 1, 1, 0, 0)
    return DavRequest("GET", "/dav/", {"host": host}, b"", principal, "192.0.2.1")


@pytest.mark.parametrize(
    ("raw", "segments", "slash"),
    [
        ("/dav", (), True),
        ("/dav/", (), True),
        ("/dav/calendars/a@b.test/x", ("calendars", "a@b.test", "x"), False),
        ("/dav/calendars/a%40b.test/x/", ("calendars", "a@b.test", "x"), True),
        ("/dav/files/a/%C3%BC%20%26.txt", ("files", "a", "ü &.txt"), False),
        ("/dav/files/a/%2541", ("files", "a", "%41"), False),  # decoded once: this is a name
        ("/dav/files/a/...", ("files", "a", "..."), False),
        ("/dav/files/a/.hidden", ("files", "a", ".hidden"), False),
        ("/dav/files/a/%252e%252e", ("files", "a", "%2e%2e"), False),
    ],
)
def test_paths(raw: str, segments: tuple[str, ...], slash: bool) -> None:
    path = read_path(raw, LIMITS)
    assert (path.segments, path.slash) == (segments, slash)


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        ("/", 404),
        ("/davx/", 404),
        ("/etc/passwd", 404),
        ("dav/", 404),
        ("/dav/files/a//b", 404),
        ("/dav/files/../../etc/passwd", 400),
        ("/dav/files/a/.", 400),
        ("/dav/files/%2e%2e/b", 400),
        ("/dav/files/a/b%2Fc", 400),
        ("/dav/files/a/b%2fc", 400),
        ("/dav/files/a/b%5cc", 0),  # a backslash is a letter like others, once it is encoded
        ("/dav/files/a/b\\c", 400),
        ("/dav/files/a/b%00", 400),
        ("/dav/files/a/b%0d%0aX", 400),
        ("/dav/files/a/%7f", 400),
        ("/dav/files/a/%ff", 400),
        ("/dav/files/a/%c0%ae%c0%ae", 400),  # overlong dots
        ("/dav/files/a/%ed%a0%80", 400),  # a surrogate
        ("/dav/files/a/%zz", 400),
        ("/dav/files/a/%", 400),
        ("/dav/files/a/b#c", 400),
        ("/dav/files/a/" + "x" * 300, 400),
        ("/dav/" + "x/" * 5000, 400),
    ],
)
def test_what_is_no_path_is_refused(raw: str, status: int) -> None:
    if not status:
        assert read_path(raw, LIMITS).name == "b\\c"
        return
    with pytest.raises(Refused) as refused:
        read_path(raw, LIMITS)
    assert refused.value.status == status


def test_an_address_may_have_a_slash() -> None:
    """RFC 5322 §3.2.3; nothing else in a path may."""
    login = "sales/eu@example.test"
    assert read_path(href(("calendars", login), is_collection=True).decode(), LIMITS).segments == ("calendars", login)
    for raw in ("/dav/calendars/a%2Fb/", "/dav/calendars%2Fa@b/", "/dav/calendars/a@b/x%2Fy@z", "/dav/%2F@/x"):
        with pytest.raises(Refused):
            read_path(raw, LIMITS)


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).filter(
    lambda name: "/" not in name and name not in (".", "..") and "\x7f" not in name
)


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_what_is_written_leads_back(segments: list[str], is_collection: bool) -> None:
    written = href(tuple(segments), is_collection=is_collection)
    path = read_path(written.decode("ascii"), LIMITS)
    assert (path.segments, path.slash) == (tuple(segments), is_collection)
    assert not set(b"<>&\"'") & set(written)  # XML as it is


@given(st.text(max_size=40))
def test_no_path_does_more_than_be_refused(raw: str) -> None:
    try:
        found = read_path("/dav/" + raw, LIMITS)
    except Refused:
        return
    assert not {"", ".", ".."} & set(found.segments)
    assert not any("\0" in each for each in found.segments)
    assert not any("/" in each for number, each in enumerate(found.segments) if number != 1 or "@" not in each)


@pytest.mark.parametrize(
    ("reference", "segments"),
    [
        ("/dav/files/a/b", ("files", "a", "b")),
        (" /dav/files/a/b c ", ("files", "a", "b c")),
        ("https://dav.example.test/dav/files/a/b", ("files", "a", "b")),
        ("http://DAV.example.test:8080/dav/files/a/b/", ("files", "a", "b")),
    ],
)
def test_references(reference: str, segments: tuple[str, ...]) -> None:
    assert read_reference(asked("dav.example.test:8080"), reference, LIMITS).segments == segments


@pytest.mark.parametrize(
    ("reference", "status"),
    [
        ("https://other.example/dav/files/a", 502),
        ("ftp://dav.example.test/dav/files/a", 502),
        ("https://user@other.example/dav/", 502),
        ("//other.example/dav/files/a", 400),
        ("dav/files/a", 400),
        ("", 400),
        ("https://[::1/dav/", 400),
        ("https://dav.example.test:port/dav/", 400),
        ("https://dav.example.test/elsewhere", 404),
        ("/dav/files/../a", 400),
    ],
)
def test_references_that_lead_elsewhere(reference: str, status: int) -> None:
    """RFC 4918 §9.8.5: 502 for other servers."""
    with pytest.raises(Refused) as refused:
        read_reference(asked(), reference, LIMITS)
    assert refused.value.status == status
