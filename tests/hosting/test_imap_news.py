"""When a session learns what others did: the rules about EXISTS and EXPUNGE.

Standards: RFC 9051 §5.2, §7.5.1; RFC 2180; RFC 7162; and the rule of issue 2 on new mail.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            account.messages.append_many(inbox.id, [_new(f"Number {n}") for n in range(1, 5)])
        yield made


def _new(subject: str) -> object:
    from storage.mail.messages import NewMessage

    return NewMessage(mail(subject))


def client(town: MailTown, mailbox: str = "INBOX", *, before: str = "") -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n{before}y SELECT {mailbox}\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    return made


def deliver(town: MailTown, count: int = 1) -> None:
    """What somebody else brings."""
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX")
        account.messages.append_many(inbox.id, [_new("New") for _ in range(count)])  # type: ignore[misc]


def test_new_mail_is_told_in_noop_and_not_before(town: MailTown) -> None:
    one = client(town)
    deliver(town)
    play(
        one,
        """
        C: a UID STORE 1 +FLAGS (\\\\Seen)
        S: * 1 FETCH (UID 1 FLAGS (\\\\Seen \\\\Recent))
        S: a OK …
        C: b UID FETCH 4:* (UID)
        S: * 4 FETCH (UID 4)
        S: b OK …
        C: c FETCH * (UID)
        S: * 4 FETCH (UID 4)
        S: c OK …
        C: d SEARCH ALL
        S: * SEARCH 1 2 3 4
        S: d OK …
        C: e NOOP
        S: * 5 EXISTS
        S: * 5 RECENT
        S: e OK …
        C: f SEARCH ALL
        S: * SEARCH 1 2 3 4 5
        S: f OK …
        """.replace("\\\\", "\\"),
    )


def test_new_mail_is_told_at_once_when_idle_begins(town: MailTown) -> None:
    one = client(town)
    deliver(town, 2)
    play(
        one,
        """
        C: a IDLE
        S: + idling
        S: * 6 EXISTS
        S: * 6 RECENT
        """,
    )
    deliver(town)
    one.look()
    assert one.receive(2) == ["* 7 EXISTS", "* 7 RECENT"]
    play(one, "C: DONE\nS: a OK …")


def test_own_append_is_told_in_its_answer_with_what_others_brought(town: MailTown) -> None:
    one = client(town)
    deliver(town)
    play(
        one,
        """
        C: a APPEND INBOX {3+}
        C> abc\\r\\n
        S: * 6 EXISTS
        S: * 6 RECENT
        S: a OK [APPENDUID …
        """,
    )


def test_after_a_minute_without_a_look_a_search_tells(town: MailTown) -> None:
    one = client(town)
    deliver(town)
    town.clock.advance(59)
    play(one, "C: a SEARCH ALL\nS: * SEARCH 1 2 3 4\nS: a OK …")
    town.clock.advance(2)
    play(
        one,
        """
        C: b SEARCH ALL
        S: * 5 EXISTS
        S: * 5 RECENT
        S: * SEARCH 1 2 3 4 5
        S: b OK …
        """,
    )


def test_an_expunge_by_another_keeps_numbers_until_it_may_be_told(town: MailTown) -> None:
    one, two = client(town), client(town)
    play(
        two,
        """
        C: a STORE 2 +FLAGS.SILENT (\\Deleted)
        S: a OK …
        C: b EXPUNGE
        S: * 2 EXPUNGE
        S: b OK …
        """,
    )
    play(
        one,
        """
        C: a FETCH 3 (UID)
        S: * 3 FETCH (UID 3)
        S: a OK …
        C: b FETCH 1:4 (UID FLAGS)
        S: * 1 FETCH (UID 1 FLAGS ())
        S: * 3 FETCH (UID 3 FLAGS ())
        S: * 4 FETCH (UID 4 FLAGS ())
        S: b NO [EXPUNGEISSUED] …
        C: c SEARCH ALL
        S: * SEARCH 1 3 4
        S: c OK …
        C: d STORE 3 +FLAGS (\\Flagged)
        S: * 3 FETCH (UID 3 FLAGS (\\Flagged))
        S: d OK …
        C: e STORE 2 +FLAGS (\\Flagged)
        S: e NO [EXPUNGEISSUED] …
        C: f FETCH 2 BODY.PEEK[]
        S: f NO [EXPUNGEISSUED] …
        C: g UID SEARCH ALL
        S: * SEARCH 1 3 4
        S: * 2 EXPUNGE
        S: g OK …
        C: h FETCH 1:3 (UID)
        S: * 1 FETCH (UID 1)
        S: * 2 FETCH (UID 3)
        S: * 3 FETCH (UID 4)
        S: h OK …
        """.replace("FLAGS ())", "FLAGS (…))").replace("(\\Flagged))", "(\\Flagged…))"),
    )


def test_arrivals_and_a_late_expunge_at_the_same_time(town: MailTown) -> None:
    one, two = client(town), client(town)
    play(two, "C: a STORE 1 +FLAGS.SILENT (\\Deleted)\nS: a OK …\nC: b EXPUNGE\nS: * 1 EXPUNGE\nS: b OK …")
    deliver(town)
    town.clock.advance(61)
    play(
        one,
        """
        C: a SEARCH ALL
        S: * 5 EXISTS
        S: * … RECENT
        S: * SEARCH 2 3 4 5
        S: a OK …
        C: b FETCH 5 (UID)
        S: * 5 FETCH (UID 5)
        S: b OK …
        C: c NOOP
        S: * 1 EXPUNGE
        S: c OK …
        C: d FETCH 4 (UID)
        S: * 4 FETCH (UID 5)
        S: d OK …
        """,
    )


def test_flags_that_others_change_are_told_with_any_answer(town: MailTown) -> None:
    one, two = client(town), client(town)
    play(two, "C: a STORE 2 +FLAGS.SILENT ($Junk)\nS: * FLAGS …\nS: * OK …\nS: a OK …")
    lines = _answer(one, "a CHECK")
    assert [re.sub(r" \\Recent", "", line) for line in lines if "FETCH" in line] == ["* 2 FETCH (UID 2 FLAGS ($Junk))"]
    assert _answer(one, "b NOOP") == ["b OK Done."]


def test_the_own_silent_change_is_not_told(town: MailTown) -> None:
    one = client(town)
    play(one, "C: a STORE 2 +FLAGS.SILENT (\\Seen)\nS: a OK …\nC: b NOOP\nS: b OK …")


def test_what_came_and_went_is_never_told(town: MailTown) -> None:
    one, two = client(town), client(town)
    deliver(town)
    play(two, "C: a NOOP\nS: * 5 EXISTS\nS: * … RECENT\nS: a OK …")
    play(two, "C: b STORE 5 +FLAGS.SILENT (\\Deleted)\nS: b OK …\nC: c EXPUNGE\nS: * 5 EXPUNGE\nS: c OK …")
    assert _answer(one, "a NOOP") == ["a OK Done."]
    assert _answer(one, "b FETCH 4 (UID)") == ["* 4 FETCH (UID 4)", "b OK Fetched."]


def test_qresync_clients_hear_vanished(town: MailTown) -> None:
    one, two = client(town, before="q ENABLE QRESYNC\r\n"), client(town)
    play(two, "C: a STORE 1:2 +FLAGS.SILENT (\\Deleted)\nS: a OK …")
    _answer(two, "b EXPUNGE")
    assert _answer(one, "a NOOP") == ["* VANISHED 1:2", "a OK Done."]


def test_highestmodseq_never_exceeds_what_was_told(town: MailTown) -> None:
    """Else a client that resynchronises from it would miss the message (RFC 7162 §3.1.1)."""
    one = client(town, before="q ENABLE QRESYNC\r\n")
    before = _modseq(_answer(one, "a STATUS INBOX (HIGHESTMODSEQ)"))
    deliver(town)
    assert _modseq(_answer(one, "b STATUS INBOX (HIGHESTMODSEQ)")) == before
    _answer(one, "c NOOP")
    assert _modseq(_answer(one, "d STATUS INBOX (HIGHESTMODSEQ)")) > before


def test_a_deleted_mailbox_ends_the_sessions_in_it(town: MailTown) -> None:
    one, two = client(town, "Archive"), client(town)
    assert _answer(two, "a DELETE Archive") == ["a OK Deleted."]
    assert _answer(one, "a NOOP")[-1].startswith("* BYE")
    assert one.closed


def test_resynchronisation_at_select(town: MailTown) -> None:
    one = client(town, before="q ENABLE QRESYNC\r\n")
    modseq = _modseq(_answer(one, "a STATUS INBOX (HIGHESTMODSEQ)"))
    (line,) = [row for row in _answer(one, "b STATUS INBOX (UIDVALIDITY)") if "STATUS" in row]
    uidvalidity = re.search(r"UIDVALIDITY (\d+)", line)
    assert uidvalidity
    two = client(town)
    play(two, "C: a STORE 2,4 +FLAGS.SILENT (\\Deleted)\nS: a OK …")
    _answer(two, "b UID EXPUNGE 2")
    lines = _answer(one, f"c SELECT INBOX (QRESYNC ({uidvalidity[1]} {modseq} 1:4))")
    assert lines[-3] == "* VANISHED (EARLIER) 2"
    assert lines[-2].startswith("* 3 FETCH (UID 4 FLAGS (\\Deleted")
    # Beyond the horizon of tombstones every absent UID is told.
    lines = _answer(one, f"d SELECT INBOX (QRESYNC ({uidvalidity[1]} 1))")
    assert any(row.startswith("* VANISHED (EARLIER)") and "2" in row for row in lines)


def _answer(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def _modseq(lines: list[str]) -> int:
    match = re.search(r"HIGHESTMODSEQ (\d+)", "\n".join(lines))
    assert match
    return int(match[1])
