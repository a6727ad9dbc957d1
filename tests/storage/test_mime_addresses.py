"""storage.mime.addresses: what stands in address fields, ordinary and broken (RFC 5322 §3.4, §4.4)."""

from __future__ import annotations

import pytest

from storage.mime.addresses import ADDRESSES_MAX, GROUP_END, Address, parse_addresses


def mailbox(name: bytes | None, local: bytes, domain: bytes, route: bytes | None = None) -> Address:
    return Address(name, route, local, domain)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b" \r\n ", []),
        (b"a@b", [mailbox(None, b"a", b"b")]),
        (b"<a.b@c.d>", [mailbox(None, b"a.b", b"c.d")]),
        (b"John Q. Public <a@b>", [mailbox(b"John Q. Public", b"a", b"b")]),
        (b'"Public, \\"J\\"" <a@b>, c@d', [mailbox(b'Public, "J"', b"a", b"b"), mailbox(None, b"c", b"d")]),
        (b'" x " <a@b>', [mailbox(b"x", b"a", b"b")]),
        (b'"" <a@b>', [mailbox(None, b"a", b"b")]),
        (b"a@b (Joe (the) \\(x)", [mailbox(b"Joe (the) (x", b"a", b"b")]),
        (b"a@b ()", [mailbox(None, b"a", b"b")]),
        (b"(before) a@b", [mailbox(None, b"a", b"b")]),
        (b"Pete(A nice \\) chap) <pete(his account)@silly.test(his host)>", [mailbox(b"Pete", b"pete", b"silly.test")]),
        (b"a . b @ c . d", [mailbox(None, b"a.b", b"c.d")]),
        (b'"a b"@c, a@[127.0.0.1]', [mailbox(None, b"a b", b"c"), mailbox(None, b"a", b"[127.0.0.1]")]),
        (b"<@r.x,@s:a@b>", [mailbox(None, b"a", b"b", b"@r.x,@s")]),
        (b"Joe\r\n <a@b>,\r\n\tc@d", [mailbox(b"Joe", b"a", b"b"), mailbox(None, b"c", b"d")]),
        (b"\xc3\xa9 <\xc3\xa9@b>", [mailbox(b"\xc3\xa9", b"\xc3\xa9", b"b")]),
        (b"=?utf-8?q?x?= <a@b>", [mailbox(b"=?utf-8?q?x?=", b"a", b"b")]),
        (b", ,a@b,, c@d,", [mailbox(None, b"a", b"b"), mailbox(None, b"c", b"d")]),
    ],
)
def test_mailboxes(value: bytes, expected: list[Address]) -> None:
    assert parse_addresses(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"undisclosed recipients:;", [Address(None, None, b"undisclosed recipients", None), GROUP_END]),
        (
            b'"g, h": a@b, X <c@d>;, e@f',
            [
                Address(None, None, b"g, h", None),
                mailbox(None, b"a", b"b"),
                mailbox(b"X", b"c", b"d"),
                GROUP_END,
                mailbox(None, b"e", b"f"),
            ],
        ),
        (b"open: a@b", [Address(None, None, b"open", None), mailbox(None, b"a", b"b"), GROUP_END]),
    ],
)
def test_groups(value: bytes, expected: list[Address]) -> None:
    assert parse_addresses(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"MAILER-DAEMON", [mailbox(None, b"MAILER-DAEMON", b"MISSING_DOMAIN")]),
        (b"two words", [mailbox(b"two words", b"MISSING_MAILBOX", b"MISSING_DOMAIN")]),
        (b"<>", [mailbox(None, b"MISSING_MAILBOX", b"MISSING_DOMAIN")]),
        (b"<a@b", [mailbox(None, b"a", b"b")]),
        (b"Joe <a@b c> x, d@e", [mailbox(b"Joe", b"a", b"b"), mailbox(None, b"d", b"e")]),
        (b"<a@b>junk.test, <c@d>junk", [mailbox(None, b"a", b"b"), mailbox(None, b"c", b"d")]),
        (b'"Joe <a@b>, c@d', [mailbox(b"Joe", b"a", b"b"), mailbox(None, b"c", b"d")]),
        (b"Joe (x <a@b>", [mailbox(b"Joe x", b"a", b"b")]),
        (b"a@[1, b@c", [mailbox(None, b"a", b"MISSING_DOMAIN"), mailbox(None, b"b", b"c")]),
        (b"[odd] Joe <a@b>, c@d", [mailbox(None, b"MISSING_MAILBOX", b"MISSING_DOMAIN"), mailbox(None, b"c", b"d")]),
    ],
)
def test_broken_ones(value: bytes, expected: list[Address]) -> None:
    assert parse_addresses(value) == expected


def test_no_more_than_can_be_meant() -> None:
    assert len(parse_addresses(b"a@b," * 20_000)) == ADDRESSES_MAX
    assert parse_addresses(b"a@b, c@d", limit=1) == [mailbox(None, b"a", b"b")]
