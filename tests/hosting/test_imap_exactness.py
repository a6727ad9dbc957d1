"""What Dovecot's ImapTest looks at and other dialogues here do not: small rules of LIST and SEARCH."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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


_FLAGS_OF = {1: {"SEEN"}, 2: {"FLAGGED"}, 3: {"SEEN", "FLAGGED"}, 4: set(), 5: {"FLAGGED"}, 6: {"SEEN"}, 7: {"FLAGGED"}}
_GONE = {2, 5}  # of what the client still knows
_Program = tuple[str, frozenset[int]]  # a search, and the messages that it means

_numbers = st.integers(1, 7)
_ranges = st.lists(st.tuples(_numbers, _numbers), min_size=1, max_size=3)


def _set(pairs: list[tuple[int, int]], prefix: str) -> _Program:
    meant = frozenset(number for low, high in pairs for number in range(min(low, high), max(low, high) + 1))
    return prefix + ",".join(f"{low}:{high}" if low != high else str(low) for low, high in pairs), meant


def _flag(word: str, unset: bool) -> _Program:
    return ("UN" if unset else "") + word, frozenset(n for n, flags in _FLAGS_OF.items() if (word in flags) != unset)


def _all_of(programs: list[_Program]) -> _Program:
    texts, meant = zip(*programs, strict=True)
    return f"({' '.join(texts)})", frozenset.intersection(*meant)


_programs = st.recursive(
    st.one_of(
        _ranges.map(lambda pairs: _set(pairs, "")),
        _ranges.map(lambda pairs: _set(pairs, "UID ")),
        st.builds(_flag, st.sampled_from(["SEEN", "FLAGGED"]), st.booleans()),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(
            lambda all_: (
                f"({' '.join(text for text, _ in all_)})",
                frozenset.intersection(*(set_ for _, set_ in all_)),
            )
        ),
        inner.map(lambda one: (f"NOT {one[0]}", frozenset(_FLAGS_OF) - one[1])),
        st.tuples(inner, inner).map(lambda two: (f"OR {two[0][0]} {two[1][0]}", two[0][1] | two[1][1])),
    ),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def knowing(town: MailTown) -> Iterator[tuple[CoreClient, CoreClient]]:
    """Two sessions in a mailbox of seven messages: the second does not know yet that two of them are gone."""
    clients = [CoreClient(town.services) for _ in range(2)]
    for client in clients:
        client.send(b'a LOGIN alice@example.test "correct horse"\r\n')
        client.receive(0)
    _ask(clients[0], "CREATE programs")
    octets = mail("x")
    for flags in _FLAGS_OF.values():
        written = " ".join(f"\\{flag}" for flag in flags).encode()
        clients[0].send(b"c APPEND programs (%b) {%d+}\r\n%b\r\n" % (written, len(octets), octets))
    clients[0].receive(0)
    for client in clients:
        _ask(client, "SELECT programs")
    yield clients[0], clients[1]
    for client in clients:
        client.close()


@pytest.mark.parametrize("stale", [False, True])
def test_any_program_finds_what_it_means(knowing: tuple[CoreClient, CoreClient], stale: bool) -> None:
    """RFC 9051 §6.4.4; of messages that another session expunged nothing is found, and numbers hold (RFC 2180 §4.3)."""
    one, other = knowing
    if stale:
        _ask(one, "STORE 2,5 +FLAGS.SILENT (\\Deleted)", "NOOP")
        _ask(other, "NOOP")
        _ask(one, "EXPUNGE")

    @given(_programs, st.sampled_from(["", " RETURN (ALL)"]))
    @settings(deadline=None, max_examples=150)
    def finds(program: _Program, returned: str) -> None:
        text, meant = program
        (line,) = _ask(other, f"SEARCH{returned} {text}")
        found = line.partition(" ALL ")[2] if returned else line.removeprefix("* SEARCH").strip().replace(" ", ",")
        spans = [each.partition(":") for each in found.split(",") if each]
        numbers = {n for low, _, high in spans for n in range(int(low), int(high or low) + 1)}
        assert numbers == meant - (_GONE if stale else set()), text

    finds()
