"""Calendars, contacts and files in backups: they come back beside what is there, or with the whole installation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_town import BOB, ONE, BackupTown
from entries_place import calendar, card, fill, held
from test_backup_restore import moved_keys, saved

from storage.backup.restoring import restore_account
from storage.backup.whole import restore_installation
from storage.check import check_installation
from storage.collections.tokens import TokenTooOld
from storage.collections.values import Kind
from storage.icalendar.content import calendar_content
from storage.mail.quota import Limits
from storage.vcard.content import card_content


@pytest.fixture
def town(tmp_path: Path) -> Iterator[BackupTown]:
    town = BackupTown(tmp_path)
    try:
        yield town
    finally:
        town.close()


def test_an_accounts_collections_come_beside_those_of_now(town: BackupTown) -> None:
    with town.installation.account(ONE, BOB) as account:
        fill(account)
        then = held(account)
    stored = town.backup().stored
    with town.installation.account(ONE, BOB) as account:
        work = account.collections.find(Kind.CALENDAR, "Wörk & 1")
        account.objects.delete(work.id, "A.ics")
        account.collections.delete(account.collections.find(Kind.FOLDER, "files").id)
        account.limits = Limits(bytes=account.usage().bytes + 3000)
        now = held(account)
        with saved(town, stored) as source:
            stopped = restore_account(source.account(BOB), account)
            assert stopped.stopped and 0 < stopped.objects < 18
            account.limits = Limits()
            rest = restore_account(source.account(BOB), account)
            again = restore_account(source.account(BOB), account)
        assert stopped.objects + rest.objects == 18 and rest.stopped is None
        assert (again.objects, again.objects_present, again.collections) == (0, 18, 0)
        after = held(account)
        assert {path: after[path] for path in now if not path.startswith("mailbox")} == now
        came = {path: value[-1] for path, value in after.items() if path not in now}

        def octets(entries: dict[str, tuple]) -> dict[str, bytes]:
            return {name: each[0] for name, each in entries.items()}

        [calendar_path] = [path for path in came if path.startswith("calendar/Wörk & 1 (")]
        assert octets(came[calendar_path]) == octets(then["calendar/Wörk & 1"][-1])
        [deep] = [path for path in came if path.endswith("/Level" * 9)]
        assert octets(came[deep]) == octets(then["folder/files" + "/Level" * 9][-1])
        assert len(after["Notes"]) == 1  # journal entries of then are no notes of now
        found = account.objects.in_time(work.id, 0, 1 << 40)
        assert {each.name for each, _ in found} >= {"meeting.ics"}


def test_no_etag_or_token_of_before_a_restore_stands_for_something_else(town: BackupTown, tmp_path: Path) -> None:
    with town.installation.account(ONE, BOB) as account:
        book, events = (
            account.collections.find(*each) for each in ((Kind.ADDRESS_BOOK, "contacts"), (Kind.CALENDAR, "calendar"))
        )
        account.objects.put(book.id, "c.vcf", card_content(card("c", b"PHOTO;ENCODING=b:" + 90_000 * b"A" + b"\r\n")))
        account.objects.put(events.id, "e.ics", calendar_content(calendar("e")))
        before = held(account)
    stored = town.backup().stored
    with town.installation.account(ONE, BOB) as account:
        lost = account.objects.put(events.id, "e.ics", calendar_content(calendar("e", summary="lost"))).stored
        token = account.collections.by_id(events.id).highest_modseq
    target = tmp_path / "new"
    moved_keys(town, target)
    town.clock.advance(3600)
    restore_installation(town.place, stored, target, town.keys(target), town.clock)
    restored = town.open(target)
    try:
        assert list(check_installation(restored, contents=True)) == []
        with restored.account(ONE, BOB) as account:
            assert held(account) == before
            with pytest.raises(TokenTooOld):
                account.objects.changes(events.id, token)
            other = account.objects.put(events.id, "e.ics", calendar_content(calendar("e", summary="anew"))).stored
            assert other.etag != lost.etag and other.modseq > token
            same = account.objects.put(events.id, "e.ics", calendar_content(calendar("e", summary="lost"))).stored
            assert same.etag == lost.etag  # of the same octets
    finally:
        restored.close()
