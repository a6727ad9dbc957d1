"""INTERNALDATE: the zone that APPEND came with is told again, goes along with copies, and decides what day it was.

Searches by day disregard time and zone (RFC 9051 §6.4.4): the day counts that INTERNALDATE shows. Order and age are
those of the instant. Dovecot's ImapTest asks so in its group search-intdate.
"""

from __future__ import annotations

from collections.abc import Iterator
from time import gmtime, strftime

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

DATES = (  # the clocks of Helsinki go forward on 25 March 2007, and back on 28 October
    "24-Mar-2007 23:00:00 +0200",
    "25-Mar-2007 00:00:00 +0200",
    "25-Mar-2007 02:00:00 +0200",
    "25-Mar-2007 04:00:00 +0300",
    "25-Mar-2007 23:00:00 +0300",
    "26-Mar-2007 00:00:00 +0300",
    "27-Oct-2007 23:00:00 +0300",
    "28-Oct-2007 00:00:00 +0300",
    "28-Oct-2007 03:00:00 +0300",
    "28-Oct-2007 03:00:00 +0200",
    "28-Oct-2007 23:00:00 +0200",
    "29-Oct-2007 00:00:00 +0200",
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("dates")) as made:
        one = client(made)
        for date in DATES:
            append(one, "INBOX", date)
        one.close()
        yield made


@pytest.fixture
def alice(town: MailTown) -> Iterator[CoreClient]:
    made = client(town)
    assert ask(made, "x SELECT INBOX")[-1].startswith("x OK")
    yield made
    made.close()


def client(town: MailTown, name: str = "alice") -> CoreClient:
    made = CoreClient(town.services)
    assert ask(made, f'x LOGIN {name}@example.test "{PASSWORD}"')[-1].startswith("x OK")
    return made


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def append(one: CoreClient, mailbox: str, date: str) -> None:
    answer = ask(one, f'x APPEND {mailbox} "{date}" {{{len(mail("x"))}+}}\r\n{mail("x").decode()}')
    assert answer[-1].startswith("x OK"), answer


def dates(one: CoreClient, command: str = "x FETCH 1:* INTERNALDATE") -> list[str]:
    return [line.split('"')[1] for line in ask(one, command) if "INTERNALDATE" in line]


def test_what_append_says_fetch_tells(alice: CoreClient) -> None:
    """RFC 9051 §6.3.12: the date of APPEND is the internal date."""
    assert dates(alice) == list(DATES)


DAYS = {
    "BEFORE 24-Mar-2007": "",
    "BEFORE 25-Mar-2007": "1",
    "BEFORE 26-Mar-2007": "1 2 3 4 5",
    "ON 24-Mar-2007": "1",
    "ON 25-Mar-2007": "2 3 4 5",
    "ON 26-Mar-2007": "6",
    "1:6 SINCE 25-Mar-2007": "2 3 4 5 6",
    "1:6 SINCE 26-Mar-2007": "6",
    "7:* BEFORE 28-Oct-2007": "7",
    "7:* ON 28-Oct-2007": "8 9 10 11",
    "7:* NOT BEFORE 29-Oct-2007": "12",
}


@pytest.mark.parametrize("keys", DAYS)
def test_days_are_those_that_are_shown(alice: CoreClient, keys: str) -> None:
    """RFC 9051 §6.4.4: BEFORE, ON and SINCE disregard time and timezone."""
    assert ask(alice, f"a SEARCH {keys}")[0] == f"* SEARCH {DAYS[keys]}".rstrip()


def test_others_expunge_while_days_are_searched_for(town: MailTown, alice: CoreClient) -> None:
    """RFC 9051 §7.5.1: by the numbers that the client has, before it is told."""
    ask(alice, "a CREATE Days")
    ask(alice, "b COPY 1:6 Days")
    ask(alice, "c SELECT Days")
    other = client(town)
    ask(other, "a SELECT Days")
    ask(other, r"b STORE 2 +FLAGS.SILENT (\Deleted)")
    ask(other, "c EXPUNGE")
    assert ask(alice, "d SEARCH ON 25-Mar-2007")[0] == "* SEARCH 3 4 5"
    ask(alice, "e NOOP")
    assert ask(alice, "f SEARCH ON 25-Mar-2007")[0] == "* SEARCH 2 3 4"
    other.close()


def test_order_and_age_are_those_of_the_instant(town: MailTown, alice: CoreClient) -> None:
    """RFC 5256 §3 (ARRIVAL), RFC 5032 §3: 23:30 in New York comes after 5:00 in Helsinki."""
    ask(alice, "a CREATE Order")
    now = town.clock.now()

    append(alice, "Order", "01-Jan-2020 23:30:00 -0500")
    append(alice, "Order", "02-Jan-2020 05:00:00 +0200")
    append(alice, "Order", strftime("%d-%b-%Y %H:%M:%S +1400", gmtime(now - 100 + 14 * 3600)))
    play(
        selected(alice, "Order"),
        """
        C: b SORT (ARRIVAL) UTF-8 ALL
        S: * SORT 2 1 3
        S: b OK …
        C: c SEARCH YOUNGER 200
        S: * SEARCH 3
        S: c OK …
        C: d SEARCH YOUNGER 50
        S: * SEARCH
        S: d OK …
        """,
    )


def selected(one: CoreClient, mailbox: str) -> CoreClient:
    assert ask(one, f"y SELECT {mailbox}")[-1].startswith("y OK")
    return one


def test_copies_and_replacements_keep_it(town: MailTown, alice: CoreClient) -> None:
    """RFC 9051 §6.4.7: the internal date is preserved, also in another's mailbox, where a copy is written anew."""
    ask(alice, "a CREATE Kept")
    ask(alice, "b COPY 1,9 Kept")
    text = mail("new").decode()
    answer = ask(alice, f'c UID REPLACE 2 Kept "31-Dec-1999 23:59:60 -0330" {{{len(text)}+}}\r\n{text}')
    assert answer[-1].startswith("c OK"), answer
    assert dates(selected(alice, "Kept")) == [DATES[0], DATES[8], "31-Dec-1999 23:59:59 -0330"]
    bob = client(town, "bob")
    ask(bob, "a CREATE Shared")
    ask(bob, "b SETACL Shared alice@example.test lrswi")
    assert ask(alice, 'd COPY 1:3 "Other Users/bob@example.test/Shared"')[-1].startswith("d OK")
    assert dates(selected(bob, "Shared")) == [DATES[0], DATES[8], "31-Dec-1999 23:59:59 -0330"]
    bob.close()


@pytest.mark.parametrize(
    "date", ["01-Jan-2020 00:00:00 +2400", "01-Jan-2020 00:00:00 -9999", "01-Jan-0001 00:00:00 +1200"]
)
def test_zones_that_cannot_be(alice: CoreClient, date: str) -> None:
    """RFC 9051 §9: refused as a command, with nothing kept."""
    assert ask(alice, f'a APPEND INBOX "{date}" {{1+}}\r\nx')[-1].startswith("a BAD")
    assert len(dates(alice)) == len(set(dates(alice)))
