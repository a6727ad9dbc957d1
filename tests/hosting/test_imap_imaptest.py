"""What groups of Dovecot's ImapTest ask for and no other dialogue here: threads that change by an expunge, parts of
parts, and encodings with all that may stand in them.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from storage.mail.messages import NewMessage

REFERENCES = (  # each message with its References
    ("1@b", ""),
    ("2@b", "<1@b>"),
    ("3@b", "<4@b> <2@b>"),
    ("4@b", "<1@b>"),
)
BASE64 = """\
Mime-Version: 1.0
Content-Type: multipart/mixed; boundary="sub"

--sub
Content-Transfer-Encoding: base64

aGVsbG8gd29ybGQ=

--sub
Content-Transfer-Encoding: base64

  aGVs   \t
 bG8g
   d29y  \t
bGQ=

--sub
Content-Transfer-Encoding: base64

YWJjZGVmZw1oaWprbA0KbW5vCnBxcnN0dXZxeHl6
--sub--
"""
QUOTED = """\
Mime-Version: 1.0
Content-Type: multipart/mixed; boundary="sub"

--sub
Content-Transfer-Encoding: quoted-printable

hello  \t
ba=
r
foo\t =
\tb
foo = \t
b
foo=0D=0Abar
--sub--
"""
NESTED = """\
From: user@domain.org
Mime-Version: 1.0
Content-Type: message/rfc822

From: user2@domain.org
Content-Type: message/rfc822

Subject: submsg

Hello world
"""


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    with new_mail_town(tmp_path_factory.mktemp("imaptest")) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            texts = [text.replace("\n", "\r\n").encode() for text in (BASE64, QUOTED, NESTED)]
            texts.append(mail("large", body="0123456789abcdef" * 20_000))
            account.messages.append_many(inbox.id, [NewMessage(text) for text in texts])
            account.mailboxes.create("Threads")
            threads = account.mailboxes.find("Threads")
            letters = [mail("", Message_ID=f"<{own}>", References=others) for own, others in REFERENCES]
            account.messages.append_many(
                threads.id, [NewMessage(text, internal_date=1000 + n) for n, text in enumerate(letters)]
            )
        yield made


@pytest.fixture
def client(town: MailTown) -> Iterator[CoreClient]:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\ny SELECT INBOX\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    yield made
    made.close()


def test_a_link_counts_again_when_what_was_in_its_way_is_gone(client: CoreClient) -> None:
    """RFC 5256 §3 (REFERENCES, step 1): the third message says that the second comes after the fourth, which is not
    taken while the second itself names the first; when it is gone, only the third still speaks of it."""
    client.send(b"z SELECT Threads\r\n")
    client.receive(0)
    play(
        client,
        r"""
        C: a THREAD REFERENCES US-ASCII ALL
        S: * THREAD (1 (2 3)(4))
        S: a OK …
        C: b UID THREAD REFERENCES US-ASCII NOT UID 2
        S: * THREAD (1 4 3)
        S: b OK …
        C: c STORE 2 +FLAGS.SILENT (\Deleted)
        S: c OK …
        C: d EXPUNGE
        S: * 2 EXPUNGE
        S: d OK …
        C: e THREAD REFERENCES US-ASCII ALL
        S: * THREAD (1 3 2)
        S: e OK …
        """,
    )


def test_base64_with_white_space(client: CoreClient) -> None:
    """RFC 3516 §4.2, RFC 2045 §6.8: what is no character of the encoding is passed over; a part from an octet on."""
    client.send(b"a FETCH 1 (BINARY.SIZE[1] BINARY.SIZE[2] BINARY.PEEK[2] BINARY.SIZE[3] BINARY.PEEK[3]<5.10>)\r\n")
    assert client.out == (
        b"* 1 FETCH (BINARY.SIZE[1] 11 BINARY.SIZE[2] 11 BINARY[2] {11}\r\nhello world BINARY.SIZE[3] 30"
        b" BINARY[3]<5> {10}\r\nfg\rhijkl\r\n)\r\na OK Fetched.\r\n"
    )


def test_quoted_printable_with_soft_breaks(client: CoreClient) -> None:
    """RFC 3516 §4.2, RFC 2045 §6.7: white space at the end of a line is nobody's, with a soft line break before it."""
    client.send(b"a FETCH 2 (BINARY.SIZE[1] BINARY.PEEK[1])\r\n")
    text = b"hello\r\nbar\r\nfoo\t \tb\r\nfoo b\r\nfoo\r\nbar"
    assert client.out == b"* 2 FETCH (BINARY.SIZE[1] %d BINARY[1] {%d}\r\n%b)\r\na OK Fetched.\r\n" % (
        len(text),
        len(text),
        text,
    )


def test_a_message_in_a_message_in_a_message(client: CoreClient) -> None:
    """RFC 9051 §6.4.5.1: what is no multipart has part 1, and the parts of a message are those of its text."""
    play(
        client,
        """
        C: a FETCH 3 (BODY.PEEK[1.1.1] BODY.PEEK[1.1.HEADER] BODY.PEEK[1.1.TEXT] BODY.PEEK[1.HEADER])
        S: * 3 FETCH (BODY[1.1.1] {13}
        S: Hello world
        S:  BODY[1.1.HEADER] {19}
        S: Subject: submsg
        S:
        S:  BODY[1.1.TEXT] {13}
        S: Hello world
        S:  BODY[1.HEADER] {56}
        S: From: user2@domain.org
        S: Content-Type: message/rfc822
        S:
        S: )
        S: a OK …
        """,
    )


ENDS = [
    ("1 BINARY.PEEK[3]<15>", b"1 FETCH (BINARY[3]<15> {15}\r\nmno\npqrstuvqxyz)"),
    ("1 BINARY.PEEK[3]<30>", b"1 FETCH (BINARY[3]<30> {0}\r\n)"),
    ("1 BODY.PEEK[1]<3>", b"1 FETCH (BODY[1]<3> {15}\r\nsbG8gd29ybGQ=\r\n)"),
    ("3 BODY.PEEK[TEXT]<9999999999999999999>", b"3 FETCH (BODY[TEXT]<9999999999999999999> {0}\r\n)"),
    ("4 BODY.PEEK[TEXT]<319996>", b"4 FETCH (BODY[TEXT]<319996> {4}\r\ncdef)"),
    ("4 BODY.PEEK[TEXT]<5.3>", b"4 FETCH (BODY[TEXT]<5> {3}\r\n567)"),
]


@pytest.mark.parametrize(("item", "answer"), ENDS, ids=[item for item, _ in ENDS])
def test_a_part_from_an_octet_to_its_end(client: CoreClient, item: str, answer: bytes) -> None:
    """Beyond RFC 9051 §9, which wants a length: Dovecot takes a range without one, and ImapTest asks for it."""
    client.send(f"a FETCH {item}\r\n".encode())
    assert client.out == b"* %b\r\na OK Fetched.\r\n" % answer


@pytest.mark.parametrize(
    "partial", ["<>", "<.5>", "<5.>", "<5.0>", "<-1>", "<1.2.3>", "<5", "<*>", "<1.*>", "<" + "9" * 20 + ">"]
)
def test_ranges_that_are_none(client: CoreClient, partial: str) -> None:
    """RFC 9051 §9 (partial)."""
    client.send(f"a FETCH 1 BODY.PEEK[]{partial}\r\n".encode())
    assert client.receive(0)[-1].startswith("a BAD")
