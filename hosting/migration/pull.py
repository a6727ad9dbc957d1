"""Brings one folder up to date: what is new there comes here, and flags that changed there change here.

What is to be done is found by comparing the UIDs there with those that have moved, so a pull may break off anywhere and
be run again: `hosting.migration.arrivals` brings what is new, each message once, `hosting.migration.flags` the flags.

What wins: a flag that changed there since it was last looked at is changed here; every other flag stays as its owner
has it here. What its owner deleted or moved here does not come again. What is gone there stays here, unless that was
asked for otherwise.

Memory: two batches of 4 MB, or the one message at hand, and about 50 octets for each message of the folder.
Raises: ServerLost (connect again and go on), Stopped (nothing more can be done in this run), Unavailable, Gone.
Standards: RFC 9051 §2.3.1.1.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import replace

from hosting.migration.answers import Opened
from hosting.migration.arrivals import Arrivals, parts
from hosting.migration.client import Server
from hosting.migration.flags import Flags
from hosting.migration.folders import Choice, Planned, plan
from hosting.migration.report import FolderReport
from hosting.migration.run import Attempts, Destination, Orders, Shown, key_of
from storage.errors import AlreadyExists, NotFound, NotPermitted
from storage.mail.mailboxes import Mailbox
from storage.mail.moving_values import MovingFolder, digest
from storage.mail.names import INBOX
from storage.mime.normalise import to_crlf
from storage.values import UidSet


class FolderPull:
    def __init__(self, destination: Destination, orders: Orders, shown: Shown) -> None:
        self._destination = destination
        self._account = destination.account
        self._moving = destination.moving
        self._orders = orders
        self._shown = shown

    def run(self, server: Server, planned: Planned, attempts: Attempts, report: FolderReport) -> None:
        """`report` keeps what earlier attempts have done."""
        if not self._orders.is_dry:
            self._destination.check()
        opened = server.open(planned.listed.raw)
        there = server.uids(opened.messages)
        wanted = there if self._orders.since is None else server.uids(opened.messages, self._orders.since)
        report.there, report.older = len(there), len(there) - len(wanted)
        known = self._moving.folders().get(key_of(planned.listed))
        if self._orders.is_dry:
            self._look(server, planned, opened, known, there, wanted, report)
            return
        folder, is_renumbered = self._folder(server, planned, opened, known, there)
        before = self._moving.uids(folder)
        Arrivals(self._destination, server, folder, planned, attempts, report).all(wanted, before)
        Flags(self._destination).follow(server, folder, opened, before, there, report, every=is_renumbered)
        if len(self._moving.uids(folder)) < len(there):  # some may be gone since
            there = server.uids(server.open(planned.listed.raw).messages)
        self._count(folder, there, wanted, attempts, report)
        self._moving.compared(folder, opened.highest_modseq, is_whole=report.is_complete)

    # Where it goes

    def _folder(
        self, server: Server, planned: Planned, opened: Opened, known: MovingFolder | None, there: array[int]
    ) -> tuple[MovingFolder, bool]:
        """The folder, with a mailbox, and whether its numbers are others than before."""
        if known is None:
            known = self._renamed(server, planned, opened, there)
        if known is None:
            mailbox = self._mailbox(planned)
            if planned.listed.subscribed:
                self._account.mailboxes.subscribe(mailbox.name)
            return self._moving.begin(key_of(planned.listed), opened.uidvalidity, mailbox.id), False
        try:
            self._account.mailboxes.by_id(known.mailbox_id)
        except NotFound:  # its owner deleted it: what comes from now on needs one
            known = self._moving.placed(known, self._mailbox(planned).id)
        if known.uidvalidity == opened.uidvalidity:
            return known, False
        self._destination.report.note(
            f"{planned.listed.name}: the other server gave all messages new numbers; they are known by their content."
        )
        return self._moving.renumbered(known, opened.uidvalidity), True

    def _mailbox(self, planned: Planned) -> Mailbox:
        mailboxes = self._account.mailboxes
        try:
            return mailboxes.find(planned.mailbox)
        except NotFound:
            uses = {use for each in mailboxes.list() for use in each.special_use}
            use = planned.special_use
            try:
                return mailboxes.create(planned.mailbox, (use,) if use and use not in uses else ())
            except AlreadyExists:
                return mailboxes.find(planned.mailbox)

    def _renamed(self, server: Server, planned: Planned, opened: Opened, there: array[int]) -> MovingFolder | None:
        """A folder that had another name there before: the same numbers, and the same octets under some of them."""
        present = set(there)
        for key, before in self._moving.folders().items():
            if before.uidvalidity != opened.uidvalidity or self._shown.has(key):
                continue
            uids = [uid for uid in self._moving.uids(before) if uid in present]
            sample = {uids[0], uids[len(uids) // 2], uids[-1]} if uids else set()
            if not sample or not all(self._is_same(server, before, uid) for uid in sample):
                continue
            self._follow(before, planned)
            return self._moving.renamed(before, key_of(planned.listed))
        return None

    def _is_same(self, server: Server, folder: MovingFolder, uid: int) -> bool:
        octets = server.large_body(uid)
        return octets is not None and digest(to_crlf(octets)) == self._moving.digest_of(folder, uid)

    def _follow(self, before: MovingFolder, planned: Planned) -> None:
        """The mailbox is renamed too, if it still has the name that it was given."""
        listed = replace(
            planned.listed, raw=before.folder.encode("latin-1"), name=before.folder, attributes=frozenset()
        )
        was = plan([listed], self._shown.namespaces, Choice())[0].mailbox
        try:
            mailbox = self._account.mailboxes.by_id(before.mailbox_id)
            if mailbox.name == was != INBOX and not mailbox.special_use:
                self._account.mailboxes.rename(was, planned.mailbox)
        except (NotFound, AlreadyExists, NotPermitted):  # of Notes, while it shows notes
            return

    # A dry run

    def _look(
        self,
        server: Server,
        planned: Planned,
        opened: Opened,
        known: MovingFolder | None,
        there: array[int],
        wanted: array[int],
        report: FolderReport,
    ) -> None:
        moved = (
            set(self._moving.uids(known)) if known is not None and known.uidvalidity == opened.uidvalidity else set()
        )
        new = [uid for uid in wanted if uid not in moved]
        report.pending = len(new)
        report.gone = len(moved.difference(there))
        report.octets = sum(sum(server.sizes(part).values()) for part in parts(new))
        if known is not None and moved:
            self._tally(known, set(there), report)
        self._destination.say(planned, len(there), len(there))

    # The end

    def _count(
        self, folder: MovingFolder, there: array[int], wanted: array[int], attempts: Attempts, report: FolderReport
    ) -> None:
        present = set(there)
        self._tally(folder, present, report)
        moved = set(self._moving.uids(folder))
        left = [uid for uid in wanted if uid in present and uid not in moved]
        report.there = len(there)
        report.older = len(there) - sum(uid in present for uid in wanted)
        report.skipped = Counter(attempts.skipped[uid] for uid in left if uid in attempts.skipped)
        report.missing = len(left)
        report.gone = len(moved.difference(present))
        if report.gone and self._orders.delete_gone:
            report.deleted = self._delete(folder, present)

    def _tally(self, folder: MovingFolder, there: set[int], report: FolderReport) -> None:
        report.here = report.removed_here = 0
        for rows in self._moving.messages(folder):
            for row in rows:
                if row.uid in there:
                    report.here += row.here is not None
                    report.removed_here += row.here is None

    def _delete(self, folder: MovingFolder, there: set[int]) -> int:
        """What is gone there goes here, unless its owner moved it elsewhere."""
        deleted = 0
        for rows in self._moving.messages(folder):
            gone = [row for row in rows if row.uid not in there]
            here = UidSet.of(row.here for row in gone if row.here is not None)
            if here:
                self._destination.check()
                deleted += len(self._account.messages.expunge(folder.mailbox_id, here, only_deleted=False).uids)
            if gone:
                self._moving.gone(folder, [row.uid for row in gone])
        return deleted
