"""What is answered at once is what the command's own way answers, and left to that where there is more to say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.decoder import Decoder, Frame
from hosting.imap.limits import Limits
from storage.errors import Unavailable
from storage.mail.messages import NewMessage


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as town:
        with town.account() as account:
            inbox = account.mailboxes.find("INBOX").id
            account.messages.append_many(inbox, [NewMessage(mail()) for _ in range(3)])
        yield town


def selected(town: MailTown) -> CoreClient:
    client = CoreClient(town.services)
    client.send(f'a LOGIN alice@example.test "{PASSWORD}"\r\nb ENABLE IMAP4rev2\r\nc SELECT INBOX\r\n'.encode())
    return client


COMMANDS = (
    "NOOP",
    "CHECK",
    "FETCH 2 (FLAGS UID)",
    "UID FETCH 2 (FLAGS)",
    "FETCH 2 (BODY.PEEK[])",
    "UID FETCH 3 (BODY.PEEK[HEADER])",
    "FETCH 1 (RFC822.SIZE INTERNALDATE)",
    "FETCH 1 (ENVELOPE BODYSTRUCTURE)",
    "UID FETCH 9 (FLAGS)",
    "FETCH * (UID)",
    "FETCH 9 (FLAGS)",
    "FETCH 2 (MODSEQ)",
    "FETCH 2 (MODSEQ FLAGS)",
    "FETCH 2 (BODY[])",
    "NOOP",
    "FETCH 2 (BODY[TEXT])",
)


def told(client: CoreClient, octets: bytes) -> bytes:
    client.out = type(client.out)()
    client.send(octets)
    return bytes(client.out)


def test_the_answers_are_those_of_the_commands_own_way(town: MailTown) -> None:
    quick, slow = selected(town), selected(town)
    at_once = 0
    for command in COMMANDS:
        frame = Frame(b"t " + command.encode())
        tag, parsed = slow.session.grammar.parse(frame)
        rule = slow.session.services.rules[type(parsed)]
        answer = quick.session.respond(frame)
        if isinstance(answer, bytes):
            at_once += 1
            way = slow.session._respond(tag, parsed, rule)
            assert answer == b"".join(piece for piece in way if isinstance(piece, bytes))
        else:
            for client in (quick, slow):  # it sets a flag, or says something besides
                client.send(frame.text + b"\r\n")
    assert at_once >= 8


def test_one_message_is_opened_without_the_sizes_of_all_others(town: MailTown) -> None:
    client, size = selected(town), len(mail())
    view = client.session.mailbox.view
    missing = view.columns_missing
    for command in ("UID FETCH 2 (UID RFC822.SIZE BODY.PEEK[])", "FETCH 3 (BODY.PEEK[])", "FETCH 1 (BODY[TEXT])"):
        assert b" OK " in told(client, b"t " + command.encode() + b"\r\n")
    assert b"RFC822.SIZE %d BODY[] {%d}" % (size, size) in told(client, b"t FETCH 2 (RFC822.SIZE BODY[])\r\n")
    assert view.columns_missing == missing == 3
    told(client, b"t FETCH 2 (RFC822.SIZE)\r\n")
    assert view.columns_missing == 0


def test_news_go_the_commands_own_way(town: MailTown) -> None:
    client, other = selected(town), selected(town)
    assert isinstance(client.session.respond(Frame(b"t NOOP")), bytes)
    other.send(b"c STORE 2 +FLAGS (\\Flagged)\r\n")
    assert b"* 2 FETCH" in told(client, b"t NOOP\r\n")
    with town.account() as account:
        account.messages.append_many(account.mailboxes.find("INBOX").id, [NewMessage(mail())])
    assert b"* 4 EXISTS" in told(client, b"t NOOP\r\n")
    assert isinstance(client.session.respond(Frame(b"t NOOP")), bytes)
    other.send(b"d STORE 1 +FLAGS (\\Deleted)\r\ne EXPUNGE\r\n")
    assert b"* 1 EXPUNGE" in told(client, b"t NOOP\r\n")


def test_a_command_that_cannot_be_answered_at_once_is_answered_all_the_same(
    town: MailTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = selected(town)
    database = client.session.mail.database

    def fails() -> int:
        raise Unavailable(detail="a disk")

    monkeypatch.setattr(type(database), "data_version", lambda _: fails())
    assert told(client, b"t NOOP\r\n").startswith(b"t NO [UNAVAILABLE]")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a NOOP\r\n", b"a NOOP"),
        (b"a NOOP\n", b"a NOOP"),
        (b"a NOOP", None),
        (b"a NOOP\r\nb NOOP\r\n", None),
        (b"a LOGIN {5}\r\n", None),
        (b"a LOGIN {5+}\n", None),
        (b"\r\n", b""),
        (b"", None),
        (b"a " + b"x" * Limits().line + b"\r\n", None),
    ],
)
def test_only_one_whole_line_is_taken_past_the_buffer(data: bytes, text: bytes | None) -> None:
    """RFC 9051 §2.2.1; and never while something else waits."""
    decoder = Decoder(Limits())
    assert decoder.whole(data) == (None if text is None else Frame(text))
    decoder.feed(b"x")
    assert decoder.whole(data) is None
    decoder.feed(b" LOGIN {3}\r\n")
    decoder.next_frame()
    assert decoder.whole(data) is None
