"""When an IMAP worker takes in what others committed: at once, or together where much is committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from hosting.imap.feed import TOGETHER, Feed
from storage.changes import Change, Publisher, Subscriber
from storage.clock import FixedClock
from storage.values import AccountId, MailboxId, ModSeq


class Loop(Clock):
    """Twisted's clock, and whether the loop waits for the socket."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(1000)
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def turn(self) -> None:
        """What the loop does when the socket is readable."""
        for reader in list(self.readers):
            reader.doRead()


class Place:
    """A feed, who publishes on it, and what was taken in."""

    def __init__(self, data: Path) -> None:
        self.loop = Loop()
        clock = FixedClock()
        self.subscriber = Subscriber(data, clock)
        self.publisher = Publisher(data, clock)
        self.taken: list[list[int]] = []
        self.feed = Feed(self.loop, self.subscriber, self._changed)
        self.feed.start()
        self.loop.turn()
        self.taken.clear()
        self.loop.advance(1)

    def _changed(self, changes: Sequence[Any]) -> None:
        self.taken.append([change.modseq for change in changes if isinstance(change, Change)])

    def commit(self, modseq: int) -> None:
        self.publisher.publish(Change(AccountId(1), MailboxId(1), ModSeq(modseq)))

    def close(self) -> None:
        self.publisher.close()
        self.subscriber.close()


@contextmanager
def place(data: Path) -> Iterator[Place]:
    made = Place(data)
    try:
        yield made
    finally:
        made.close()


def test_a_change_that_comes_alone_is_told_at_once(tmp_path: Path) -> None:
    with place(tmp_path) as p:
        for modseq in (1, 2, 3):
            p.commit(modseq)
            p.loop.turn()
            assert p.taken[-1] == [modseq]
            p.loop.advance(TOGETHER * 2)


def test_changes_that_come_thickly_are_taken_in_together(tmp_path: Path) -> None:
    with place(tmp_path) as p:
        for modseq in (1, 2, 3, 4):
            p.commit(modseq)
            p.loop.turn()
        assert p.taken == [[1], [2]]
        p.loop.advance(TOGETHER)
        p.loop.turn()
        assert p.taken == [[1], [2], [3, 4]]


def test_after_a_storm_the_next_change_is_told_at_once_again(tmp_path: Path) -> None:
    with place(tmp_path) as p:
        for modseq in (1, 2):
            p.commit(modseq)
            p.loop.turn()
        p.loop.advance(TOGETHER * 2)
        p.commit(3)
        p.loop.turn()
        assert p.taken == [[1], [2], [3]]
        assert p.loop.readers == [p.feed]


def test_a_feed_that_is_stopped_is_waited_for_no_more(tmp_path: Path) -> None:
    with place(tmp_path) as p:
        p.feed.stop()
        assert p.loop.readers == []
    (tmp_path / "second").mkdir()
    with place(tmp_path / "second") as p:
        for modseq in (1, 2):  # it pauses
            p.commit(modseq)
            p.loop.turn()
        p.feed.stop()
        p.loop.advance(1)
        assert p.loop.readers == []
        assert p.loop.getDelayedCalls() == []
