"""Property: whatever two processes do to an account, it is what a simple model says: counters, views, files, quota."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from accounts import ACCOUNT, KEY, TENANT, AccountPlace
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from view_changes import changes_since

from storage.errors import AlreadyExists, NotFound, NotPermitted
from storage.mail.account import Account
from storage.mail.messages import NewMessage
from storage.mail.view import MailboxView
from storage.values import DELETED, SEEN, MailboxId, UidSet

NAMES = ["INBOX", "Sent", "Work", "Work/2024", "Old"]
FLAGS = st.integers(0, 31)
KEYWORDS = st.lists(st.sampled_from(["$Forwarded", "Junk", "work"]), max_size=2, unique=True)
ACTORS = st.integers(0, 1)
HOWS = st.sampled_from(["replace", "add", "remove"])


@dataclass
class Kept:
    """A message in a mailbox, as the model sees it."""

    size: int
    flags: int
    keywords: frozenset[str]
    modseq: int = 0


@dataclass
class Box:
    id: MailboxId
    messages: dict[int, Kept] = field(default_factory=dict)
    uidnext: int = 1


class TwoProcesses(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.place = AccountPlace(Path(self.folder.name))
        first = self.place.account
        second = Account.open(self.place.root, TENANT, ACCOUNT, KEY, self.place.surroundings)
        self.actors = [first, second]
        self.model = {each.name: Box(each.id) for each in first.mailboxes.list()}
        self.views: list[dict[MailboxId, MailboxView]] = [{}, {}]
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "actors"):
            self.place.settle()
            self.check_all()
            for account in self.actors:
                account.close()
            self.place.background.close()
            self.folder.cleanup()

    # What is done

    @rule(actor=ACTORS, name=st.sampled_from(NAMES), flags=FLAGS, keywords=KEYWORDS, count=st.integers(1, 3))
    def append(self, actor: int, name: str, flags: int, keywords: list[str], count: int) -> None:
        box = self.model.get(name)
        if box is None:
            return
        new = []
        for _ in range(count):
            self.count += 1
            data = b"Subject: message %d\r\nMessage-ID: <%d@x>\r\n\r\n" % (self.count, self.count) + b"x" * self.count
            new.append(NewMessage(data, flags, keywords))
        appended = self.actors[actor].messages.append_many(box.id, new)
        assert [each.uid for each in appended] == list(range(box.uidnext, box.uidnext + count))
        for each, message in zip(appended, new, strict=True):
            box.messages[each.uid] = Kept(len(message.data), flags, frozenset(keywords), each.modseq)
        box.uidnext += count

    @rule(actor=ACTORS, name=st.sampled_from(NAMES), how=HOWS, flags=FLAGS, keywords=KEYWORDS, data=st.data())
    def store(self, actor: int, name: str, how: Any, flags: int, keywords: list[str], data: Any) -> None:
        box = self.model.get(name)
        if box is None:
            return
        uids = self.some(box, data)
        since = data.draw(st.one_of(st.none(), st.integers(0, 40)))
        stored = self.actors[actor].messages.store(box.id, uids, how, flags, keywords, since)
        modified = set()
        for uid in uids:
            kept = box.messages.get(uid)
            if kept is None:
                continue
            if since is not None and kept.modseq > since:
                modified.add(uid)
                continue
            before = (kept.flags, kept.keywords)
            if how == "replace":
                kept.flags, kept.keywords = flags, frozenset(keywords)
            elif how == "add":
                kept.flags, kept.keywords = kept.flags | flags, kept.keywords | set(keywords)
            else:
                kept.flags, kept.keywords = kept.flags & ~flags, kept.keywords - set(keywords)
            if before != (kept.flags, kept.keywords):
                kept.modseq = stored.modseq
        assert set(stored.modified) == modified

    @rule(actor=ACTORS, source=st.sampled_from(NAMES), goal=st.sampled_from(NAMES), move=st.booleans(), data=st.data())
    def transfer(self, actor: int, source: str, goal: str, move: bool, data: Any) -> None:
        if source not in self.model or goal not in self.model:
            return
        origin, target = self.model[source], self.model[goal]
        uids = self.some(origin, data)
        messages = self.actors[actor].messages
        copied = (messages.move if move else messages.copy)(origin.id, uids, target.id)
        wanted = [uid for uid in sorted(origin.messages) if uid in uids]
        assert [uid for uid, _ in copied.pairs] == wanted
        assert [uid for _, uid in copied.pairs] == list(range(target.uidnext, target.uidnext + len(wanted)))
        for uid, new in copied.pairs:
            kept = origin.messages.pop(uid) if move else origin.messages[uid]
            target.messages[new] = Kept(kept.size, kept.flags, kept.keywords)
            target.uidnext = new + 1
        if copied.pairs:
            highest = self.actors[actor].mailboxes.by_id(target.id).highest_modseq
            for _, new in copied.pairs:
                target.messages[new].modseq = highest

    @rule(actor=ACTORS, name=st.sampled_from(NAMES), only_deleted=st.booleans(), data=st.data())
    def expunge(self, actor: int, name: str, only_deleted: bool, data: Any) -> None:
        box = self.model.get(name)
        if box is None:
            return
        uids = self.some(box, data)
        expunged = self.actors[actor].messages.expunge(box.id, uids, only_deleted=only_deleted)
        wanted = [
            uid
            for uid, kept in sorted(box.messages.items())
            if uid in uids and (not only_deleted or kept.flags & DELETED)
        ]
        assert expunged.uids == wanted
        for uid in wanted:
            del box.messages[uid]

    @rule(actor=ACTORS, name=st.sampled_from(NAMES))
    def create(self, actor: int, name: str) -> None:
        if name in self.model:
            with pytest.raises(AlreadyExists):
                self.actors[actor].mailboxes.create(name)
            return
        self.model[name] = Box(self.actors[actor].mailboxes.create(name).id)
        for each in self.actors[actor].mailboxes.list():
            self.model.setdefault(each.name, Box(each.id))

    @rule(actor=ACTORS, name=st.sampled_from(NAMES))
    def delete(self, actor: int, name: str) -> None:
        mailboxes = self.actors[actor].mailboxes
        if name == "INBOX":
            with pytest.raises(NotPermitted):
                mailboxes.delete(name)
        elif name not in self.model:
            with pytest.raises(NotFound):
                mailboxes.delete(name)
        else:
            mailboxes.delete(name)
            box = self.model.pop(name)
            for views in self.views:
                views.pop(box.id, None)

    @rule(actor=ACTORS, old=st.sampled_from(NAMES[1:]), new=st.sampled_from(["Older", "Work", "Deep/er/Work"]))
    def rename(self, actor: int, old: str, new: str) -> None:
        moving = [name for name in self.model if name == old or name.startswith(old + "/")]
        staying = self.model.keys() - moving
        renamed = {name: new + name[len(old) :] for name in moving}
        mailboxes = self.actors[actor].mailboxes
        if not moving:
            with pytest.raises(NotFound):
                mailboxes.rename(old, new)
        elif new in staying or staying & set(renamed.values()) or old == new:
            with pytest.raises(AlreadyExists):
                mailboxes.rename(old, new)
        else:
            mailboxes.rename(old, new)
            kept = {name: box for name, box in self.model.items() if name in staying}
            self.model = kept | {renamed[name]: self.model[name] for name in moving}
            for each in mailboxes.list():
                self.model.setdefault(each.name, Box(each.id))

    @rule(actor=ACTORS, name=st.sampled_from(NAMES))
    def look(self, actor: int, name: str) -> None:
        """One process has the mailbox open, or brings its view up to date."""
        box = self.model.get(name)
        if box is None:
            return
        views = self.views[actor]
        view = views.get(box.id)
        if view is None:
            view = views[box.id] = self.actors[actor].views.load(box.id)
        before = view.highest_modseq
        known = set(view.uids)
        view.refresh()
        self.check_view(view, box, self.actors[actor])
        changes = changes_since(view, before)
        assert set(changes.vanished) >= known - set(view.uids)
        assert set(changes.changed) == {uid for uid, kept in box.messages.items() if kept.modseq > before}

    @rule(actor=ACTORS, name=st.sampled_from(NAMES))
    def keep_snapshot(self, actor: int, name: str) -> None:
        box = self.model.get(name)
        view = self.views[actor].get(box.id) if box else None
        if view is not None:
            view.refresh()
            view.columns()
            view.save_snapshot()
            self.place.settle()

    # What must be so

    @invariant()
    def counters_are_exact(self) -> None:
        if not hasattr(self, "actors"):
            return
        listed = {each.name: each for each in self.actors[0].mailboxes.list()}
        assert set(listed) == set(self.model)
        for name, box in self.model.items():
            row = listed[name]
            kept = box.messages.values()
            assert row.id == box.id
            assert row.messages == len(kept)
            assert row.unseen == sum(not each.flags & SEEN for each in kept)
            assert row.deleted == sum(bool(each.flags & DELETED) for each in kept)
            assert row.bytes == sum(each.size for each in kept)
            assert row.uidnext == box.uidnext
            assert row.highest_modseq >= max((each.modseq for each in kept), default=0)
        usage = self.actors[1].usage()
        everything = [each for box in self.model.values() for each in box.messages.values()]
        assert (usage.messages, usage.bytes) == (len(everything), sum(each.size for each in everything))

    def check_all(self) -> None:
        """Every view made anew, from the rows or a snapshot, and the files that are left."""
        third = Account.open(self.place.root, TENANT, ACCOUNT, KEY, self.place.surroundings)
        files = set()
        for box in self.model.values():
            view = third.views.load(box.id)
            self.check_view(view, box, third)
            for message_id, file in third.messages.fetch_rows(box.id, 1, 1 << 32, ("message_id", "file")):
                files.add(file)
                assert third.messages.read_message(message_id)
        assert set(third.maildir.names("cur")) == files
        assert not list(third.maildir.names("new")) + list(third.maildir.names("tmp"))
        third.close()

    def check_view(self, view: MailboxView, box: Box, account: Account) -> None:
        assert list(view.uids) == sorted(box.messages)
        names = view.keywords
        for uid, bits, modseq in zip(view.uids, view.flags, view.modseqs, strict=True):
            kept = box.messages[uid]
            assert bits & 0xFF == kept.flags
            assert {names[bit] for bit in range(8, 62) if bits >> bit & 1} == kept.keywords
            assert modseq == kept.modseq
        assert list(view.columns().sizes) == [box.messages[uid].size for uid in view.uids]
        assert view.uidnext == box.uidnext

    def some(self, box: Box, data: Any) -> UidSet:
        chosen = data.draw(st.lists(st.integers(1, max(1, box.uidnext)), max_size=6))
        if data.draw(st.booleans()):
            return UidSet(((min(chosen, default=1), max(chosen, default=box.uidnext)),))
        return UidSet.of(chosen)


TestTwoProcesses = TwoProcesses.TestCase
TestTwoProcesses.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
