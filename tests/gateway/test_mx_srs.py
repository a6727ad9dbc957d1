"""Rewritten reverse-paths: what goes in comes back, and nothing that we did not make does."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.mx.srs import GOOD_FOR, Rewriting, is_rewritten
from storage.values import Domain, EmailAddress

OURS = Domain("alias.example")
TODAY = 19_700


class Shelf:
    """Tokens in a dictionary."""

    def __init__(self) -> None:
        self.kept: dict[str, EmailAddress] = {}

    def token(self, address: EmailAddress) -> str:
        token = f"token{len(self.kept):011}"
        self.kept[token] = address
        return token

    def address(self, token: str) -> EmailAddress | None:
        return self.kept.get(token)


def rewriting(day: int = TODAY, *, key: bytes = b"k" * 32, shelf: Shelf | None = None) -> Rewriting:
    return Rewriting(key, shelf or Shelf(), day)


def address(text: str) -> EmailAddress:
    return EmailAddress.parse(text)


LOCALS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=64).filter(
    lambda text: len(text.encode()) <= 64
)
DOMAINS = st.from_regex(r"[a-z0-9]{1,30}(\.[a-z0-9]{1,30}){1,4}", fullmatch=True)


@example("a..b.", "d.example", 0, 0)
@given(LOCALS, DOMAINS, st.integers(0, 40_000), st.integers(0, GOOD_FOR))
def test_every_path_comes_back_for_three_weeks(local: str, domain: str, day: int, later: int) -> None:
    shelf = Shelf()
    quoted = local.replace("\\", "\\\\").replace('"', '\\"')
    original = address(f'"{quoted}"@{domain}')
    path = rewriting(day, shelf=shelf).forward(original, OURS)
    assert path.domain == OURS and len(path.local.encode()) <= 64 and is_rewritten(path)
    assert EmailAddress.parse(str(path)) == path  # it survives the wire
    assert rewriting(day + later, shelf=shelf).back(path) == original
    assert rewriting(day + GOOD_FOR + 1, shelf=shelf).back(path) is None or path.local.startswith("SRS1")
    assert rewriting(day, key=b"x" * 32, shelf=shelf).back(path) is None


def test_the_usual_form() -> None:
    path = rewriting().forward(address("ada@home.example"), OURS)
    assert path.local.startswith("SRS0=") and path.local.endswith("=home.example=ada")


def test_a_long_path_becomes_a_token() -> None:
    shelf = Shelf()
    original = address(f"{'a' * 40}@{'b' * 40}.example")
    path = rewriting(shelf=shelf).forward(original, OURS)
    assert "==token" in path.local
    assert rewriting(shelf=shelf).back(path) == original
    shelf.kept.clear()
    assert rewriting(shelf=shelf).back(path) is None


def test_forwarded_before_keeps_the_first_forwarders_path() -> None:
    """SRS1: a bounce goes back to the first forwarder, who knows the sender; those between are left out."""
    first = address("SRS0=HHHH=TT=home.example=ada@first.example")
    ours = rewriting().forward(first, OURS)
    assert ours.local.startswith("SRS1=") and ours.local.endswith("=first.example==HHHH=TT=home.example=ada")
    assert rewriting().back(ours) == first
    theirs = address("SRS1=XXXX=first.example==HHHH=TT=home.example=ada@second.example")
    assert rewriting().back(rewriting().forward(theirs, OURS)) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda local: local.replace("ada", "eve"),
        lambda local: local.replace("home.example", "evil.example"),
        lambda local: local[:5] + ("b" if local[5] != "b" else "c") + local[6:],
        lambda local: local[:14] + ("b" if local[14] != "b" else "c") + local[15:],
        lambda local: local + "x",
        lambda local: local.replace("SRS0", "SRS1"),
        lambda local: "SRS0=",
        lambda local: "SRS0=aaaaaaaa=aa=home.example=ada",
        lambda local: "SRS1=aaaaaaaa=home.example==x",
        lambda local: "nothing.of.the.sort",
    ],
)
def test_what_was_changed_has_no_way_back(change) -> None:  # type: ignore[no-untyped-def]
    path = rewriting().forward(address("ada@home.example"), OURS)
    assert rewriting().back(path) is not None
    assert rewriting().back(EmailAddress(change(path.local), OURS)) is None
    assert rewriting().back(EmailAddress(path.local, Domain("other.example"))) is None


@given(st.text(max_size=64))
def test_nothing_of_a_stranger_comes_back_or_fails(local: str) -> None:
    for text in (local, f"SRS0={local}", f"SRS1={local}", f"SRS0=aaaaaaaa=aa={local}", f"SRS1=aaaaaaaa={local}"):
        assert rewriting().back(EmailAddress(text, OURS)) is None


def test_case_does_not_matter() -> None:
    path = rewriting().forward(address("Ada@home.example"), OURS)
    for local in (path.local.upper(), path.local.lower()):
        back = rewriting().back(EmailAddress(local, OURS))
        assert back is not None and back.key == "ada@home.example"


def test_days_wrap_round() -> None:
    path = rewriting(1020).forward(address("ada@home.example"), OURS)
    assert rewriting(1030).back(path) is not None
    assert rewriting(1020 + 1024).back(path) is not None  # three years later the same two characters stand for it
    assert rewriting(1019).back(path) is None  # made tomorrow
