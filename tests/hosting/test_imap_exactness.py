"""What Dovecot's ImapTest looks at and other dialogues here do not: small rules of LIST and SEARCH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient
from imap_town import MailTown, mail, new_mail_town


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    folder: Path = tmp_path_factory.mktemp("exactness")
    with new_mail_town(folder) as town:
        yield town


@pytest.fixture
def client(town: MailTown) -> Iterator[CoreClient]:
    client = CoreClient(town.services)
    client.send(b'a LOGIN alice@example.test "correct horse"\r\n')
    client.receive(0)
    yield client
    client.close()


def _ask(client: CoreClient, *commands: str) -> list[str]:
    for command in commands:
        client.send(b"b " + command.encode() + b"\r\n")
    lines = client.receive(0)
    assert lines[-1].startswith("b OK"), lines
    return [line for line in lines if line.startswith("*")]


def test_recursivematch_names_no_parent_whose_children_are_all_listed(client: CoreClient) -> None:
    """RFC 5258 §3.5, and the example of §5: foo2 stands for children that do not match, baz2 would be redundant."""
    _ask(client, "CREATE foo2/bar1", "CREATE foo2/bar2", "CREATE baz2/bar2", "CREATE baz2/bar22")
    _ask(client, *(f"SUBSCRIBE {name}" for name in ("foo2/bar1", "foo2/bar2", "baz2/bar2", "baz2/bar22")))
    assert _ask(client, 'LIST (RECURSIVEMATCH SUBSCRIBED) "" "*2"') == [
        '* LIST (\\Subscribed \\HasNoChildren) "/" "baz2/bar2"',
        '* LIST (\\Subscribed \\HasNoChildren) "/" "baz2/bar22"',
        '* LIST (\\HasChildren) "/" "foo2" ("CHILDINFO" ("SUBSCRIBED"))',
        '* LIST (\\Subscribed \\HasNoChildren) "/" "foo2/bar2"',
    ]


def test_nonexistent_says_noselect_to_those_who_know_it(client: CoreClient) -> None:
    r"""RFC 5258 §3: \NonExistent implies \Noselect; a plain LIST has both."""
    _ask(client, "CREATE gone", "SUBSCRIBE gone", "DELETE gone")
    assert _ask(client, 'LIST (SUBSCRIBED) "" gone') == [
        '* LIST (\\Subscribed \\HasNoChildren \\NonExistent) "/" "gone"'
    ]


def test_addresses_are_found_whatever_comments_stand_in_them(client: CoreClient) -> None:
    """RFC 9051 §6.4.4: FROM looks at the address as the envelope has it."""
    message = mail("Comments", sender="<user-from (work)@ (here) domain.example>")
    client.send(b"c APPEND INBOX {%d+}\r\n%b\r\n" % (len(message), message))
    client.receive(0)
    assert _ask(client, "EXAMINE INBOX", "SEARCH FROM user-from@domain.example")[-1] == "* SEARCH 1"
    assert _ask(client, 'SEARCH FROM "(work)"') == ["* SEARCH 1"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("FLAGGED 2:4", "3"),
        ("2:4 FLAGGED", "3"),
        ("FLAGGED 2,4", ""),
        ("FLAGGED 3:*", "3 5"),
        ("OR (FLAGGED 2:4) 2", "2 3"),
        ("UID 2:4 FLAGGED", "3"),
        ("NOT 1:2 FLAGGED", "3 5"),
    ],
)
def test_a_set_among_other_keys_is_the_set(client: CoreClient, search: str, found: str) -> None:
    """RFC 9051 §6.4.4: all keys must match, also where as many messages match one key as the set has numbers."""
    if not _ask(client, 'LIST "" sets'):
        _ask(client, "CREATE sets")
        message = mail("set")
        for flags in ("(\\Flagged)", "()") * 3:
            client.send(b"c APPEND sets %b {%d+}\r\n%b\r\n" % (flags.encode(), len(message), message))
            client.receive(0)
    lines = _ask(client, "EXAMINE sets", f"SEARCH {search}")
    assert lines[-1] == f"* SEARCH {found}".rstrip()
