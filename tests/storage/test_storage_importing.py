"""Imports lose nothing: what stands in an archive comes back octet by octet, once, with its date and flags."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from accounts import AccountPlace

from storage import importing
from storage.archives.archive import Found, without_from_line
from storage.archives.mbox import Mbox
from storage.check import check_account
from storage.errors import InvalidInput, Unavailable
from storage.importing import Progress, import_archive, open_archive
from storage.mail.account import Account
from storage.mail.quota import Limits
from storage.values import FLAGGED, SEEN, UID_MAX

SAMPLES = Path(__file__).parent.parent / "data" / "import"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


def stored(account: Account, mailbox: str) -> list[tuple[bytes, int, int]]:
    """Octets, flags and INTERNALDATE of the messages of a mailbox, in the order of their UIDs."""
    mailbox_id = account.mailboxes.find(mailbox).id
    rows = account.messages.fetch_rows(mailbox_id, 1, UID_MAX, ("message_id", "file", "flags", "internal_date"))
    return [(account.messages.read(row[0], row[1]), row[2], row[3]) for row in rows]


def crlf(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def expected(path: Path) -> bytes:
    return crlf(without_from_line(path.read_bytes())[0])


def test_every_message_comes_back_octet_by_octet(place: AccountPlace) -> None:
    seen: list[Progress] = []
    report = import_archive(place.account, open_archive(SAMPLES), progress=seen.append)
    files = sorted(SAMPLES.iterdir())
    assert (report.imported, report.present, report.failed, report.stopped) == (len(files), 0, [], None)
    assert [octets for octets, _, _ in stored(place.account, "INBOX")] == [expected(path) for path in files]
    assert [(each.done, each.total) for each in seen] == [(n, len(files)) for n in range(1, len(files) + 1)]
    assert list(check_account(place.account, place.incarnation, contents=True)) == []


def test_dates_come_from_the_archive_else_from_the_message_else_are_now(place: AccountPlace) -> None:
    import_archive(place.account, open_archive(SAMPLES))
    dates = [date for _, _, date in stored(place.account, "INBOX")][:3]
    assert dates == [1030019783, 1030012200, place.clock.now()]


def test_a_second_run_imports_nothing_and_a_broken_one_goes_on(
    place: AccountPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "BATCH_MESSAGES", 3)

    def breaks_off(progress: Progress) -> None:
        if progress.done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_archive(place.account, open_archive(SAMPLES), progress=breaks_off)
    assert place.account.usage().messages == 6  # two whole batches
    second = import_archive(place.account, open_archive(SAMPLES))
    assert (second.imported, second.present) == (4, 6)
    third = import_archive(place.account, open_archive(SAMPLES))
    assert (third.imported, third.present) == (0, 10)
    assert place.account.usage().messages == 10


def test_messages_that_are_equal_are_all_imported_and_only_once(place: AccountPlace, tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.write_bytes(3 * b"From a Thu Aug 22 12:36:23 2002\nSubject: same\n\nsame\n\n")
    for imported in (3, 0):
        report = import_archive(place.account, open_archive(box))
        assert (report.imported, report.present) == (imported, 3 - imported)


def make_maildir(path: Path) -> None:
    for folder in (".", ".Work.2024", ".Empty"):
        for part in ("cur", "new", "tmp"):
            (path / folder / part).mkdir(parents=True)
    (path / "dovecot-keywords").write_text("0 Travail\n")
    for name, time in (("cur/1:2,FSa", 1000), ("new/2", 2000), (".Work.2024/cur/3:2,", 3000)):
        (path / name).write_bytes(b"Subject: %d\n\n" % time)
        os.utime(path / name, (time, time))


def test_a_maildir_keeps_folders_flags_keywords_and_times(place: AccountPlace, tmp_path: Path) -> None:
    make_maildir(tmp_path / "Maildir")
    report = import_archive(place.account, open_archive(tmp_path / "Maildir"))
    assert report.imported == 3
    inbox = place.account.mailboxes.find("INBOX")
    keywords = place.account.mailboxes.keywords(inbox.id)
    (bit,) = (bit for bit, name in keywords.items() if name == "Travail")
    assert [(flags, date) for _, flags, date in stored(place.account, "INBOX")] == [
        (FLAGGED | SEEN | 1 << bit, 1000),
        (0, 2000),
    ]
    assert stored(place.account, "Work/2024") == [(b"Subject: 3000\r\n\r\n", 0, 3000)]
    assert place.account.mailboxes.find("Empty").messages == 0
    assert {"Work/2024", "Empty"} <= place.account.mailboxes.subscriptions()


def test_folders_stand_below_another_target(place: AccountPlace, tmp_path: Path) -> None:
    make_maildir(tmp_path / "Maildir")
    import_archive(place.account, open_archive(tmp_path / "Maildir"), "Old")
    assert len(stored(place.account, "Old")) == 2
    assert len(stored(place.account, "Old/Work/2024")) == 1


def test_what_is_no_message_is_reported_with_its_reason(place: AccountPlace, tmp_path: Path) -> None:
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "a.eml").write_bytes(b"Subject: a\n\n")
    (tmp_path / "mail" / "b.txt").write_bytes(b"a list\n")
    report = import_archive(place.account, open_archive(tmp_path / "mail"))
    assert report.imported == 1
    assert [(failure.origin, "header" in failure.reason) for failure in report.failed] == [("b.txt", True)]


def test_more_keywords_than_a_mailbox_takes_lose_the_keywords_not_the_mail(place: AccountPlace) -> None:
    class Tagged:
        def folders(self) -> list[str]:
            return []

        def count(self) -> int:
            return 60

        def messages(self) -> Iterator[Found]:
            for number in range(60):
                yield Found("", str(number), b"Subject: %d\n\n" % number, keywords=(f"tag{number}",))

    report = import_archive(place.account, Tagged())
    assert (report.imported, report.failed) == (60, [])


def test_a_full_mailbox_stops_the_import_and_keeps_what_fits(place: AccountPlace) -> None:
    place.account.limits = Limits(messages=4)
    report = import_archive(place.account, open_archive(SAMPLES))
    assert (report.imported, report.failed) == (4, [])
    assert report.stopped is not None
    place.account.limits = Limits()
    assert import_archive(place.account, open_archive(SAMPLES)).imported == 6


def test_a_failure_of_the_server_is_no_failure_of_a_message(
    place: AccountPlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = open_archive(SAMPLES)
    place.account.close()
    with pytest.raises(Unavailable):
        import_archive(place.account, archive)


def test_an_archive_is_recognised_by_what_it_is(tmp_path: Path) -> None:
    make_maildir(tmp_path / "Maildir")
    box = tmp_path / "box"
    box.write_bytes(b"From a Thu Aug 22 12:36:23 2002\n\n")
    assert isinstance(open_archive(box), Mbox)
    assert open_archive(tmp_path / "Maildir").folders() == ["Empty", "Work/2024"]
    assert open_archive(tmp_path / "Maildir", "eml").folders() == []
    for path, kind in ((tmp_path / "none", "auto"), (tmp_path, "mbox"), (box, "maildir")):
        with pytest.raises(InvalidInput):
            open_archive(path, kind)  # type: ignore[arg-type]


def test_folders_with_names_that_no_mailbox_may_have_come_in_under_the_nearest(
    place: AccountPlace, tmp_path: Path
) -> None:
    tree = tmp_path / "Maildir"
    for name in ("", "100% sure", "a*b", "bad\udcff", ".x.&AC8-etc", "x" * 200 + "/" + "y" * 200):
        (tree / name / "cur").mkdir(parents=True)
        (tree / name / "cur" / "1:2,S").write_bytes(b"Subject: x\r\n\r\nText\r\n")
    report = import_archive(place.account, open_archive(tree, "maildir"))
    assert (report.imported, report.failed) == (6, [])
    names = {mailbox.name for mailbox in place.account.mailboxes.list()}
    assert {"100_ sure", "a_b", "x/_etc"} <= names and any(name.startswith("bad") for name in names)


def test_pipes_and_links_of_an_archive_are_left_alone(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "cur").mkdir(parents=True)
    (outside / "cur" / "1").write_bytes(b"Subject: outside\r\n\r\nText\r\n")
    eml, tree = tmp_path / "eml", tmp_path / "tree"
    eml.mkdir()
    (tree / "new").mkdir(parents=True)
    os.mkfifo(eml / "pipe.eml")
    (eml / "link.eml").symlink_to(outside / "cur" / "1")
    (tree / "cur").symlink_to(outside / "cur")
    for archive in (open_archive(eml, "eml"), open_archive(tree, "maildir")):
        assert (archive.count(), list(archive.messages())) == (0, [])
