"""UIDBATCHES (RFC 10022): dialogues on the core, the sessions of others, hostile arguments, and the arithmetic.

A mailbox of 1,250 messages with UIDs 1 to 1250; of 1,244 after six of them are gone.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.limits import Limits
from hosting.imap.searching import uid_batches
from storage.mail.messages import NewMessage


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("batches"), Limits(uid_only=True)) as made:
        with made.account() as account:
            account.mailboxes.create("Empty")
            account.mailboxes.create("Six")
            inbox, six = account.mailboxes.find("INBOX"), account.mailboxes.find("Six")
            account.messages.append_many(inbox.id, [NewMessage(mail(f"Number {n}")) for n in range(50)])
            account.messages.append_many(six.id, [NewMessage(mail(f"Number {n}")) for n in range(6)])
        one = client(made)
        ask(one, "a SELECT INBOX")
        for until in (*(50,) * 20, 200):
            ask(one, f"b COPY 1:{until} INBOX")
        assert ask(one, "c STATUS INBOX (MESSAGES)")[0].endswith("(MESSAGES 1250)")
        one.close()
        yield made


def client(town: MailTown) -> CoreClient:
    made = CoreClient(town.services)
    assert ask(made, f'x LOGIN alice@example.test "{PASSWORD}"')[-1].startswith("x OK")
    return made


@pytest.fixture
def alice(town: MailTown) -> Iterator[CoreClient]:
    made = client(town)
    yield made
    made.close()


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def selected(one: CoreClient, mailbox: str = "INBOX") -> CoreClient:
    assert ask(one, f"y EXAMINE {mailbox}")[-1].startswith("y OK")
    return one


DIALOGUES = {
    "all batches, newest first, down to UID 1 (RFC 10022 §3.1, §3.1.2, §3.1.4)": """
        C: a UIDBATCHES 500
        S: * UIDBATCHES (TAG "a") 1250:751,750:251,250:1
        S: a OK …
        C: b UIDBATCHES 1250
        S: * UIDBATCHES (TAG "b") 1250:1
        S: b OK …
        C: c UIDBATCHES 1249
        S: * UIDBATCHES (TAG "c") 1250:2,1:1
        S: c OK …
        C: d UIDBATCHES 4294967295
        S: * UIDBATCHES (TAG "d") 1250:1
        S: d OK …
    """,
    "a range of batches; those beyond the last are none (RFC 10022 §3.1.5, §3.1.6)": """
        C: a UIDBATCHES 500 1:1
        S: * UIDBATCHES (TAG "a") 1250:751
        S: a OK …
        C: b UIDBATCHES 500 2:3
        S: * UIDBATCHES (TAG "b") 750:251,250:1
        S: b OK …
        C: c UIDBATCHES 500 3:9
        S: * UIDBATCHES (TAG "c") 250:1
        S: c OK …
        C: d UIDBATCHES 500 4:4
        S: * UIDBATCHES (TAG "d")
        S: d OK …
        C: e UIDBATCHES 500 4294967295:4294967295
        S: * UIDBATCHES (TAG "e")
        S: e OK …
    """,
    "the least size of a batch (RFC 10022 §3.1.3.2)": """
        C: a UIDBATCHES 499
        S: a NO [TOOFEW] …
        C: b UIDBATCHES 1 1:1
        S: b NO [TOOFEW] …
    """,
    "a range that covers more than 100,000 messages (RFC 10022 §3.1.5, §3.1.7)": """
        C: a UIDBATCHES 500 1:200
        S: * UIDBATCHES (TAG "a") 1250:751,750:251,250:1
        S: a OK …
        C: b UIDBATCHES 500 1:201
        S: b NO [TOOMANY] …
        C: c UIDBATCHES 4294967295 1:4294967295
        S: c NO [TOOMANY] …
    """,
    "what is no command (RFC 10022 §4)": """
        C: a UIDBATCHES
        S: a BAD …
        C: b UIDBATCHES x
        S: b BAD …
        C: c UIDBATCHES 0
        S: c BAD …
        C: d UIDBATCHES 4294967296
        S: d BAD …
        C: e UIDBATCHES 500 2
        S: e BAD …
        C: f UIDBATCHES 500 0:2
        S: f BAD …
        C: g UIDBATCHES 500 1:*
        S: g BAD …
        C: h UIDBATCHES 500 1:2 3
        S: h BAD …
        C: i UID UIDBATCHES 500
        S: i BAD …
        C: j UIDBATCHES 500 2:1
        S: j BAD [CLIENTBUG] …
        C: k UIDBATCHES 500 1:99999999999
        S: k BAD …
        C: l UIDBATCHES 500 1:1,3:3
        S: l BAD …
        C: m UIDBATCHES  500
        S: m BAD …
        C: n UIDBATCHES {3+}
        C: 500
        S: n BAD …
        C: o uidbatches 500 3:3
        S: * UIDBATCHES (TAG "o") 250:1
        S: o OK …
    """,
    "what is saved stays, and the ranges name messages (RFC 10022 §3.4, RFC 5182 §2.1)": """
        C: a UID SEARCH RETURN (SAVE) UID 7
        S: a OK …
        C: b UIDBATCHES 500
        S: * UIDBATCHES (TAG "b") 1250:751,750:251,250:1
        S: b OK …
        C: c UID SEARCH RETURN (COUNT) $
        S: * ESEARCH (TAG "c") UID COUNT 1
        S: c OK …
        C: d UID SEARCH RETURN (COUNT MIN MAX) UID 750:251
        S: * ESEARCH (TAG "d") UID MIN 251 MAX 750 COUNT 500
        S: d OK …
    """,
    "with UIDONLY, where nothing else parts a mailbox (RFC 10022 §3.3, RFC 9586 §3)": """
        C: a ENABLE UIDONLY
        S: * ENABLED UIDONLY
        S: a OK …
        C: b UIDBATCHES 1000 1:2
        S: * UIDBATCHES (TAG "b") 1250:251,250:1
        S: b OK …
    """,
    "in IMAP4rev2 and with QRESYNC (RFC 10022 §1)": """
        C: a ENABLE IMAP4rev2 QRESYNC
        S: * ENABLED IMAP4rev2 QRESYNC
        S: a OK …
        C: b UIDBATCHES 600 2:2
        S: * UIDBATCHES (TAG "b") 650:51
        S: b OK …
    """,
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogues(alice: CoreClient, name: str) -> None:
    play(selected(alice), DIALOGUES[name])


def test_small_and_empty_mailboxes(alice: CoreClient) -> None:
    """RFC 10022 §3.1.3.3.1, §3.1.6: one batch for all, and none at all, which is told."""
    play(
        selected(alice, "Six"),
        """
        C: a UIDBATCHES 1000
        S: * UIDBATCHES (TAG "a") 6:1
        S: a OK …
        C: b UIDBATCHES 1000 1:2
        S: * UIDBATCHES (TAG "b") 6:1
        S: b OK …
        C: c UIDBATCHES 1000 4:1
        S: c BAD …
        C: d UIDBATCHES 100
        S: d NO [TOOFEW] …
        """,
    )
    play(selected(alice, "Empty"), 'C: e UIDBATCHES 1000\nS: * UIDBATCHES (TAG "e")\nS: e OK …')


def test_only_with_a_mailbox_selected(town: MailTown, alice: CoreClient) -> None:
    """RFC 10022 §3.1, §4: a command of the selected state; the word is told after sign-in."""
    assert "UIDBATCHES" in ask(alice, "a CAPABILITY")[0].split()
    play(alice, "C: b UIDBATCHES 500\nS: b BAD …")
    stranger = CoreClient(town.services)
    assert ask(stranger, "c UIDBATCHES 500")[-1].startswith("c BAD")
    assert "UIDBATCHES" not in ask(stranger, "d CAPABILITY")[0].split()
    stranger.close()


def test_batches_are_of_what_the_client_was_told(town: MailTown, alice: CoreClient) -> None:
    """RFC 10022 §3.1.3.3.3, RFC 9051 §7.5.1: what others expunge and bring changes the batches when it is told."""
    ask(alice, "a CREATE Shifting")
    ask(alice, "b SELECT INBOX")
    ask(alice, "c COPY 1:1005 Shifting")
    ask(alice, "d SELECT Shifting")
    other = client(town)
    ask(other, "a SELECT Shifting")
    ask(other, r"b STORE 1,500,1001:1003 +FLAGS.SILENT (\Deleted)")
    assert ask(other, "c EXPUNGE")[-1].startswith("c OK")
    ask(other, f"d APPEND Shifting {{{len(mail('new'))}+}}\r\n{mail('new').decode()}")
    assert ask(alice, "e NOOP")[-1].startswith("e OK")  # EXPUNGE and EXISTS are told here
    play(
        alice,
        """
        # 1001 messages are left: 2 to 499, 501 to 1000, 1004 to 1006
        C: f UIDBATCHES 500
        S: * UIDBATCHES (TAG "f") 1006:504,503:3,2:1
        S: f OK …
        """,
    )
    ask(other, r"e STORE 1 +FLAGS.SILENT (\Deleted)")
    ask(other, "f EXPUNGE")
    answer = ask(alice, "g UIDBATCHES 500")
    assert answer[0] == '* UIDBATCHES (TAG "g") 1006:504,503:3,2:1'  # the picture that the client has
    assert answer[1] == "* 1 EXPUNGE"  # a command without numbers may tell it
    assert ask(alice, "h UIDBATCHES 500")[0] == '* UIDBATCHES (TAG "h") 1006:504,503:1'
    other.close()


def test_a_tag_that_has_to_be_quoted(alice: CoreClient) -> None:
    """RFC 10022 §4, RFC 4466 §2.6.2: the correlator is a string, whatever a tag may have in it."""
    selected(alice, "Six")
    assert ask(alice, "a]'b UIDBATCHES 500")[0] == '* UIDBATCHES (TAG "a]\'b") 6:1'


@given(
    st.sets(st.integers(1, 5000), max_size=300),
    st.integers(1, 400),
    st.none() | st.tuples(st.integers(1, 9), st.integers(0, 9)),
)
def test_batches_part_a_mailbox(uids: set[int], size: int, wanted: tuple[int, int] | None) -> None:
    """RFC 10022 §3.1.3.3, §3.1.4: full batches, side by side, each UID in exactly one; a range is a part of them."""
    told = array("I", sorted(uids))
    every = list(uid_batches.batches(told, len(told), size, 1, None))
    bounds = [high for high, _ in every]
    assert bounds == sorted(bounds, reverse=True)
    assert all(high == low - 1 for (_, low), (high, _) in pairwise(every))
    counts = [sum(low <= uid <= high for uid in uids) for high, low in every]
    assert counts[:-1] == [size] * len(counts[:-1])
    assert sum(counts) == len(uids)
    assert not every or (every[0][0], every[-1][1]) == (max(uids), 1)
    if wanted is not None:
        first, last = wanted[0], sum(wanted)
        assert list(uid_batches.batches(told, len(told), size, first, last)) == every[first - 1 : last]


def test_only_the_ends_of_batches_are_looked_at() -> None:
    """200,000 messages in batches of 500: at most two look-ups for each."""

    class Counted(Sequence[int]):
        looked = 0

        def __len__(self) -> int:
            return 200_000

        def __getitem__(self, at: int) -> int:  # type: ignore[override]
            self.looked += 1
            return at * 3 + 1

    uids = Counted()
    found = list(uid_batches.batches(uids, len(uids), 500, 1, None))
    assert (len(found), found[0], found[-1]) == (400, (599_998, 598_501), (1_500, 1))
    assert uids.looked <= 800
