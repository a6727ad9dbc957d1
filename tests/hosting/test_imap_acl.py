"""Rights: the table of RFC 4314, and the commands about them as dialogues on the core.

In every dialogue alice has shared nothing yet; bob@ and carol@ are of her tenant, mallory@ is not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, new_mail_town

from hosting.imap.capability_table import TABLE
from hosting.imap.sharing import rights
from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    """For all dialogues: each leaves nothing shared."""
    with new_mail_town(tmp_path_factory.mktemp("acl")) as town:
        town.new_account(town.accounts["bob@example.test"][0], "carol@example.test")
        yield town


def signed_in(town: MailTown, who: str = "alice@example.test") -> CoreClient:
    client = CoreClient(town.services)
    client.send(f'x LOGIN {who} "{PASSWORD}"\r\n'.encode())
    assert client.receive(2)[-1].startswith("x OK")
    return client


class TestTable:
    """RFC 4314 §2 and §4, without a server."""

    @pytest.mark.parametrize(
        ("text", "how", "letters"),
        [
            ("lrs", "replace", "lrs"),
            ("srl", "replace", "lrs"),
            ("+cda", "add", "kxtea"),
            ("-d", "remove", "te"),
            ("", "replace", ""),
            ("+", "add", ""),
            ("lrswida", "replace", "lrswitea"),
            ("llll", "replace", "l"),
        ],
    )
    def test_modifications(self, text: str, how: str, letters: str) -> None:
        assert rights.modification(text) == (how, letters)

    @pytest.mark.parametrize("text", ["lrQ", "q", "L", "0", "l r", "+-l", "++l", "l+", "ł", "*"])
    def test_unknown_rights_are_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            rights.modification(text)

    @pytest.mark.parametrize(
        ("letters", "told"),
        [
            ("lrs", "lrs"),
            ("lrswite", "lrswited"),
            ("lrk", "lrkc"),
            ("x", "xc"),
            ("t", "td"),
            (rights.ALL, "lrswipkxtecda"),
            ("la", "la"),
            ("", ""),
        ],
    )
    def test_obsolete_rights_are_told_with_any_of_their_members(self, letters: str, told: str) -> None:
        """RFC 4314 §2.1.1, §5.1.1."""
        assert rights.told(letters) == told

    @given(st.sets(st.sampled_from(rights.ALL)), st.sets(st.sampled_from("lrswipkxteacd")))
    def test_what_is_told_gives_the_same_rights_or_their_whole_union(self, had: set[str], asked: set[str]) -> None:
        letters = "".join(each for each in rights.ALL if each in had)
        assert set(letters) <= set(rights.written(rights.told(letters)))
        assert rights.written("".join(asked)) == rights.written(rights.told(rights.written("".join(asked)))) or (
            not {"k", "x"} <= asked or not {"t", "e"} <= asked
        )

    @pytest.mark.parametrize(
        ("letters", "bits", "keywords"),
        [
            ("lrswipkxtea", ANSWERED | FLAGGED | DELETED | SEEN | DRAFT, ("$Forwarded",)),
            ("rwis", ANSWERED | FLAGGED | SEEN | DRAFT, ("$Forwarded",)),  # the first example of §4
            ("rsti", DELETED | SEEN, ()),  # and the second
            ("ri", 0, ()),
            ("w", ANSWERED | FLAGGED | DRAFT, ("$Forwarded",)),
        ],
    )
    def test_flags_that_may_be_set(self, letters: str, bits: int, keywords: tuple[str, ...]) -> None:
        every = ANSWERED | FLAGGED | DELETED | SEEN | DRAFT
        assert rights.permitted(letters, every, ["$Forwarded"]) == (bits, keywords)

    @pytest.mark.parametrize(
        ("letters", "writes"), [("lr", False), ("lrpkxa", False)] + [(f"lr{c}", True) for c in "swtie"]
    )
    def test_read_write(self, letters: str, writes: bool) -> None:
        assert rights.is_read_write(letters) is writes

    def test_the_capability_names_what_rfc_2086_did_not_have(self) -> None:
        """§2.2 and §5.1.1."""
        assert f"RIGHTS={rights.NEW}" in {row.word for row in TABLE}
        assert set(rights.NEW) == set(rights.ALL) - set("lrswipa")

    def test_every_needed_right_is_one(self) -> None:
        assert set("".join(rights.NEEDED.values())) <= set(rights.ALL)


DIALOGUES: dict[str, str] = {
    "SETACL, GETACL, DELETEACL (RFC 4314 §3.1 to §3.3)": """
        C: a GETACL INBOX
        S: * ACL "INBOX" "alice@example.test" lrswipkxtecda
        S: a OK …
        C: b SETACL inbox bob@example.test lrs
        S: b OK …
        C: c SETACL INBOX bob@example.test +wd
        S: c OK …
        C: d SETACL INBOX anyone l
        S: d OK …
        C: e GETACL INBOX
        S: * ACL "INBOX" "alice@example.test" lrswipkxtecda anyone l "bob@example.test" lrswted
        S: e OK …
        C: f SETACL INBOX bob@example.test -wt
        S: f OK …
        C: g GETACL INBOX
        S: * ACL "INBOX" "alice@example.test" lrswipkxtecda anyone l "bob@example.test" lrsed
        S: g OK …
        C: h DELETEACL INBOX bob@example.test
        S: h OK …
        C: i DELETEACL INBOX bob@example.test
        S: i OK …
        C: j SETACL INBOX anyone ""
        S: j OK …
        C: k GETACL INBOX
        S: * ACL "INBOX" "alice@example.test" lrswipkxtecda
        S: k OK …
        """,
    "what is refused (RFC 4314 §2, §3, §3.1)": """
        C: a SETACL INBOX bob@example.test lrQs
        S: a BAD There is no such right…
        C: b SETACL INBOX bob@example.test lrq
        S: b BAD …
        C: c SETACL INBOX bob@example.test 0
        S: c BAD …
        C: d SETACL INBOX "" lr
        S: d BAD …
        C: e SETACL INBOX -bob@example.test w
        S: e NO [CANNOT] …
        C: f SETACL INBOX alice@example.test lr
        S: f NO [CANNOT] …
        C: g DELETEACL INBOX alice@example.test
        S: g NO [CANNOT] …
        C: h SETACL INBOX nobody@example.test lr
        S: h NO [NONEXISTENT] …
        C: i SETACL INBOX mallory@other.test lr
        S: i NO [NONEXISTENT] …
        C: j SETACL Nowhere bob@example.test lr
        S: j NO [NONEXISTENT] …
        C: k SETACL INBOX bob@example.test
        S: k BAD …
        C: l GETACL
        S: l BAD …
        C: m LISTRIGHTS INBOX
        S: m BAD …
        C: n MYRIGHTS Nowhere
        S: n NO [NONEXISTENT] …
        C: o GETACL INBOX
        S: * ACL "INBOX" "alice@example.test" lrswipkxtecda
        S: o OK …
        """,
    "LISTRIGHTS and MYRIGHTS (RFC 4314 §3.4, §3.5)": """
        C: a LISTRIGHTS INBOX bob@example.test
        S: * LISTRIGHTS "INBOX" "bob@example.test" "" l r s w i p k x t e c d a
        S: a OK …
        C: b LISTRIGHTS INBOX anyone
        S: * LISTRIGHTS "INBOX" anyone "" l r s w i p k x t e c d a
        S: b OK …
        C: c LISTRIGHTS INBOX Alice@Example.test
        S: * LISTRIGHTS "INBOX" "Alice@Example.test" lrswipkxtecda
        S: c OK …
        C: d MYRIGHTS INBOX
        S: * MYRIGHTS "INBOX" lrswipkxtecda
        S: d OK …
        C: e LISTRIGHTS INBOX mallory@other.test
        S: e NO [NONEXISTENT] …
        """,
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(town: MailTown, name: str) -> None:
    play(signed_in(town), DIALOGUES[name])


def test_hostile_arguments(town: MailTown) -> None:
    """Bounded, and answered BAD or NO; nothing of it is kept."""
    client = signed_in(town)
    for identifier in ("x" * 600, "a@" + "b." * 200 + "test", "\u200bbob@example.test", "*", "%", "bob@example.test/"):
        octets = identifier.encode()
        client.send(b"a SETACL INBOX {%d+}\r\n%b lr\r\n" % (len(octets), octets))
        assert client.receive(1)[-1].startswith(("a BAD", "a NO")), identifier
    for line in (
        b"a SETACL INBOX bob@example.test " + b"l" * 101,
        b"a SETACL INBOX \xff\xfe lr",
        b'a SETACL INBOX "bob@example.test\x01" lr',
        b"a SETACL INBOX bob@example.test lr extra",
        b"a SETACL INBOX (bob@example.test) lr",
        b"a MYRIGHTS " + b"Other Users/" * 3000,
        b'a MYRIGHTS "' + b"Other Users/" + b"x/" * 4000 + b'"',
        b"a GETACL INBOX INBOX",
        b"a LISTRIGHTS INBOX bob@example.test lr",
    ):
        client.send(line + b"\r\n")
        assert client.receive(1)[-1].startswith(("a BAD", "a NO")), line[:40]
    play(client, 'C: b GETACL INBOX\nS: * ACL "INBOX" "alice@example.test" lrswipkxtecda\nS: b OK …')


@pytest.mark.parametrize("command", ["SETACL INBOX a@b lr", "GETACL INBOX", "MYRIGHTS INBOX", "LISTRIGHTS INBOX a@b"])
def test_nobody_asks_before_sign_in(town: MailTown, command: str) -> None:
    client = CoreClient(town.services)
    client.receive(1)
    play(client, f"C: a {command}\nS: a BAD …")
