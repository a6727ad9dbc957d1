"""Capabilities that are told for something small: a dialogue for each, which names its RFC and the section.

What takes more than one dialogue has a file of its own; `hosting.imap.capability_table` says which.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.limits import Limits

ALICE = "alice@example.test"
LIMIT = 5000  # octets of a message


def encoded(*parts: str) -> str:
    return base64.b64encode("\0".join(parts).encode()).decode()


_PLAIN = encoded("", ALICE, PASSWORD)

BEFORE_SIGN_IN: dict[str, str] = {
    "LITERAL+ (RFC 7888 §3): no go-ahead is waited for, and none is sent": f"""
    C> a LOGIN {{{len(ALICE)}+}}\\r\\n{ALICE} {{{len(PASSWORD)}+}}\\r\\n{PASSWORD}\\r\\n
    S: a OK [CAPABILITY IMAP4rev1 … LITERAL+ …
    C: b STATUS {{5}}
    S: + …
    C: INBOX (MESSAGES)
    S: * STATUS "INBOX" (MESSAGES 3)
    S: b OK …
    """,
    "SASL-IR (RFC 4959 §3): the first response comes with the command; = is an empty one": f"""
    C: a AUTHENTICATE PLAIN =
    S: a BAD …
    C: b AUTHENTICATE PLAIN
    S: +…
    C: {_PLAIN}
    S: b OK [CAPABILITY …
    C: c UNAUTHENTICATE
    S: c OK …
    C: d AUTHENTICATE PLAIN {_PLAIN}
    S: d OK [CAPABILITY …
    """,
    "AUTH=PLAIN (RFC 4616 §2): for oneself, whether one says so or not, and for nobody else": f"""
    C: a AUTHENTICATE PLAIN {encoded("bob@example.test", ALICE, PASSWORD)}
    S: a NO [AUTHORIZATIONFAILED] …
    C: b AUTHENTICATE PLAIN {encoded("", ALICE, "wrong")}
    S: b NO [AUTHENTICATIONFAILED] …
    C: c AUTHENTICATE PLAIN {encoded(ALICE, ALICE, PASSWORD)}
    S: c OK [CAPABILITY …
    """,
    "AUTH=LOGIN (draft-murchison-sasl-login §2): name and password, each when it is asked for": f"""
    C: a AUTHENTICATE LOGIN
    S: + {encoded("Username:")}
    C: {encoded(ALICE)}
    S: + {encoded("Password:")}
    C: {encoded(PASSWORD)}
    S: a OK [CAPABILITY …
    """,
}

WITHOUT_TLS = """
    C: a CAPABILITY
    S: * CAPABILITY IMAP4rev1 … STARTTLS LOGINDISABLED
    S: a OK …
    C: b LOGIN alice@example.test "correct horse"
    S: b NO [PRIVACYREQUIRED] …
    """

DIALOGUES: dict[str, str] = {
    "IMAP4rev1 (RFC 3501 §6, §7): what IMAP4rev2 has no more": """
    C: a SELECT INBOX
    S: * FLAGS …
    S: * OK [PERMANENTFLAGS …
    S: * 3 EXISTS
    S: * 3 RECENT
    S: * OK [UNSEEN 1] …
    S: * OK [UIDVALIDITY …
    S: * OK [UIDNEXT 4] …
    S: * OK [HIGHESTMODSEQ …
    S: * OK [MAILBOXID …
    S: a OK [READ-WRITE] …
    C: b FETCH 1 (FLAGS RFC822.TEXT)
    S: * 1 FETCH (FLAGS (\\Seen \\Recent) RFC822.TEXT {7}
    S: Text.
    S: )
    S: b OK …
    C: c SEARCH NEW
    S: * SEARCH 2 3
    S: c OK …
    C: d SEARCH OLD
    S: * SEARCH
    S: d OK …
    C: e CHECK
    S: e OK …
    C: f LSUB "" INBOX
    S: * LSUB (\\HasNoChildren) "/" "INBOX"
    S: f OK …
    C: g STATUS Sent (MESSAGES RECENT)
    S: * STATUS "Sent" (MESSAGES 0 RECENT 0)
    S: g OK …
    """,
    "CHILDREN (RFC 3348 §3): told of each mailbox, never both": """
    C: a CREATE Work/2026
    S: a OK …
    C: b LIST "" Work*
    S: * LIST (\\HasChildren) "/" "Work"
    S: * LIST (\\HasNoChildren) "/" "Work/2026"
    S: b OK …
    """,
    "LIST-STATUS (RFC 5819 §2): behind its LIST, and not of what cannot be selected": """
    C: a CREATE Work/2026
    S: a OK …
    C: b DELETE Work
    S: b OK …
    C: c LIST "" (Work* INBOX) RETURN (STATUS (MESSAGES UNSEEN))
    S: * LIST (\\HasNoChildren) "/" "INBOX"
    S: * STATUS "INBOX" (MESSAGES 3 UNSEEN 3)
    S: * LIST (\\HasChildren \\NonExistent) "/" "Work"
    S: * LIST (\\HasNoChildren) "/" "Work/2026"
    S: * STATUS "Work/2026" (MESSAGES 0 UNSEEN 0)
    S: c OK …
    """,
    "STATUS=SIZE (RFC 8438 §3): at least the sum of RFC822.SIZE": """
    C: a EXAMINE INBOX
    S: * FLAGS …
    S: * OK [PERMANENTFLAGS …
    S: * 3 EXISTS
    S: * 3 RECENT
    S: * OK [UNSEEN …
    S: * OK [UIDVALIDITY …
    S: * OK [UIDNEXT …
    S: * OK [HIGHESTMODSEQ …
    S: * OK [MAILBOXID …
    S: a OK [READ-ONLY] …
    C: b FETCH 1:* RFC822.SIZE
    S: * 1 FETCH (RFC822.SIZE 111)
    S: * 2 FETCH (RFC822.SIZE 111)
    S: * 3 FETCH (RFC822.SIZE 115)
    S: b OK …
    C: c STATUS INBOX (SIZE)
    S: * STATUS "INBOX" (SIZE 337)
    S: c OK …
    """,
    "APPENDLIMIT (RFC 7889 §2, §3.1, §3.2, §4): in CAPABILITY, STATUS and LIST; more is TOOBIG": """
    C: a CAPABILITY
    S: * CAPABILITY … APPENDLIMIT=5000 …
    S: a OK …
    C: b STATUS INBOX (APPENDLIMIT)
    S: * STATUS "INBOX" (APPENDLIMIT 5000)
    S: b OK …
    C: c LIST "" INBOX RETURN (STATUS (APPENDLIMIT))
    S: * LIST (\\HasNoChildren) "/" "INBOX"
    S: * STATUS "INBOX" (APPENDLIMIT 5000)
    S: c OK …
    C: d APPEND INBOX {5001}
    S: d NO [TOOBIG] …
    """,
}

SELECTED: dict[str, str] = {
    "UNSELECT (RFC 3691 §2): what is marked as deleted stays": """
    C: a STORE 1 +FLAGS.SILENT (\\Deleted)
    S: a OK …
    C: b UNSELECT
    S: b OK …
    C: c UNSELECT
    S: c BAD …
    C: d STATUS INBOX (MESSAGES)
    S: * STATUS "INBOX" (MESSAGES 3)
    S: d OK …
    """,
    "WITHIN (RFC 5032 §2, §3): by seconds since the internal date": """
    C: a SEARCH YOUNGER 3600
    S: * SEARCH 2 3
    S: a OK …
    C: b SEARCH OLDER 3600
    S: * SEARCH 1
    S: b OK …
    C: c SEARCH OLDER 0
    S: c BAD …
    """,
    "SORT (RFC 5256 §3): by each key in turn, reversed alone, the charset first": """
    C: a SORT (SUBJECT) UTF-8 ALL
    S: * SORT 1 3 2
    S: a OK …
    C: b SORT (SUBJECT REVERSE ARRIVAL) UTF-8 ALL
    S: * SORT 3 1 2
    S: b OK …
    C: c UID SORT (REVERSE SUBJECT) US-ASCII NOT SUBJECT two
    S: * SORT 1 3
    S: c OK …
    C: d SORT (SUBJECT) X-NONE ALL
    S: d NO [BADCHARSET (US-ASCII UTF-8 …)] …
    C: e SORT () UTF-8 ALL
    S: e BAD …
    """,
    "THREAD (RFC 5256 §3; draft-ietf-morg-inthread §4): a name for each way": """
    C: a THREAD ORDEREDSUBJECT UTF-8 ALL
    S: * THREAD (1 3)(2)
    S: a OK …
    C: b UID THREAD REFERENCES UTF-8 ALL
    S: * THREAD (1 3)(2)
    S: b OK …
    C: c THREAD REFS UTF-8 ALL
    S: * THREAD (1)(2)(3)
    S: c OK …
    C: d THREAD OTHER UTF-8 ALL
    S: d BAD …
    """,
    "URL-PARTIAL (RFC 5550 §5.7.1): CATENATE takes pieces": """
    C: a APPEND INBOX CATENATE (URL ";UID=1/;SECTION=HEADER" URL ";UID=1/;SECTION=TEXT/;PARTIAL=1.3")
    S: * 4 EXISTS
    S: * 4 RECENT
    S: a OK [APPENDUID … 4] …
    C: b FETCH 4 BODY.PEEK[TEXT]
    S: * 4 FETCH (BODY[TEXT] {3}
    S: ext)
    S: b OK …
    """,
}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path, Limits(message=LIMIT)) as made:
        with made.account() as account:
            inbox, now = account.mailboxes.find("INBOX").id, made.clock.now()
            for subject, days in (("One", 3), ("Two", 0), ("Re: One", 0)):
                when = f"{15 - days:02d} Nov 2026 10:46:34 +0000"
                account.messages.append(inbox, mail(subject, Date=when), internal_date=now - days * 86_400)
        yield made


def client(town: MailTown, *commands: str, secure: bool = True) -> CoreClient:
    made = CoreClient(town.services, secure=secure)
    for command in commands:
        made.send(f"x {command}\r\n".encode())
    made.receive(0)
    return made


@pytest.mark.parametrize("name", BEFORE_SIGN_IN)
def test_before_sign_in(town: MailTown, name: str) -> None:
    play(client(town), BEFORE_SIGN_IN[name])


def test_logindisabled(town: MailTown) -> None:
    """RFC 9051 §6.2.3: no password goes over a connection that anybody can read."""
    play(client(town, secure=False), WITHOUT_TLS)


@pytest.mark.parametrize("name", DIALOGUES)
def test_signed_in(town: MailTown, name: str) -> None:
    play(client(town, f'LOGIN {ALICE} "{PASSWORD}"'), DIALOGUES[name])


@pytest.mark.parametrize("name", SELECTED)
def test_selected(town: MailTown, name: str) -> None:
    play(client(town, f'LOGIN {ALICE} "{PASSWORD}"', "SELECT INBOX"), SELECTED[name])
