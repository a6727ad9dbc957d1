"""SAVEDATE and PREVIEW: when a message came into its mailbox, and how it begins.

Standards: RFC 8514, RFC 8970.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from storage.mail.messages import NewMessage

DAY = 86400
WORDS = "Grüße aus der Ferne. "
BODIES = (
    mail("Plain", body="  See\r\n you\tsoon\r\n"),
    mail("Umlauts", body=WORDS * 20, Content_Type="text/plain; charset=utf-8", Content_Transfer_Encoding="8bit"),
    mail("Nothing", body=""),
    mail("Picture", body="AAEC\r\n", Content_Type="image/png", Content_Transfer_Encoding="base64"),
    mail("Quote", body='She said "\\o/"\0\r\n'),
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    """Messages saved at noon UTC of three days, all of them with the internal date of 1996."""
    with new_mail_town(tmp_path_factory.mktemp("saved")) as made:
        made.clock.advance(DAY - made.clock.now() % DAY + DAY // 2)
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            for data in BODIES[:3]:
                account.messages.append_many(inbox.id, [NewMessage(data, internal_date=837596665)])
                made.clock.advance(DAY)
            account.messages.append_many(inbox.id, [NewMessage(data) for data in BODIES[3:]])
        yield made


def client(town: MailTown, *, before: str = "") -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n{before}y EXAMINE INBOX\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    return made


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def day(town: MailTown, back: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(town.clock.now() - back * DAY, UTC).strftime("%d-%b-%Y")


def found(one: CoreClient, keys: str) -> list[int]:
    answer, done = ask(one, f"s SEARCH {keys}")
    assert done.startswith("s OK")
    return [int(word) for word in answer.split()[2:]]


def test_fetching_the_save_date(town: MailTown) -> None:
    """RFC 8514 §4.2: it is neither the internal date nor changed by flags."""
    one = client(town)
    expected = f'* 1 FETCH (SAVEDATE "{day(town, 3).removeprefix("0"):>11} 12:00:00 +0000" INTERNALDATE "17-Jul-1996 …'
    play(one, f"C: a FETCH 1 (SAVEDATE INTERNALDATE)\nS: {expected}\nS: a OK …")


def test_searching_by_the_save_date(town: MailTown) -> None:
    """RFC 8514 §4.3: days of UTC, whatever the time."""
    one = client(town)
    yesterday, before = day(town, 1), day(town, 2)
    assert found(one, f"SAVEDON {yesterday}") == [3]
    assert found(one, f"SAVEDBEFORE {yesterday}") == [1, 2]
    assert found(one, f"SAVEDSINCE {yesterday}") == [3, 4, 5]
    assert found(one, f'SAVEDSINCE "{before}" NOT SAVEDON {yesterday}') == [2, 4, 5]
    assert found(one, f"OR SAVEDON {before} UID 5") == [2, 5]
    assert found(one, "SAVEDATESUPPORTED") == [1, 2, 3, 4, 5]
    assert found(one, "NOT SAVEDATESUPPORTED") == []
    assert found(one, "SINCE 18-Jul-1996 SAVEDSINCE 1-Jan-1970") == [4, 5]
    assert ask(one, "a SEARCH SAVEDON 31-Feb-2020")[-1].startswith("a BAD ")
    assert ask(one, "b SEARCH SAVEDON")[-1].startswith("b BAD ")


def test_copying_and_moving_saves_anew(town: MailTown) -> None:
    """RFC 8514 §3: the source keeps its date; the internal date goes along."""
    one = CoreClient(town.services)
    one.send(f'x LOGIN bob@example.test "{PASSWORD}"\r\n'.encode())
    ask(one, "a APPEND INBOX {1+}\r\nx {1+}\r\ny")
    ask(one, "b SELECT INBOX")
    before = ask(one, "c FETCH 1:2 (SAVEDATE INTERNALDATE)")
    town.clock.advance(7)
    ask(one, "d COPY 1 Archive")
    ask(one, "e MOVE 2 Archive")
    assert ask(one, "f FETCH 1 (SAVEDATE INTERNALDATE)")[0] == before[0]
    ask(one, "g SELECT Archive")
    anew = ask(one, "h FETCH 1:2 (SAVEDATE INTERNALDATE)")
    for old, new in zip(before[:2], anew[:2], strict=True):
        assert old.partition("INTERNALDATE")[2] == new.partition("INTERNALDATE")[2]
        assert old != new
    one.close()


def test_previews(town: MailTown) -> None:
    """RFC 8970 §3.2, §3.3, §4.1: one line, at most 200 characters, "" where there is no text, never NIL."""
    play(
        client(town),
        """
        C: a FETCH 1 (UID PREVIEW)
        S: * 1 FETCH (UID 1 PREVIEW "See you soon")
        S: a OK …
        C: b FETCH 3:5 PREVIEW (LAZY)
        S: * 3 FETCH (PREVIEW "")
        S: * 4 FETCH (PREVIEW "")
        S: * 5 FETCH (PREVIEW "She said \\"\\\\o/\\"")
        S: b OK …
        C: c FETCH 1 (PREVIEW (LAZY LAZY) FLAGS)
        S: * 1 FETCH (PREVIEW "See you soon" FLAGS (…))
        S: c OK …
        C: d FETCH 1 PREVIEW (CHANGEDSINCE 99)
        S: * OK [HIGHESTMODSEQ …
        S: d OK …
        C: e FETCH 1 (PREVIEW (EAGER))
        S: e BAD …
        C: f FETCH 1 (PREVIEW ())
        S: f BAD …
        """,
    )


@pytest.mark.parametrize("rev2", [False, True])
def test_previews_beyond_ascii(town: MailTown, rev2: bool) -> None:
    """RFC 8970 §3.3: UTF-8; a quoted string of IMAP4rev1 cannot hold it, one of IMAP4rev2 can (RFC 9051 §4.3)."""
    text = (WORDS * 20)[:200].rstrip()
    one = client(town, before="z ENABLE IMAP4rev2\r\n" if rev2 else "")
    told = f'"{text}"' if rev2 else f"{{{len(text.encode())}}}\r\n{text}"
    one.send(b"a FETCH 2 PREVIEW\r\n")
    assert one.out.decode() == f"* 2 FETCH (PREVIEW {told})\r\na OK Fetched.\r\n"


def test_a_preview_is_written_once(town: MailTown) -> None:
    r"""RFC 8970 §3: asking for it sets no \Seen and reads no file."""
    one = client(town)
    ask(one, "a FETCH 1:5 PREVIEW")
    assert "\\Seen" not in "".join(ask(one, "b FETCH 1:5 FLAGS"))
