"""Archives are read as the programs that wrote them mean it: mbox (RFC 4155, mboxrd), Maildir and Maildir++, .eml."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from storage.archives.archive import Found, Unreadable, from_line_date, is_from_line, without_from_line
from storage.archives.eml import EmlFolder
from storage.archives.maildir import MaildirArchive, decode_name, is_maildir
from storage.archives.mbox import Mbox
from storage.errors import InvalidInput
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN

MBOX = b"""From ann@example.org  Thu Aug 22 12:36:23 2002
Subject: one
Status: RO
X-Status: AF

Hello
>From the start
>>From twice
From prose without a date, not a new message

From the desk of nobody

end

From bob@example.org Fri Aug 23 01:02:03 2002 +0200
Subject: two
X-Mozilla-Status: 0009

second

From - Sat Aug 24 00:00:00 2002
Subject: three

third"""


def test_mbox_is_divided_at_from_lines_with_a_date_and_unquoted(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(MBOX)
    box = Mbox(path)
    found = [entry for entry in box.messages() if isinstance(entry, Found)]
    assert box.count() == len(found) == 3
    assert found[0].octets == (
        b"Subject: one\nStatus: RO\nX-Status: AF\n\nHello\nFrom the start\n>From twice\n"
        b"From prose without a date, not a new message\n\nFrom the desk of nobody\n\nend\n"
    )
    assert found[1].octets == b"Subject: two\nX-Mozilla-Status: 0009\n\nsecond\n"
    assert found[2].octets == b"Subject: three\n\nthird"
    assert [entry.flags for entry in found] == [SEEN | ANSWERED | FLAGGED, SEEN | DELETED, 0]
    assert [entry.received for entry in found] == [1030019783, 1030057323, 1030147200]
    assert found[1].origin == "box, message 2"


def test_mbox_with_crlf_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(MBOX.replace(b"\n", b"\r\n"))
    found = [entry for entry in Mbox(path).messages() if isinstance(entry, Found)]
    assert found[1].octets == b"Subject: two\r\nX-Mozilla-Status: 0009\r\n\r\nsecond\r\n"


def test_mbox_reports_an_empty_entry_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(b"From a Thu Aug 22 12:36:23 2002\n\nFrom b Thu Aug 22 12:36:23 2002\nA: b\n\nc\n")
    first, second = Mbox(path).messages()
    assert isinstance(first, Unreadable)
    assert isinstance(second, Found)
    assert second.octets == b"A: b\n\nc\n"


def test_mbox_with_a_line_longer_than_the_read_piece_and_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(b"From a Thu Aug 22 12:36:23 2002\nA: b\n\n" + b"x" * 200_000 + b"\n>From y\n")
    (only,) = Mbox(path).messages()
    assert isinstance(only, Found)
    assert only.octets == b"A: b\n\n" + b"x" * 200_000 + b"\nFrom y\n"
    path.write_bytes(b"")
    assert list(Mbox(path).messages()) == []


def test_a_file_that_is_no_mbox_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "box"
    path.write_bytes(b"Subject: x\n\n")
    with pytest.raises(InvalidInput, match="mbox"):
        Mbox(path)


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"From a@b Thu Aug 22 12:36:23 2002\n", 1030019783),
        (b"From a@b Thu Aug 22 12:36 2002\n", 1030019760),
        (b"From a@b Thu Aug 22 12:36:23 +0200 2002\n", 1030012583),
        (b"From a@b Thu Aug 22 12:36:23 EDT 2002\n", 1030019783),
        (b"From a@b Thu Aug 22 12:36:23 2002 -0700\n", 1030044983),
        (b"From a@b Thu Aug 99 12:36:23 2002\n", None),
        (b"From \n", None),
        (b"From a@b yesterday\n", None),
    ],
)
def test_dates_of_from_lines(line: bytes, seconds: int | None) -> None:
    assert from_line_date(line) == seconds


def test_from_lines_are_told_from_prose() -> None:
    assert is_from_line(b"From - Tue Apr 01 12:00:00 2003\r\n")
    assert is_from_line(b"From \n")  # Thunderbird writes no date any more
    assert not is_from_line(b"From here to eternity\n")
    assert without_from_line(b"From a Thu Aug 22 12:36:23 2002\nA: b\n\n") == (b"A: b\n\n", 1030019783)
    assert without_from_line(b"From: a\n\n") == (b"From: a\n\n", None)


def make_folder(path: Path, *messages: tuple[str, int]) -> None:
    for part in ("cur", "new", "tmp"):
        (path / part).mkdir(parents=True)
    for name, time in messages:
        file = path / name
        file.write_bytes(b"Subject: %s\n\nbody\n" % name.encode())
        os.utime(file, (time, time))


def test_maildir_in_both_layouts_with_flags_times_and_keywords(tmp_path: Path) -> None:
    make_folder(tmp_path, ("cur/2.b:2,FRS", 200), ("cur/1.a:2,DTPb", 100), ("new/3.c", 300), ("tmp/4.d", 400))
    (tmp_path / "dovecot-keywords").write_text("0 $Junk\n1 Travail\n")
    make_folder(tmp_path / ".Entw&APw-rfe.Alt", ("cur/1.x;2,S", 5))
    make_folder(tmp_path / "Lists" / "Dev", ("new/1.y", 6))
    (tmp_path / "courierimapkeywords").mkdir()
    archive = MaildirArchive(tmp_path)
    assert archive.folders() == ["Entwürfe/Alt", "Lists/Dev"]
    assert archive.count() == 5
    found = [entry for entry in archive.messages() if isinstance(entry, Found)]
    assert [(entry.folder, entry.flags, entry.keywords, entry.received) for entry in found] == [
        ("", DRAFT | DELETED, ("$Forwarded", "Travail"), 100),
        ("", FLAGGED | ANSWERED | SEEN, (), 200),
        ("", 0, (), 300),
        ("Entwürfe/Alt", SEEN, (), 5),
        ("Lists/Dev", 0, (), 6),
    ]


def test_maildir_reports_what_is_no_message(tmp_path: Path) -> None:
    make_folder(tmp_path)
    (tmp_path / "cur" / "1").write_bytes(b"\x1f\x8b rest of a gzip file")
    (tmp_path / "cur" / "2").write_bytes(b"")
    (tmp_path / "cur" / "3").symlink_to("/etc/passwd")
    reasons = [entry.reason for entry in MaildirArchive(tmp_path).messages() if isinstance(entry, Unreadable)]
    assert ["compressed" in reasons[0], "empty" in reasons[1], len(reasons)] == [True, True, 2]


def test_maildir_is_recognised_at_the_top_and_right_below(tmp_path: Path) -> None:
    assert not is_maildir(tmp_path)
    make_folder(tmp_path / "INBOX")
    assert is_maildir(tmp_path)
    assert is_maildir(tmp_path / "INBOX")
    with pytest.raises(InvalidInput):
        MaildirArchive(tmp_path / "INBOX" / "cur")


@pytest.mark.parametrize(
    ("name", "decoded"),
    [("Projekte f&APw-r", "Projekte für"), ("A&-B", "A&B"), ("&", "&"), ("&Jjo-!", "☺!"), ("&AB-", "&AB-"), ("Ü", "Ü")],
)
def test_folder_names_are_decoded_and_bad_ones_kept(name: str, decoded: str) -> None:
    assert decode_name(name) == decoded


def test_folder_of_message_files(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a.eml").write_bytes(b"From x@y Thu Aug 22 12:36:23 2002\nSubject: a\n\nbody\n")
    (tmp_path / "b" / "0001").write_bytes(b"Subject: b\n\nbody\n")
    (tmp_path / "index").write_bytes(b"ham a.eml\n")
    (tmp_path / "odd.eml").write_bytes(b"no header at all")
    (tmp_path / ".hidden.eml").write_bytes(b"Subject: h\n\n")
    folder = EmlFolder(tmp_path)
    assert folder.count() == 4
    entries = list(folder.messages())
    found = {entry.origin: entry for entry in entries if isinstance(entry, Found)}
    assert list(found) == ["a.eml", "b/0001", "odd.eml"]
    assert (found["a.eml"].octets, found["a.eml"].received) == (b"Subject: a\n\nbody\n", 1030019783)
    assert found["b/0001"].received is None
    assert [entry.origin for entry in entries if isinstance(entry, Unreadable)] == ["index"]


def test_a_single_file_is_an_archive_of_one(tmp_path: Path) -> None:
    path = tmp_path / "one.eml"
    path.write_bytes(b"Subject: a\n\n")
    (only,) = EmlFolder(path).messages()
    assert isinstance(only, Found)
    assert only.origin == "one.eml"
