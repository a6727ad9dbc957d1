"""What a row names was brought to the disk, whole, before the row was: by every way that a file comes into being."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from collections_place import AccountPlace, calendar, event, folder, large

from storage.collections.values import Content
from storage.files.maildir import Maildir
from storage.mail.messages import NewMessage


def append(place: AccountPlace) -> None:
    place.account.messages.append(place.account.mailboxes.find("INBOX").id, b"Subject: one\r\n\r\n" + large())


def append_some(place: AccountPlace) -> None:
    inbox = place.account.mailboxes.find("INBOX").id
    place.account.messages.append_many(inbox, [NewMessage(b"Subject: one\r\n\r\n"), NewMessage(large())])


def replace(place: AccountPlace) -> None:
    inbox = place.account.mailboxes.find("INBOX").id
    uid = place.account.messages.append(inbox, b"Subject: one\r\n\r\n").uid
    place.account.messages.replace(inbox, uid, inbox, NewMessage(b"Subject: two\r\n\r\n"))


def put_event(place: AccountPlace) -> None:
    place.account.objects.put(calendar(place.account).id, "a.ics", event("a", large()))


def put_file_twice(place: AccountPlace) -> None:
    where = folder(place.account).id
    for text in (large("one"), large("two")):
        place.account.objects.put(where, "a.txt", Content(text, "text/plain"))


@pytest.mark.parametrize("store", [append, append_some, replace, put_event, put_file_twice])
def test_a_file_is_synced_whole_before_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Callable[[AccountPlace], None]
) -> None:
    synced: dict[int, int] = {}  # by inode: octets
    whole = os.fsync

    def fsync(descriptor: int) -> None:
        whole(descriptor)
        found = os.fstat(descriptor)
        synced[found.st_ino] = found.st_size

    place = AccountPlace(tmp_path)
    try:
        monkeypatch.setattr(os, "fsync", fsync)
        store(place)
        place.settle()
        stored = 0
        for files in (place.account.maildir, place.account.octets.files):
            for path in _paths(files):
                assert synced.get(path.stat().st_ino) == path.stat().st_size
                stored += 1
        assert stored
    finally:
        place.close()


def _paths(files: Maildir) -> list[Path]:
    return [files.path / folder / name for folder in ("tmp", "new", "cur") for name in files.names(folder)]
