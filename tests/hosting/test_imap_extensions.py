"""What the extensions promise beyond the dialogues: quota, ids, BINARY, WITHIN, SEARCHRES, CONDSTORE, LIST options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from storage.mail.messages import NewMessage

BINARY = (
    b"From: a@example.test\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nf=C3=BCr\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nAAECAwQ=\r\n"
    b"--b\r\nContent-Transfer-Encoding: x-nonsense\r\n\r\n???\r\n--b--\r\n"
)


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        with made.account() as account:
            inbox = account.mailboxes.find("INBOX")
            now = made.clock.now()
            new = [
                NewMessage(mail("One", Message_ID="<1@x>"), internal_date=now - 10_000),
                NewMessage(mail("Two", Message_ID="<2@x>", In_Reply_To="<1@x>"), internal_date=now - 100),
                NewMessage(BINARY, internal_date=now),
            ]
            account.messages.append_many(inbox.id, new)
        yield made


def client(town: MailTown, *, select: str = "INBOX") -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\ny EXAMINE {select}\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    return made


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def test_quota(town: MailTown) -> None:
    """RFC 9208: told in units of 1,024 octets; a message too many is refused as OVERQUOTA."""
    tenant_id, account_id = town.accounts["alice@example.test"]
    town.provisioning.set_quota(tenant_id, account_id, quota_bytes=10 * 1024, quota_messages=4)
    one = client(town)
    play(
        one,
        """
        C: a GETQUOTAROOT INBOX
        S: * QUOTAROOT "INBOX" ""
        S: * QUOTA "" (STORAGE 1 10 MESSAGE 3 4)
        S: a OK …
        C: b GETQUOTA nonsense
        S: b NO [NONEXISTENT] …
        C: c APPEND Sent {3+}
        C> abc\\r\\n
        S: c OK …
        C: d APPEND Sent {3+}
        C> abc\\r\\n
        S: d NO [OVERQUOTA] …
        C: e COPY 1 Sent
        S: e NO [OVERQUOTA] …
        C: f STATUS INBOX (DELETED DELETED-STORAGE)
        S: * STATUS "INBOX" (DELETED 0 DELETED-STORAGE 0)
        S: f OK …
        """,
    )


def test_deleted_storage(town: MailTown) -> None:
    one = client(town)
    ask(one, "a SELECT INBOX")
    ask(one, "b STORE 3 +FLAGS (\\Deleted)")
    assert ask(one, "c STATUS INBOX (DELETED DELETED-STORAGE)")[0].endswith(
        f"(DELETED 1 DELETED-STORAGE {len(BINARY)})"
    )


def test_object_ids(town: MailTown) -> None:
    """RFC 8474: a reply shares the thread, a copy the e-mail; both can be searched for."""
    one = client(town)
    lines = ask(one, "a UID FETCH 1:3 (EMAILID THREADID)")
    ids = [re.findall(r"(EMAILID|THREADID) \(([^)]+)\)", line) for line in lines[:3]]
    assert len({dict(pairs)["EMAILID"] for pairs in ids}) == 3
    assert dict(ids[0])["THREADID"] == dict(ids[1])["THREADID"] != dict(ids[2])["THREADID"]
    assert ask(one, f"b SEARCH THREADID {dict(ids[0])['THREADID']}")[0] == "* SEARCH 1 2"
    assert ask(one, f"c SEARCH EMAILID {dict(ids[2])['EMAILID']}")[0] == "* SEARCH 3"
    ask(one, "d COPY 1 Archive")
    ask(one, "e EXAMINE Archive")
    assert f"EMAILID ({dict(ids[0])['EMAILID']})" in ask(one, "f FETCH 1 EMAILID")[0]


def test_binary(town: MailTown) -> None:
    """RFC 3516: transfer encodings undone; literal8 where there is a NUL; an encoding nobody knows."""
    one = client(town)
    play(
        one,
        """
        C: a FETCH 3 (BINARY.PEEK[1] BINARY.SIZE[1])
        S: * 3 FETCH (BINARY[1] {4}
        S: für BINARY.SIZE[1] 4)
        S: a OK …
        C: b FETCH 3 BINARY.PEEK[1]<1.2>
        S: * 3 FETCH (BINARY[1]<1> {2}
        S: ü)
        S: b OK …
        C: c FETCH 3 (BINARY.SIZE[2] BINARY.PEEK[7])
        S: * 3 FETCH (BINARY.SIZE[2] 5 BINARY[7] NIL)
        S: c OK …
        C: d FETCH 3 BINARY.PEEK[3]
        S: d NO [UNKNOWN-CTE] …
        """,
    )
    one.send(b"e FETCH 3 BINARY.PEEK[2]\r\n")
    assert one.out.startswith(b"* 3 FETCH (BINARY[2] ~{5}\r\n\0\1\2\3\4)\r\n")


SEARCHES = [
    ("YOUNGER 200", "2 3"),
    ("OLDER 200", "1"),
    ("YOUNGER 99999", "1 2 3"),
    ("BEFORE 1-Jan-2000", ""),
    ("SINCE 1-Jan-2000 NOT LARGER 1000", "1 2 3"),
    ("OR OR SUBJECT One SUBJECT Two HEADER From a@example.test", "1 2 3"),
    ('HEADER In-Reply-To ""', "2"),
    ('HEADER X-Missing ""', ""),
    ("NOT (1:2)", "3"),
    ("UID 2:* UNSEEN", "2 3"),
    ("4:9", ""),
    ("NEW", "1 2 3"),
    ("OLD", ""),
    ('BODY "für"', "3"),
    ('TEXT "FÜR"', "3"),
    ('SUBJECT ""', "1 2"),  # a message without the field has no string there
]


@pytest.mark.parametrize(("key", "expected"), SEARCHES)
def test_search_keys(town: MailTown, key: str, expected: str) -> None:
    answer = ask(client(town), f"a SEARCH CHARSET UTF-8 {key}")[0]
    assert answer == ("* SEARCH " + expected).rstrip()


SAVED = [
    ("SAVE", "1:3"),
    ("SAVE ALL", "1:3"),
    ("SAVE COUNT MIN", "1:3"),
    ("SAVE MIN", "1"),
    ("SAVE MAX", "3"),
    ("SAVE MIN MAX", "1,3"),
]


@pytest.mark.parametrize(("options", "saved"), SAVED)
def test_what_is_saved(town: MailTown, options: str, saved: str) -> None:
    """RFC 9051 §6.4.4.1, table 4."""
    one = client(town)
    ask(one, f"a SEARCH RETURN ({options}) ALL")
    assert ask(one, "b SEARCH RETURN (ALL) $")[0] == f'* ESEARCH (TAG "b") ALL {saved}'
    ask(one, "c SEARCH RETURN (SAVE) CHARSET X-NONE ALL")
    assert ask(one, "d SEARCH RETURN (ALL) $")[0] == '* ESEARCH (TAG "d")'
    assert ask(one, "e FETCH $ FLAGS") == ["e OK Fetched."]


def test_saved_messages_that_go_leave_the_result(town: MailTown) -> None:
    one = client(town)
    ask(one, "a SELECT INBOX")
    ask(one, "b UID SEARCH RETURN (SAVE) 1:3")
    ask(one, "c STORE 1 +FLAGS.SILENT (\\Deleted)")
    ask(one, "d EXPUNGE")
    assert ask(one, "e FETCH $ (UID)")[:-1] == ["* 1 FETCH (UID 2)", "* 2 FETCH (UID 3)"]


def test_condstore(town: MailTown) -> None:
    """RFC 7162 §3.1: MODSEQ in FETCH, SEARCH and STORE from the first command that asks for it."""
    one = client(town)
    ask(one, "a SELECT INBOX")
    lines = ask(one, "b FETCH 1:2 (MODSEQ)")
    assert lines[0].startswith("* OK [HIGHESTMODSEQ ")
    modseq = int(re.findall(r"MODSEQ \((\d+)\)", lines[1])[0])
    changed = ask(one, "c STORE 1 +FLAGS.SILENT (\\Flagged)")[0]
    newer = int(re.findall(r"MODSEQ \((\d+)\)", changed)[0])
    assert newer > modseq
    assert ask(one, f"d SEARCH MODSEQ {newer}")[0] == f"* SEARCH 1 (MODSEQ {newer})"
    assert ask(one, f"e SEARCH RETURN (COUNT) MODSEQ {newer}")[0] == f'* ESEARCH (TAG "e") COUNT 1 MODSEQ {newer}'
    assert ask(one, f"f SORT (SIZE) UTF-8 MODSEQ {newer}")[0] == f"* SORT 1 (MODSEQ {newer})"
    (line, _done) = ask(one, f"g FETCH 1:* (FLAGS) (CHANGEDSINCE {modseq})")
    assert line.startswith("* 1 FETCH (FLAGS (\\Flagged")
    assert line.endswith(f"MODSEQ ({newer}))")
    lines = ask(one, f"h UID STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS (\\Seen)")
    assert lines[-1].startswith("h OK [MODIFIED 1] ")
    assert len(lines) == 2
    assert "* 2 FETCH (UID 2 FLAGS (\\Seen" in lines[0]


def test_list_of_special_uses(town: MailTown) -> None:
    one = client(town)
    names = [line.rsplit(" ", 1)[1] for line in ask(one, 'a LIST (SPECIAL-USE) "" "*"')[:-1]]
    assert names == ['"Archive"', '"Drafts"', '"Junk"', '"Sent"', '"Trash"']
    ask(one, "b DELETE Archive")
    subscribed = ask(one, 'c LIST (SUBSCRIBED) "" "A*"')
    assert subscribed[0] == '* LIST (\\Subscribed \\HasNoChildren \\NonExistent) "/" "Archive"'
    ask(one, "d CREATE Old (USE (\\Archive))")
    assert ask(one, 'e LIST "" Old')[0] == '* LIST (\\HasNoChildren \\Archive) "/" "Old"'
    assert ask(one, 'f LIST "" ("O*" "Se%") RETURN (SUBSCRIBED)')[:-1] == [
        '* LIST (\\HasNoChildren \\Archive) "/" "Old"',
        '* LIST (\\Subscribed \\HasNoChildren \\Sent) "/" "Sent"',
    ]
    assert ask(one, 'g LIST "Se" "nt"')[0] == '* LIST (\\HasNoChildren \\Sent) "/" "Sent"'


def test_lsub_names_parents_of_what_is_subscribed(town: MailTown) -> None:
    """RFC 3501 §6.3.9."""
    one = client(town)
    ask(one, "a CREATE Deep/er")
    ask(one, "b SUBSCRIBE Deep/er")
    assert ask(one, 'c LSUB "" "De%"')[:-1] == ['* LSUB (\\Noselect) "/" "Deep"']
    assert ask(one, 'd LSUB "" "Deep/%"')[:-1] == ['* LSUB (\\HasNoChildren) "/" "Deep/er"']


def test_accounts_and_tenants_do_not_meet(town: MailTown) -> None:
    for user in ("bob@example.test", "mallory@other.test"):
        one = CoreClient(town.services)
        one.send(f'x LOGIN {user} "{PASSWORD}"\r\n'.encode())
        one.receive(0)
        assert "* 0 EXISTS" in ask(one, "a SELECT INBOX")
        for name in ("../1/INBOX", "/INBOX", "alice@example.test/INBOX", "~alice/INBOX"):
            assert ask(one, f"b SELECT {name}")[-1].startswith(("b NO", "b BAD")), name
        one.close()
