"""Addresses, domains and sets of numbers, as they are made at the border."""

from __future__ import annotations

import idna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidInput
from storage.values import Domain, EmailAddress, UidSet


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.test", "example.test"),
        ("EXAMPLE.Test.", "example.test"),
        (" a-b.example ", "a-b.example"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("1.2.example", "1.2.example"),
    ],
)
def test_domains_in_canonical_form(text: str, name: str) -> None:
    assert Domain.parse(text).name == name


@pytest.mark.parametrize(
    "text",
    ["", ".", "localhost", "a..b", "-a.example", "a-.example", "ab--c.example", "xn--.example", "a_b.example",
     "a b.example", "a" * 64 + ".example", ".".join(["abcdefgh"] * 30), "a.example\n.b", "[127.0.0.1]"],
)  # fmt: skip
def test_what_is_no_full_domain_name(text: str) -> None:
    with pytest.raises(InvalidInput):
        Domain.parse(text)


@given(st.from_regex(r"[A-Za-z0-9.-]{1,40}", fullmatch=True))
def test_the_short_way_agrees_with_idna(text: str) -> None:
    try:
        expected: str | None = idna.encode(text.rstrip("."), uts46=True, transitional=False).decode().lower()
    except (idna.IDNAError, UnicodeError):
        expected = None
    if expected is not None and "." not in expected:
        expected = None
    try:
        found: str | None = Domain.parse(text).name
    except InvalidInput:
        found = None
    assert found == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("Alice@Example.Test", "alice@example.test"),
        ("JÖRG@example.test", "jörg@example.test"),
        ("jo\u0308rg@example.test", "jörg@example.test"),
        ('"a b"@example.test', "a b@example.test"),
        ("a+b@example.test", "a+b@example.test"),
    ],
)
def test_equal_addresses_share_a_key(text: str, key: str) -> None:
    assert EmailAddress.parse(text).key == key


@pytest.mark.parametrize("text", ["", "a", "@b.example", "a@", "a b@c.example", ".a@b.example", "a.@b.example",
                                  "a..b@c.example", "a" * 65 + "@b.example", '"a\nb"@c.example', "a@b"])  # fmt: skip
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidInput):
        EmailAddress.parse(text)


def test_a_subaddress_has_a_base_and_a_leading_plus_has_none() -> None:
    assert str(EmailAddress.parse("a+tag@b.example").base) == "a@b.example"
    assert str(EmailAddress.parse("+tag@b.example").base) == "+tag@b.example"


@pytest.mark.parametrize("text", ['"a."@b.example', '".a"@b.example', '"a..b"@b.example', '"a b\\""@b.example'])
def test_an_address_that_needs_quotes_is_written_with_them(text: str) -> None:
    assert str(EmailAddress.parse(text)) == text


@given(st.lists(st.integers(1, 60)))
def test_a_set_of_numbers_holds_just_these(numbers: list[int]) -> None:
    made = UidSet.of(numbers)
    assert list(made) == sorted(set(numbers))
    assert len(made) == len(set(numbers))
    assert all((n in made) == (n in numbers) for n in range(62))
    assert UidSet.of_ranges((n, n) for n in numbers) == made
    assert all(a[1] + 1 < b[0] for a, b in zip(made.ranges, made.ranges[1:], strict=False))
