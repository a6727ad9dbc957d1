"""Flags that changed on the other server since they were last looked at, and change here.

Every other flag stays as its owner has it here: what is compared is the other server's state then and now. Where that
server counts changes, it is asked for nothing but what changed since the last look.

Raises: ServerLost.
Standards: RFC 7162 §3.1.4 (CHANGEDSINCE).
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from hosting.migration.answers import Opened
from hosting.migration.client import Server
from hosting.migration.report import FolderReport
from hosting.migration.run import Destination
from storage.errors import LimitReached
from storage.mail.moving_values import Moved, MovingFolder, Tags, changes
from storage.values import MailboxId, UidSet


class Flags:
    def __init__(self, destination: Destination) -> None:
        self._destination = destination

    def follow(
        self,
        server: Server,
        folder: MovingFolder,
        opened: Opened,
        before: array[int],
        there: array[int],
        report: FolderReport,
        *,
        every: bool,
    ) -> None:
        """Of what had moved before this run; after renumbering of everything."""
        since = folder.highest_modseq if opened.highest_modseq else 0
        if since and since == opened.highest_modseq:
            return
        old, present = set(before), set(there)
        for rows in self._destination.moving.messages(folder):
            asked = [row for row in rows if row.uid in present and (every or row.uid in old)]
            if asked:
                now = server.flags([row.uid for row in asked], since)
                report.flags += self._apply(folder, asked, now)

    def _apply(self, folder: MovingFolder, rows: Sequence[Moved], now: dict[int, Tags]) -> int:
        """Change here what changed there, all messages with the same change together; how many are different now."""
        same: dict[tuple[Tags, Tags], list[int]] = {}
        seen: list[tuple[int, Tags]] = []
        for row in rows:
            tags = now.get(row.uid)
            if tags is None or tags == row.tags:
                continue
            seen.append((row.uid, tags))
            change = changes(row.tags, tags)
            if change and row.here is not None:
                same.setdefault((change.added, change.removed), []).append(row.here)
        changed = 0
        for (added, removed), uids in same.items():
            changed += self._store(folder.mailbox_id, UidSet.of(uids), added, removed)
        if seen:
            self._destination.moving.seen(folder, seen)
        return changed

    def _store(self, mailbox_id: MailboxId, uids: UidSet, added: Tags, removed: Tags) -> int:
        store = self._destination.account.messages.store
        changed: set[int] = set()
        if any(removed):
            done = store(mailbox_id, uids, "remove", removed.flags, sorted(removed.keywords))
            changed.update(uid for uid, _, _ in done.changed)
        if any(added):
            try:
                done = store(mailbox_id, uids, "add", added.flags, sorted(added.keywords))
            except LimitReached:
                self._destination.report.note("Keywords were left out: a mailbox has no room for more of them.")
                done = store(mailbox_id, uids, "add", added.flags)
            changed.update(uid for uid, _, _ in done.changed)
        return len(changed)
