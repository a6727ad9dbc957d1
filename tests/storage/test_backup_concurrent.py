"""Writers append and expunge, mail is queued and withdrawn, while backups are made: every row has its file in each."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from backup_town import ALICE, BOB, ONE, BackupTown, mail
from test_backup_restore import enqueue

from storage.backup.saved import SavedTenant
from storage.backup.verifying import verify
from storage.values import AccountId, UidSet


@pytest.fixture
def town(tmp_path: Path) -> Iterator[BackupTown]:
    town = BackupTown(tmp_path)
    try:
        yield town
    finally:
        town.close()


class Writers:
    """Threads that write until they are told to stop."""

    def __init__(self, town: BackupTown) -> None:
        self._town = town
        self._over = threading.Event()
        self.rounds = 0
        self.failed: list[BaseException] = []
        works = [lambda: self._account(ALICE), lambda: self._account(BOB), self._queue]
        self._threads = [threading.Thread(target=self._repeat, args=(work,)) for work in works]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _repeat(self, work: object) -> None:
        assert callable(work)
        try:
            while not self._over.is_set():
                work()
                self.rounds += 1
        except BaseException as error:
            self.failed.append(error)

    def _account(self, account_id: AccountId) -> None:
        with self._town.installation.account(ONE, account_id) as account:
            inbox = account.mailboxes.find("INBOX").id
            appended = account.messages.append_many(inbox, [mail("while", n) for n in range(4)])
            uids = UidSet.of([each.uid for each in appended[:3]])
            account.messages.expunge(inbox, uids, only_deleted=False)

    def _queue(self) -> None:
        kept = enqueue(self._town)
        self._town.installation.queue.withdraw(enqueue(self._town))
        if self.rounds % 3:
            self._town.installation.queue.withdraw(kept)


def test_every_row_of_a_snapshot_has_its_file(town: BackupTown) -> None:
    with Writers(town) as writers:
        made = [town.backup() for _ in range(4)]
    assert not writers.failed and writers.rounds > 10
    for each in made:
        assert each.stored.manifest.missing == () and each.stored.manifest.skipped == ()
        with SavedTenant(each.stored, ONE, town.installation.keys, town.clock, town.data) as saved:
            for account_id in (ALICE, BOB):
                account = saved.account(account_id)
                [inbox] = [mailbox for mailbox in account.mailboxes() if mailbox.name == "INBOX"]
                rows = list(account.messages(inbox.id))
                assert len(rows) == inbox.messages >= 3
                assert all(account.read(row, "").data for row in rows)
    assert verify(town.installation, made[-1].stored, every=True).is_right
    town.installation.background.settle()
    made.append(town.backup())  # and what had to wait goes in the end
    names = {path.name for path in (town.data / "tenants/1/spool").iterdir()}
    assert len(names) == len(town.installation.queue.entries(limit=10_000))
