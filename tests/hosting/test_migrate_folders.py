"""Which folder becomes which mailbox: names, levels, uses, namespaces."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hosting.migration.answers import Listed, Namespaces, zone_of
from hosting.migration.folders import Choice, Planned, plan
from storage.errors import InvalidInput
from storage.mail.names import new_name


def listed(name: str, *attributes: str, delimiter: str = "/") -> Listed:
    return Listed(name.encode(), name, delimiter, frozenset(attributes))


def targets(planned: list[Planned]) -> dict[str, str]:
    return {each.listed.name: each.mailbox for each in planned if not each.left_out}


@pytest.mark.parametrize(
    ("there", "here"),
    [
        # by attribute, whatever the name says
        ([listed("Trash"), listed("Kosz", "\\trash")], {"Kosz": "Trash", "Trash": "Trash (2)"}),
        ([listed("[Gmail]/Gesendet", "\\sent")], {"[Gmail]/Gesendet": "Sent"}),
        # by name; the usual one first
        ([listed("Sent Items"), listed("Sent")], {"Sent Items": "Sent Items", "Sent": "Sent"}),
        ([listed("Papierkorb"), listed("Papierkorb/alt")], {"Papierkorb": "Trash", "Papierkorb/alt": "Trash/alt"}),
        ([listed("Entwürfe"), listed("Gelöschte Elemente")], {"Entwürfe": "Drafts", "Gelöschte Elemente": "Trash"}),
        ([listed("Work/Sent")], {"Work/Sent": "Work/Sent"}),
        # levels
        ([listed("a.b/c", delimiter=".")], {"a.b/c": "a/b_c"}),
        ([listed("a/b", delimiter="")], {"a/b": "a_b"}),
        ([listed("a//b/")], {"a//b/": "a/b"}),
        ([listed("..\\..\\x", delimiter="\\")], {"..\\..\\x": "__/__/x"}),
        ([listed("inbox")], {"inbox": "INBOX"}),
        ([listed("b"), listed("Inbox/x")], {"b": "b", "Inbox/x": "INBOX/x"}),
        # all below INBOX, and nobody says so
        ([listed("INBOX", delimiter="."), listed("INBOX.a.b", delimiter=".")], {"INBOX": "INBOX", "INBOX.a.b": "a/b"}),
        # different there, different here
        ([listed("x*"), listed("x%"), listed("x_")], {"x*": "x_ (2)", "x%": "x_", "x_": "x_ (3)"}),
        # what holds nothing, and what shows what others hold
        ([listed("a", "\\noselect"), listed("All", "\\all"), listed("Stars", "\\flagged"), listed("b")], {"b": "b"}),
    ],
)
def test_where_folders_go(there: list[Listed], here: dict[str, str]) -> None:
    assert targets(plan(there, None, Choice())) == here


def test_namespaces() -> None:
    there = [listed(name, delimiter=".") for name in ("INBOX", "INBOX.a", "user.bob.x", "shared.y")]
    spaces = Namespaces(("INBOX.",), ("user.", "shared."))
    planned = plan(there, spaces, Choice())
    assert targets(planned) == {"INBOX": "INBOX", "INBOX.a": "a"}
    assert {each.left_out for each in planned if each.left_out} == {"it belongs to somebody else, or to all"}
    assert targets(plan(there, spaces, Choice(only=frozenset({"shared.y"})))) == {"shared.y": "shared/y"}


def test_what_was_asked_for_goes_before_what_would_be() -> None:
    there = [listed("a"), listed("b"), listed("b/c"), listed("Sent")]
    planned = plan(there, None, Choice(places={"b": "a"}, without=frozenset({"Sent"})))
    assert targets(planned) == {"a": "a (2)", "b": "a", "b/c": "a/c"}
    for choice in (Choice(only=frozenset({"x"})), Choice(places={"x": "y"}), Choice(places={"a": "x//y"})):
        with pytest.raises(InvalidInput):
            plan(there, None, choice)


def test_mailboxes_that_are_here() -> None:
    planned = plan([listed("Papierkorb"), listed("Ledger")], None, Choice(), {"\\Trash": "Bin"}, {"Ledger"})
    assert targets(planned) == {"Papierkorb": "Bin", "Ledger": "Ledger (2)"}


def test_no_folder_becomes_the_access_journal() -> None:
    """Whoever fills one there could forge what the server tells its owner here."""
    there = [listed(name) for name in ("Access journal", "access Journal/x", "Access journals", "a")]
    planned = plan(there, None, Choice())
    assert targets(planned) == {"Access journals": "Access journals", "a": "a"}
    assert {each.listed.name for each in planned if "kept for what this server writes" in each.left_out} == {
        "Access journal",
        "access Journal/x",
    }
    assert targets(plan(there, None, Choice(only=frozenset({"Access journal"})))) == {}
    assert targets(plan(there[:1], None, Choice(places={"Access journal": "Old"}))) == {"Access journal": "Old"}
    for place in ("Access journal", "access journal/x"):
        with pytest.raises(InvalidInput, match="Only the server"):
            plan(there, None, Choice(places={"a": place}))


@given(
    st.lists(
        st.tuples(st.text(max_size=40), st.sampled_from(["", "/", ".", "a"]), st.sampled_from(["\\sent", "\\all", ""])),
        max_size=8,
    )
)
def test_any_names_become_different_mailboxes(names: list[tuple[str, str, str]]) -> None:
    there = [
        Listed(f"{number}".encode(), name, delimiter, frozenset({attribute} - {""}))
        for number, (name, delimiter, attribute) in enumerate(names)
        if "\ud800" not in name
    ]
    planned = plan(there, None, Choice())
    moving = [each.mailbox for each in planned if not each.left_out]
    assert len(planned) == len(there) and len(set(moving)) == len(moving)
    assert all(new_name(name) == name for name in moving)


def test_dates_keep_the_zone_that_a_server_tells() -> None:
    """RFC 9051 §2.3.3: what IMAP tells of a message stays what it was."""
    east = timezone(timedelta(hours=5, minutes=45))
    assert zone_of(datetime(2007, 3, 24, tzinfo=east)) == 345
    assert zone_of(datetime(2007, 3, 24, tzinfo=timezone(timedelta(hours=-7)))) == -420
    assert zone_of(datetime(2007, 3, 24)) == zone_of("24-Mar-2007") == zone_of(None) == 0
