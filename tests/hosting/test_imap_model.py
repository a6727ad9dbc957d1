"""Four sessions on two processes at random, each session's picture compared with a plain reference at every line.

Longer games, with other seeds: scripts/imap_model. RFC 9051 §2.3.1, §5.2, §7.5.1; RFC 2180; RFC 7162 §3.1, §3.2;
RFC 5182; RFC 6851.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from imap_model import run
from imap_play import CoreClient, play
from imap_town import MailTown, mail, new_mail_town

_SIGN_IN = """
    C: a LOGIN alice@example.test "correct horse"
    S: a OK …
"""


@pytest.mark.parametrize("seed", range(1, 4))
def test_pictures_agree_with_the_reference(tmp_path: Path, seed: int) -> None:
    run(tmp_path, seed, 1000)


def _with_messages(town: MailTown, count: int) -> None:
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX")
        for number in range(count):
            account.messages.append(inbox.id, mail(f"Number {number}"))


def test_a_set_of_uids_means_whole_ranges_beside_uids_that_are_not_there(tmp_path: Path) -> None:
    """RFC 9051 §6.4.9: a UID that is not there is passed over."""
    with new_mail_town(tmp_path) as town:
        _with_messages(town, 3)
        play(
            CoreClient(town.services),
            """
            S: * OK …
            """
            + _SIGN_IN
            + """
            C: b EXAMINE INBOX
            S: * FLAGS …
            S: …
            S: * 3 EXISTS
            S: * 3 RECENT
            S: …
            S: …
            S: …
            S: …
            S: …
            S: b OK …
            C: c UID FETCH 2:3,77 (UID)
            S: * 2 FETCH (UID 2)
            S: * 3 FETCH (UID 3)
            S: c OK …
            """,
        )


def test_a_silent_store_tells_what_others_changed_before(tmp_path: Path) -> None:
    """RFC 9051 §6.4.6, RFC 7162 §3.1.3: the client concludes its own change only."""
    with new_mail_town(tmp_path) as town:
        _with_messages(town, 1)
        one, other = CoreClient(town.services), CoreClient(town.services)
        for client in (one, other):
            client.send(b'a LOGIN alice@example.test "correct horse"\r\nb SELECT INBOX\r\nc FETCH 1 (FLAGS)\r\n')
            client.receive(0)
        other.send(b"d STORE 1 +FLAGS (\\Answered)\r\n")
        one.send(b"d STORE 1 +FLAGS.SILENT (\\Seen)\r\n")
        assert [line for line in one.receive(0) if "FETCH" in line] == [
            "* 1 FETCH (UID 1 FLAGS (\\Answered \\Seen \\Recent))"
        ]


def test_a_keyword_is_named_before_a_message_has_it(tmp_path: Path) -> None:
    """RFC 9051 §7.3.5."""
    with new_mail_town(tmp_path) as town:
        _with_messages(town, 1)
        one, other = CoreClient(town.services), CoreClient(town.services)
        for client in (one, other):
            client.send(b'a LOGIN alice@example.test "correct horse"\r\nb SELECT INBOX\r\n')
            client.receive(0)
        other.send(b"d STORE 1 +FLAGS (work)\r\n")
        one.send(b"d FETCH 1 (FLAGS)\r\n")
        lines = one.receive(0)
        assert lines[0] == "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft work)"
        assert "* 1 FETCH (FLAGS (work \\Recent))" in lines


def test_recent_in_one_session_only(tmp_path: Path) -> None:
    r"""RFC 3501 §2.3.2: the first session that is told of a message has it as \Recent, and STATUS counts it no more."""
    with new_mail_town(tmp_path) as town:
        one, other, third = (CoreClient(town.services) for _ in range(3))
        for client in (one, other, third):
            client.send(b'a LOGIN alice@example.test "correct horse"\r\n')
        for client in (one, other):
            client.send(b"b SELECT INBOX\r\n")
        _with_messages(town, 1)
        one.send(b"c NOOP\r\n")
        _with_messages(town, 1)
        other.send(b"c NOOP\r\nd FETCH 1:2 (FLAGS)\r\ne SEARCH RECENT\r\nf SEARCH OLD\r\n")
        one.send(b"d NOOP\r\ne FETCH 1:2 (FLAGS)\r\n")
        third.send(b"g STATUS INBOX (RECENT)\r\nh SELECT INBOX\r\n")
        told = other.receive(0)
        assert "* 1 RECENT" in told
        assert {"* 1 FETCH (FLAGS ())", "* 2 FETCH (FLAGS (\\Recent))", "* SEARCH 2", "* SEARCH 1"} <= set(told)
        told = one.receive(0)
        assert {"* 1 FETCH (FLAGS (\\Recent))", "* 2 FETCH (FLAGS ())"} <= set(told)
        told = third.receive(0)
        assert {'* STATUS "INBOX" (RECENT 0)', "* 0 RECENT"} <= set(told)


def test_uids_of_messages_that_are_gone_are_told(tmp_path: Path) -> None:
    """RFC 2180 §4.1.2: by number, until the EXPUNGE may be told."""
    with new_mail_town(tmp_path) as town:
        _with_messages(town, 2)
        one, other = CoreClient(town.services), CoreClient(town.services)
        for client in (one, other):
            client.send(b'a LOGIN alice@example.test "correct horse"\r\nb SELECT INBOX\r\n')
            client.receive(0)
        one.send(b"c STORE 1 +FLAGS.SILENT (\\Deleted)\r\nd EXPUNGE\r\n")
        other.send(b"c FETCH 1:2 (UID)\r\nd FETCH 1 (FLAGS)\r\n")
        told = other.receive(0)
        assert told[:3] == ["* 1 FETCH (UID 1)", "* 2 FETCH (UID 2)", "c OK Fetched."]
        assert told[-1].startswith("d NO [EXPUNGEISSUED]")
