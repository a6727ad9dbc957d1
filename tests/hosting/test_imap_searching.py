"""What SEARCH, SORT, THREAD and FETCH answer by their extensions, as dialogues that name RFC and section."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.decoder import Frame
from hosting.imap.effects import Work
from hosting.imap.searching.esearch import window
from hosting.imap.searching.ordering import stable
from hosting.imap.searching.relevance import levels
from hosting.imap.searching.search_commands import TextKey
from hosting.imap.searching.sorting import displayed
from hosting.imap.session import Session
from storage.errors import Unavailable
from storage.mail.messages import NewMessage
from storage.mime.message import read_message
from storage.mime.render import envelope

MAIL = (
    mail("Reports of March", sender="Zoe <adam@example.test>", body="The quarterly numbers.\r\n"),
    mail("Re: Reports", sender="adam@example.test", body="report\r\n"),
    mail("=?utf-8?q?Gr=C3=BC=C3=9Fe?=", sender="=?utf-8?q?=C3=84rzte?= <b@example.test>", body="Nothing.\r\n"),
    mail("lunch", sender="bea <c@example.test>", body="A report of the march to lunch.\r\n"),
    mail("lunch", sender='"Carl" <d@example.test>', body="Reports of March were late.\r\n"),
)

DIALOGUES: dict[str, str] = {
    "ESORT (RFC 5267 §3)": """
    C: a SORT RETURN () (SUBJECT) UTF-8 ALL
    S: * ESEARCH (TAG "a") ALL 3:5,2,1
    S: a OK …
    C: b UID SORT RETURN (MIN MAX COUNT) (REVERSE FROM) UTF-8 ALL
    S: * ESEARCH (TAG "b") UID MIN 5 MAX 2 COUNT 5
    S: b OK …
    C: c UID SORT RETURN (COUNT ALL) (SUBJECT) UTF-8 SUBJECT nothing-like-it
    S: * ESEARCH (TAG "c") UID COUNT 0
    S: c OK …
    C: d SORT RETURN (SAVE) (SUBJECT) UTF-8 SUBJECT lunch
    S: d OK …
    C: e SORT (REVERSE ARRIVAL) UTF-8 $
    S: * SORT …
    S: e OK …
    C: f SORT RETURN (NONSENSE) (SUBJECT) UTF-8 ALL
    S: f BAD …
    C: g SORT RETURN (ALL (SUBJECT) UTF-8 ALL
    S: g BAD …
    """,
    "SORT=DISPLAY (RFC 5957 §4)": """
    C: a SORT (DISPLAYFROM) UTF-8 ALL
    S: * SORT 2 3 4 5 1
    S: a OK …
    C: b SORT (REVERSE DISPLAYFROM) UTF-8 ALL
    S: * SORT 1 5 4 3 2
    S: b OK …
    C: c SORT (DISPLAYTO REVERSE DISPLAYFROM) UTF-8 1:2
    S: * SORT 1 2
    S: c OK …
    """,
    "PARTIAL of SEARCH (RFC 9394 §3.1, RFC 5267 §4.4)": """
    C: a UID SEARCH RETURN (PARTIAL 1:2) ALL
    S: * ESEARCH (TAG "a") UID PARTIAL (1:2 1:2)
    S: a OK …
    C: b UID SEARCH RETURN (PARTIAL -1:-2 COUNT) ALL
    S: * ESEARCH (TAG "b") UID PARTIAL (-1:-2 4:5) COUNT 5
    S: b OK …
    C: c SEARCH RETURN (PARTIAL 5:4) ALL
    S: * ESEARCH (TAG "c") PARTIAL (4:5 4:5)
    S: c OK …
    C: d SEARCH RETURN (PARTIAL -5:-9) ALL
    S: * ESEARCH (TAG "d") PARTIAL (-5:-9 1)
    S: d OK …
    C: d2 SEARCH RETURN (PARTIAL -3:-2) ALL
    S: * ESEARCH (TAG "d2") PARTIAL (-2:-3 3:4)
    S: d2 OK …
    C: e SEARCH RETURN (PARTIAL 6:9) ALL
    S: * ESEARCH (TAG "e") PARTIAL (6:9 NIL)
    S: e OK …
    C: f SEARCH RETURN (PARTIAL 1:2 ALL) ALL
    S: f BAD …
    C: g SEARCH RETURN (PARTIAL 1:2 PARTIAL 3:4) ALL
    S: g BAD …
    C: h SEARCH RETURN (PARTIAL -1:2) ALL
    S: h BAD …
    C: i SEARCH RETURN (PARTIAL 0:2) ALL
    S: i BAD …
    C: j SEARCH RETURN (PARTIAL 1:*) ALL
    S: j BAD …
    C: k SEARCH RETURN (PARTIAL 99999999999:1) ALL
    S: k BAD …
    """,
    "PARTIAL of SORT (RFC 5267 §4.4)": """
    C: a SORT RETURN (PARTIAL 2:3) (SUBJECT) UTF-8 ALL
    S: * ESEARCH (TAG "a") PARTIAL (2:3 4:5)
    S: a OK …
    C: b SORT RETURN (PARTIAL -1:-2) (REVERSE SUBJECT) UTF-8 ALL
    S: * ESEARCH (TAG "b") PARTIAL (-1:-2 5,3)
    S: b OK …
    """,
    "PARTIAL and SAVE (RFC 9394 §3.2)": """
    C: a SEARCH RETURN (SAVE PARTIAL 2:3) ALL
    S: * ESEARCH (TAG "a") PARTIAL (2:3 2:3)
    S: a OK …
    C: b SEARCH $
    S: * SEARCH 2 3
    S: b OK …
    C: c SEARCH RETURN (SAVE PARTIAL 2:3 MAX) ALL
    S: * ESEARCH (TAG "c") MAX 5 PARTIAL (2:3 2:3)
    S: c OK …
    C: d SEARCH $
    S: * SEARCH 2 3 5
    S: d OK …
    C: e SEARCH RETURN (SAVE PARTIAL 2:3 MIN MAX) ALL
    S: * ESEARCH (TAG "e") MIN 1 MAX 5 PARTIAL (2:3 2:3)
    S: e OK …
    C: f SEARCH $
    S: * SEARCH 1 2 3 5
    S: f OK …
    C: g SEARCH RETURN (SAVE PARTIAL 2:3 COUNT) ALL
    S: * ESEARCH (TAG "g") PARTIAL (2:3 2:3) COUNT 5
    S: g OK …
    C: h SEARCH $
    S: * SEARCH 1 2 3 4 5
    S: h OK …
    """,
    "PARTIAL of UID FETCH (RFC 9394 §3.3, §3.4)": """
    C: a UID FETCH 2:9 (UID) (PARTIAL -1:-2)
    S: * 4 FETCH (UID 4)
    S: * 5 FETCH (UID 5)
    S: a OK …
    C: b UID FETCH 1:* (UID) (PARTIAL 2:2)
    S: * 2 FETCH (UID 2)
    S: b OK …
    C: c UID STORE 4 +FLAGS.SILENT (\\Seen)
    S: c OK …
    C: d UID FETCH 1:* (UID) (PARTIAL 1:4 CHANGEDSINCE 2)
    S: * OK [HIGHESTMODSEQ …
    S: * 4 FETCH (UID 4 MODSEQ (…))
    S: d OK …
    C: e UID FETCH 1:* (UID) (CHANGEDSINCE 2 PARTIAL 1:3)
    S: e OK …
    C: f UID FETCH 1:* (UID) (PARTIAL 10:20)
    S: f OK …
    C: g FETCH 1:* (UID) (PARTIAL 1:2)
    S: g BAD …
    C: h UID FETCH 1:* (UID) (PARTIAL 1:2 PARTIAL 1:2)
    S: h BAD …
    """,
    "FUZZY (RFC 6203 §3, §4, §6)": """
    C: a SEARCH FUZZY TEXT "March reports"
    S: * SEARCH 1 4 5
    S: a OK …
    C: b SEARCH TEXT "March reports"
    S: * SEARCH
    S: b OK …
    C: c SEARCH RETURN (RELEVANCY ALL) FUZZY TEXT "Reports of March"
    S: * ESEARCH (TAG "c") ALL 1,4:5 RELEVANCY (100 25 90)
    S: c OK …
    C: d SORT RETURN (RELEVANCY ALL) (RELEVANCY) UTF-8 FUZZY TEXT "Reports of March"
    S: * ESEARCH (TAG "d") ALL 1,5,4 RELEVANCY (100 90 25)
    S: d OK …
    C: e SORT (REVERSE RELEVANCY) UTF-8 FUZZY TEXT "Reports of March"
    S: * SORT 4 5 1
    S: e OK …
    C: f SORT RETURN (RELEVANCY PARTIAL 1:1) (RELEVANCY) UTF-8 FUZZY TEXT "Reports of March"
    S: * ESEARCH (TAG "f") PARTIAL (1:1 1) RELEVANCY (100)
    S: f OK …
    C: g SEARCH FUZZY (SUBJECT march FROM "adam") UNSEEN
    S: * SEARCH 1
    S: g OK …
    C: h SEARCH RETURN (RELEVANCY) TEXT report
    S: h BAD …
    C: i SORT (RELEVANCY) UTF-8 ALL
    S: i BAD …
    C: j SEARCH FUZZY
    S: j BAD …
    C: k SEARCH RETURN (RELEVANCY COUNT) FUZZY SUBJECT nothing-like-it
    S: * ESEARCH (TAG "k") COUNT 0
    S: k OK …
    C: l SEARCH FUZZY UNSEEN
    S: * SEARCH 1 2 3 4 5
    S: l OK …
    """,
    "I18NLEVEL=1 (RFC 5255 §4.2, §4.6)": """
    C: a SEARCH SUBJECT {6+}
    C> GRÜß\\r\\n
    S: * SEARCH 3
    S: a OK …
    C: b SEARCH FROM "ÄRZTE"
    S: * SEARCH 3
    S: b OK …
    C: c SEARCH SUBJECT grüsse
    S: c BAD …
    C: d SEARCH SUBJECT "grüsse"
    S: * SEARCH 3
    S: d OK …
    """,
    "an unknown charset (RFC 9051 §6.4.4)": """
    C: a SEARCH CHARSET X-UNKNOWN SUBJECT x
    S: a NO [BADCHARSET (US-ASCII UTF-8 … EUC-KR)] …
    C: b SORT (DATE) X-UNKNOWN ALL
    S: b NO [BADCHARSET …
    C: c THREAD REFS X-UNKNOWN ALL
    S: c NO [BADCHARSET …
    """,
    "CONTEXT is a hint (RFC 5267 §4.2)": """
    C: a SEARCH RETURN (CONTEXT COUNT) ALL
    S: * ESEARCH (TAG "a") COUNT 5
    S: a OK …
    """,
    "IMAP4rev2 (RFC 9051 §6.4.4)": """
    C: a ENABLE IMAP4rev2
    S: * ENABLED IMAP4rev2
    S: a OK …
    C: b SEARCH ALL
    S: * ESEARCH (TAG "b") ALL 1:5
    S: b OK …
    C: c SORT (SUBJECT) UTF-8 ALL
    S: * SORT 3 4 5 2 1
    S: c OK …
    """,
}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            account.messages.append_many(inbox.id, [NewMessage(each) for each in MAIL])
        yield made


def client(town: MailTown) -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\ny SELECT INBOX\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    return made


@pytest.mark.parametrize("name", DIALOGUES)
def test_dialogue(town: MailTown, name: str) -> None:
    play(client(town), DIALOGUES[name])


@pytest.mark.parametrize(
    ("charset", "codec"), [("ISO-8859-1", "latin-1"), ("windows-1252", "cp1252"), ("utf-8", "utf-8")]
)
def test_rfc_9051_6_4_4_charsets(town: MailTown, charset: str, codec: str) -> None:
    """What is looked for is in the charset that the command names."""
    one = client(town)
    needle = "grüße".encode(codec)
    one.send(b"a SEARCH CHARSET %b SUBJECT {%d+}\r\n%b\r\n" % (charset.encode(), len(needle), needle))
    assert one.receive(0) == ["* SEARCH 3", "a OK Searched."]
    one.send(b"b SEARCH CHARSET %b SUBJECT {%d+}\r\n%b\r\n" % (b"UTF-8", 2, b"\xff\xfe"))
    assert one.receive(0)[0].startswith("b BAD")


def test_rfc_5256_and_refs(town: MailTown) -> None:
    """REFS goes by references alone, and the thread with the newest message stands last."""
    days = {n: f"{n:02d} Nov 2026 10:00:00 +0000" for n in range(1, 9)}
    messages = [
        mail("One", Message_ID="<1@x>", Date=days[1]),
        mail("Two", Message_ID="<2@x>", Date=days[2]),
        mail("Re: Two", Message_ID="<3@x>", Date=days[3]),
        mail("Re: One", Message_ID="<4@x>", References="<1@x>", Date=days[8]),
        mail("Three", Message_ID="<5@x>", References="<0@x>", Date=days[4]),
        mail("Four", Message_ID="<6@x>", References="<0@x>", Date=days[5]),
    ]
    with town.account() as account:
        made = account.mailboxes.create("Threads")
        account.messages.append_many(made.id, [NewMessage(each) for each in messages])
    one = client(town)
    one.send(b"a SELECT Threads\r\n")
    assert one.receive(0)[-1].startswith("a OK")
    play(
        one,
        """
        C: b THREAD REFERENCES UTF-8 ALL
        S: * THREAD (1 4)(2 3)((5)(6))
        S: b OK …
        C: c UID THREAD REFS UTF-8 ALL
        S: * THREAD (2)(3)((5)(6))(1 4)
        S: c OK …
        C: d THREAD REFS UTF-8 SUBJECT nothing-like-it
        S: * THREAD
        S: d OK …
        C: e THREAD REF UTF-8 ALL
        S: e BAD …
        """,
    )


def test_rfc_9051_6_4_4_every_charset_that_is_told_is_taken(town: MailTown) -> None:
    one = client(town)
    one.send(b"a SEARCH CHARSET X-UNKNOWN ALL\r\n")
    told = one.receive(1)[0].partition("(")[2].partition(")")[0].split()
    assert len(told) > 30
    for charset in told:
        one.send(f"b SEARCH CHARSET {charset} SUBJECT x\r\n".encode())
        assert one.receive(1)[-1].startswith("b OK")


def test_rfc_9585_progress(town: MailTown) -> None:
    """A slow search says every ten seconds that it is at work, and how far, never more often."""
    session = Session(town.services, "test", "192.0.2.7", secure=True)
    one = client(town)
    session = one.session
    said = []
    flow = session.respond(Frame(b"t SORT (SUBJECT) UTF-8 ALL"))
    result = None
    while True:
        try:
            effect = flow.send(result)
        except StopIteration:
            break
        result = None
        if isinstance(effect, Work):
            town.clock.advance(11)
            result = effect.run()
        elif effect:
            said.append(effect)
    assert said[0] == b'* OK [INPROGRESS ("t" 0 5)] Still at work.\r\n'
    assert said[1].startswith(b"* SORT ")
    one.send(b"u SORT (SUBJECT) UTF-8 ALL\r\n")
    assert len(one.receive(0)) == 2


@pytest.mark.parametrize(
    ("field", "key", "expected"),
    [
        (b"From: =?utf-8?q?=C3=84rzte?= <b@example.test>", "DISPLAYFROM", "A\u0308RZTE"),
        (b"From: b@example.test", "DISPLAYFROM", "B@EXAMPLE.TEST"),
        (b'From: "=?utf-8?q??=" <b@example.test>', "DISPLAYFROM", "B@EXAMPLE.TEST"),
        (b'Subject: (("\\\\ \r\nFrom: "(a) \\"b" <x@y>\r\nTo: z@y', "DISPLAYTO", "Z@Y"),
        (b"To: Friends: a@b, c@d;", "DISPLAYTO", "FRIENDS"),
        (b"Subject: nobody", "DISPLAYTO", ""),
        (b"Subject: nobody", "DISPLAYFROM", ""),
    ],
)
def test_rfc_5957_3_values(field: bytes, key: str, expected: str) -> None:
    assert displayed(envelope(read_message(field + b"\r\n\r\n")), key) == expected


@pytest.mark.parametrize(
    "octets", [b"", b"(", b"(NIL", b'("', b"(NIL NIL {9}\r\nx", b")" * 5, b"(NIL NIL ((" + b"(" * 99]
)
def test_an_envelope_that_is_none_has_no_address(octets: bytes) -> None:
    assert displayed(octets, "DISPLAYFROM") == ""


def test_windows() -> None:
    results = list("abcde")
    assert window(results, (2, 3)) == ["b", "c"]  # type: ignore[arg-type]
    assert window(results, (-2, -9)) == list("abcd")  # type: ignore[arg-type]
    assert window(results, (-6, -9)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 1, 8191, 8193, 40_000])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_long_list_is_sorted_as_one(count: int, reverse: bool) -> None:
    values = list(range(count))
    keys = [value * 7919 % 101 for value in values]
    assert stable(values, keys.__getitem__, reverse=reverse) == sorted(values, key=keys.__getitem__, reverse=reverse)


def test_levels_imply_each_other() -> None:
    assert [score for _key, score in levels(TextKey("body", "some longer words"))] == [25, 60, 90]
    assert [score for _key, score in levels(TextKey("subject", "word"))] == [25, 60, 100]


@pytest.mark.parametrize(
    "command",
    [
        "SEARCH " + "FUZZY " * 60 + "ALL",
        "SEARCH " + "NOT FUZZY " * 30 + "ALL",
        "SEARCH RETURN (" + "ALL " * 21 + "ALL) ALL",
        "SORT RETURN (ALL) (" + "DATE " * 30 + "DATE) UTF-8 ALL",
        "SORT RETURN (ALL) UTF-8 ALL",
        "SEARCH CHARSET",
        "SEARCH RETURN (UPDATE",
        "SEARCH FILTER",
        'SEARCH FILTER "a b"',
        'CANCELUPDATE "a',
        "CANCELUPDATE a",
    ],
)
def test_hostile_searches(town: MailTown, command: str) -> None:
    one = client(town)
    one.send(b"a %b\r\nb NOOP\r\n" % command.encode())
    assert [line[:5] for line in one.receive(0)] == ["a BAD", "b OK "]


def test_days_of_messages_from_near_midnight_are_those_that_were_written(town: MailTown) -> None:
    """RFC 9051 §6.4.4: SENTON, SENTBEFORE and SENTSINCE disregard time and zone."""
    days = [(day, hour, zone) for day in (14, 15, 16) for hour in (1, 12, 23) for zone in (-1200, 0, 1400)]
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX").id
        account.messages.append_many(
            inbox,
            [NewMessage(mail("x", Date=f"{day} Nov 2026 {hour}:30:00 {zone:+05}")) for day, hour, zone in days],
        )
    one = client(town)
    for key, fits in (("ON", (15).__eq__), ("BEFORE", (15).__gt__), ("SINCE", (15).__le__)):
        expected = [at for at, (day, _hour, _zone) in enumerate(days, len(MAIL) + 1) if fits(day)]
        one.send(f"a SEARCH {len(MAIL) + 1}:* SENT{key} 15-Nov-2026\r\n".encode())
        assert one.receive(0)[0].split()[2:] == [str(at) for at in expected]
        one.send(f"b SEARCH SENT{key} 15-Nov-2026 UNSEEN\r\n".encode())
        assert set(map(str, expected)) <= set(one.receive(0)[0].split())


def test_files_of_messages_that_were_not_read_yet_are_left_to_workers(town: MailTown) -> None:
    """Those that come, or can be read again, when the search has seen to it already."""
    one = client(town)
    data = b"Subject: s\r\n\r\nneedle"
    one.send(b"a APPEND INBOX {%d+}\r\n%b\r\nb NOOP\r\n" % (len(data), data))
    assert one.receive(0)[-1].startswith("b OK")
    with town.account() as account:
        flow, completion = one.session.respond(Frame(b"c SEARCH TEXT needle")), account.completion
        assert isinstance(next(flow), Work)
        effect = flow.throw(Unavailable())  # it cannot be read for now
        assert isinstance(effect, Work)
        assert completion.is_due()
        effect.run()
        assert not completion.is_due()
    flow.close()
