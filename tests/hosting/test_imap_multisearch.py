"""ESEARCH through many mailboxes (RFC 7377) and searches that are kept under a name (RFC 5466)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.searching import filters, multisearch
from storage.mail.annotations import SERVER, AnnotationLimits
from storage.mail.messages import NewMessage

PLACES = {
    "INBOX": ("apple", "pear", "plum"),
    "Archive": ("apple pie",),
    "Projects/One": ("a plum", "an apple"),
    "Projects/One/Deep": ("apple tree",),
    "Projects/Two": ("cherry",),
}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        with made.account() as account:
            names = {mailbox.name for mailbox in account.mailboxes.list()}
            for name, subjects in PLACES.items():
                place = account.mailboxes.find(name) if name in names else account.mailboxes.create(name)
                account.messages.append_many(place.id, [NewMessage(mail(subject)) for subject in subjects])
            account.mailboxes.subscribe("Projects/Two")
        yield made


def client(town: MailTown, select: str = "INBOX") -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode())
    if select:
        made.send(f"y SELECT {select}\r\n".encode())
    assert " OK " in made.receive(0)[-1]
    return made


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def keep(town: MailTown, **values: str) -> None:
    """Filters, as SETMETADATA keeps them."""
    with town.account() as account:
        entries = {filters.PRIVATE + name: value.encode() for name, value in values.items()}
        account.annotations.change(account.account_id, SERVER, entries, AnnotationLimits(100, 1 << 20))


def test_rfc_7377_2_2_sources(town: MailTown) -> None:
    play(
        client(town, select=""),
        """
        C: a ESEARCH IN (inboxes) SUBJECT apple
        S: * ESEARCH (TAG "a" MAILBOX "INBOX" UIDVALIDITY …) UID ALL 1
        S: a OK …
        C: b ESEARCH IN (personal) RETURN (COUNT MIN) SUBJECT apple
        S: * ESEARCH (TAG "b" MAILBOX "Archive" UIDVALIDITY …) UID MIN 1 COUNT 1
        S: * ESEARCH (TAG "b" MAILBOX "INBOX" UIDVALIDITY …) UID MIN 1 COUNT 1
        S: * ESEARCH (TAG "b" MAILBOX "Projects/One" UIDVALIDITY …) UID MIN 2 COUNT 1
        S: * ESEARCH (TAG "b" MAILBOX "Projects/One/Deep" UIDVALIDITY …) UID MIN 1 COUNT 1
        S: b OK …
        C: c ESEARCH IN (subtree-one Projects/One subtree Archive mailboxes (INBOX "Projects/One")) SUBJECT plum
        S: * ESEARCH (TAG "c" MAILBOX "Projects/One" UIDVALIDITY …) UID ALL 1
        S: * ESEARCH (TAG "c" MAILBOX "INBOX" UIDVALIDITY …) UID ALL 3
        S: c OK …
        C: d ESEARCH IN (subtree-one Projects) SUBJECT tree
        S: d OK …
        C: e ESEARCH IN (subtree Projects) SUBJECT tree
        S: * ESEARCH (TAG "e" MAILBOX "Projects/One/Deep" UIDVALIDITY …) UID ALL 1
        S: e OK …
        C: f ESEARCH IN (subscribed) SUBJECT cherry
        S: * ESEARCH (TAG "f" MAILBOX "Projects/Two" UIDVALIDITY …) UID ALL 1
        S: f OK …
        C: g ESEARCH IN (mailboxes ("nowhere" INBOX)) RETURN (PARTIAL 1:2) 1:100
        S: * ESEARCH (TAG "g" MAILBOX "INBOX" UIDVALIDITY …) UID PARTIAL (1:2 1:2)
        S: g OK …
        """,
    )


def test_rfc_7377_2_2_states(town: MailTown) -> None:
    """The selected mailbox is searched unless others are named; without one that is BAD, as SAVE of others is."""
    play(
        client(town, select=""),
        """
        C: a ESEARCH SUBJECT apple
        S: a BAD …
        C: b ESEARCH IN (selected) SUBJECT apple
        S: b BAD …
        C: c ESEARCH IN (inboxes) RETURN (UPDATE) SUBJECT apple
        S: c BAD …
        C: d ESEARCH IN (selected-delayed) ALL
        S: d BAD …
        C: e ESEARCH IN () ALL
        S: e BAD …
        C: f ESEARCH IN (mailboxes) ALL
        S: f BAD …
        C: g ESEARCH IN (personal
        S: g BAD …
        """,
    )
    play(
        client(town),
        """
        C: a ESEARCH SUBJECT p
        S: * ESEARCH (TAG "a" MAILBOX "INBOX" UIDVALIDITY …) UID ALL 1:3
        S: a OK …
        C: b ESEARCH IN (personal) RETURN (SAVE) ALL
        S: b BAD …
        C: c ESEARCH RETURN (SAVE) SUBJECT pear
        S: c OK …
        C: d SEARCH $
        S: * SEARCH 2
        S: d OK …
        C: e ESEARCH IN (mailboxes Archive) UID $
        S: e OK …
        C: f ESEARCH IN (selected inboxes) SUBJECT pear
        S: * ESEARCH (TAG "f" MAILBOX "INBOX" UIDVALIDITY …) UID ALL 2
        S: f OK …
        """,
    )


def test_rfc_7377_2_2_updates_of_the_selected_mailbox(town: MailTown) -> None:
    one = client(town)
    first = ask(one, "a ESEARCH IN (selected mailboxes Archive) RETURN (UPDATE COUNT) UNSEEN")
    assert [line.split()[5] for line in first[:2]] == ['"INBOX"', '"Archive"']
    assert ask(one, "b STORE 2 +FLAGS.SILENT (\\Seen)")[0] == (first[0].partition(" UID ")[0] + " UID REMOVEFROM (0 2)")
    assert ask(one, 'c CANCELUPDATE "a"')[0].startswith("c OK")


def test_rfc_7377_2_4_limits(town: MailTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multisearch, "RESULTS", 2)
    one = client(town)
    told = ask(one, "a ESEARCH IN (personal) SUBJECT p")
    assert len(told) == 3 and told[-1].startswith("a OK [LIMIT]")
    monkeypatch.setattr(multisearch, "MAILBOXES", 3)
    assert ask(one, "b ESEARCH IN (personal) ALL")[0].startswith("b NO [LIMIT]")
    many = " ".join(f"m{number}" for number in range(1200))
    assert ask(one, f"c ESEARCH IN (mailboxes ({many})) ALL")[0].startswith("c BAD")


def test_rfc_7377_2_2_and_5_mailboxes_of_others(town: MailTown) -> None:
    """Those that one may know of and read; all others are passed over like names that are not there."""
    bob = CoreClient(town.services)
    bob.send(f'x LOGIN bob@example.test "{PASSWORD}"\r\n'.encode())
    for name, granted in (("Team", "lr"), ("Team/Secret", "l"), ("Team/Plans", "lr"), ("Own", "")):
        ask(bob, f"a CREATE {name}")
        ask(bob, f"b DELETEACL {name} alice@example.test")
        assert ask(bob, f'c SETACL {name} alice@example.test "{granted}"')[-1].startswith("c OK")
        bob.send(b"d APPEND %b {18+}\r\nSubject: apple\r\n\r\n\r\n" % name.encode())
        assert bob.receive(0)[-1].startswith("d OK")
    one = client(town)
    root = "Other Users/bob@example.test"
    command = f'a ESEARCH IN (mailboxes ("{root}/Own" "{root}/Team/Secret" "{root}/Team" nowhere)) SUBJECT apple'
    assert [line.split('"')[3] for line in ask(one, command)[:-1]] == [f"{root}/Team"]
    for tree in ("Other Users", root, f"{root}/Team"):
        told = ask(one, f'b ESEARCH IN (subtree "{tree}") SUBJECT apple')
        assert [line.split('"')[3] for line in told[:-1]] == [f"{root}/Team", f"{root}/Team/Plans"], tree
    assert len(ask(one, f'c ESEARCH IN (subtree "{root}/Own" subtree-one "Other Users") ALL')) == 1
    assert len(ask(one, "d ESEARCH IN (personal) SUBJECT apple")) == 5


def test_what_arrives_is_found_elsewhere_and_told_later_here(town: MailTown) -> None:
    """A mailbox that is not selected is seen as it is; the selected one as the client was told (RFC 9051 §5.2)."""
    one = client(town)
    with town.account() as account:
        for name in ("INBOX", "Archive"):
            account.messages.append(account.mailboxes.find(name).id, mail("apple juice"))
    told = ask(one, "a ESEARCH IN (personal) SUBJECT juice")
    assert [line.split()[5] for line in told[:-1]] == ['"Archive"']


def test_rfc_5466_filters(town: MailTown) -> None:
    """§3.1: as if it were written out; names without case; within each other; $ and RETURN as ever."""
    keep(town, fruit='OR SUBJECT "apple" SUBJECT "pear"', new="UNSEEN FILTER fruit", newer="FILTER new NOT DELETED")
    play(
        client(town),
        """
        C: a SEARCH FILTER fruit
        S: * SEARCH 1 2
        S: a OK …
        C: b SEARCH NOT FILTER FRUIT
        S: * SEARCH 3
        S: b OK …
        C: c STORE 1 +FLAGS.SILENT (\\Seen)
        S: c OK …
        C: d UID SEARCH CHARSET UTF-8 2:3 FILTER newer
        S: * SEARCH 2
        S: d OK …
        C: e SORT (REVERSE SUBJECT) UTF-8 FILTER fruit
        S: * SORT 2 1
        S: e OK …
        C: f SEARCH RETURN (UPDATE) FILTER new
        S: * ESEARCH (TAG "f")
        S: f OK …
        C: g STORE 1 -FLAGS.SILENT (\\Seen)
        S: * ESEARCH (TAG "f") ADDTO (0 1)
        S: g OK …
        C: h THREAD REFS UTF-8 FILTER fruit
        S: * THREAD (1)(2)
        S: h OK …
        C: i ESEARCH IN (mailboxes Archive) FILTER fruit
        S: * ESEARCH (TAG "i" MAILBOX "Archive" …) UID ALL 1
        S: i OK …
        """,
    )


def test_rfc_5466_3_1_what_is_no_filter(town: MailTown) -> None:
    deep = {f"d{n}": f"FILTER d{n + 1}" for n in range(1, 4)}
    keep(town, half="OR SMALLER", loop="FILTER loop", nul="SUBJECT a\0b", open='SUBJECT "', d4="ALL", **deep)
    one = client(town)
    for name in ("nowhere", "half", "loop", "nul", "open"):
        assert ask(one, f"a SEARCH FILTER {name}")[0].startswith(f"a NO [UNDEFINED-FILTER {name}]"), name
    assert ask(one, "b SEARCH FILTER d1")[0].startswith("b NO [UNDEFINED-FILTER d4]")
    assert ask(one, "c SEARCH FILTER d2")[0] == "* SEARCH 1 2 3"
    assert ask(one, "d SEARCH FILTER a/b")[0].startswith("d BAD")
    assert ask(one, "e SEARCH CHARSET ISO-8859-1 FILTER d2")[0].startswith("e BAD [BADCHARSET")
    assert ask(one, "f SEARCH RETURN (SAVE) ALL")[0].startswith("f OK")
    assert ask(one, "g SEARCH RETURN (SAVE) FILTER nowhere")[0].startswith("g NO")
    assert ask(one, "h SEARCH $")[0] == "* SEARCH"
    for refused in ("FILTER nowhere", "CHARSET X-ODD ALL"):  # RFC 7377 §2.2: ESEARCH as SEARCH (RFC 5182 §2.1)
        assert ask(one, "i SEARCH RETURN (SAVE) ALL")[0].startswith("i OK")
        assert ask(one, f"j ESEARCH IN (selected) RETURN (SAVE) {refused}")[0].startswith("j NO")
        assert ask(one, "k SEARCH $")[0] == "* SEARCH"
    assert ask(one, "l SEARCH RETURN (SAVE) ALL")[0].startswith("l OK")
    assert ask(one, "m ESEARCH IN (personal) RETURN (SAVE) ALL")[0].startswith("m BAD")
    assert ask(one, "n SEARCH $")[0] == "* SEARCH 1 2 3"


def test_filters_that_multiply_are_bounded(town: MailTown) -> None:
    wide = " ".join(["FILTER two"] * 200)
    keep(town, one=wide, two=wide.replace("two", "three"), three="ALL")
    assert ask(client(town), "a SEARCH FILTER one")[0].startswith("a NO [LIMIT]")


def test_a_shared_filter_stands_behind_the_own_one(town: MailTown) -> None:
    """RFC 5466 §3.2."""
    with town.account() as account:
        entries = {filters.SHARED + "f": b"SUBJECT apple", filters.SHARED + "g": b"SUBJECT plum"}
        account.annotations.change(account.account_id, SERVER, dict(entries), AnnotationLimits(100, 1 << 20))
    keep(town, f="SUBJECT pear")
    one = client(town)
    assert ask(one, "a SEARCH FILTER f")[0] == "* SEARCH 2"
    assert ask(one, "b SEARCH FILTER g")[0] == "* SEARCH 3"
