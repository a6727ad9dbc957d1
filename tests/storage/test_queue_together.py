"""Messages that are queued in one commit: what is wrong with one keeps no other out, and a failed commit keeps all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from queue_place import OK, Place

from storage.errors import Conflict, NotFound, Unavailable
from storage.queue.entries import RecipientState
from storage.queue.spool import SpoolFile
from storage.values import TenantId


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_each_message_is_there_and_they_are_announced_once(place: Place) -> None:
    messages = [[place.entry()], [place.entry(), place.entry()], [place.entry()]]
    assert place.queue.enqueue_together(messages) == [None, None, None]
    queued = {summary.queue_id for summary in place.queue.entries()}
    assert queued == {entry.queue_id for entries in messages for entry in entries}
    for entries in messages:
        for entry in entries:
            assert place.queue.content(place.queue.show(entry.queue_id)) == entry.content
    assert len(place.announced) == 1


def test_one_of_a_tenant_that_is_not_there_keeps_no_other_out(place: Place) -> None:
    good, stranger = place.entry(), place.entry(TenantId(99))
    first, second, third = place.queue.enqueue_together([[good], [place.entry(), stranger], [place.entry()]])
    assert (first, third) == (None, None)
    assert isinstance(second, NotFound)
    assert len(place.queue.entries()) == 2
    assert len(place.spooled()) == 2  # nothing is left of the half that could be written


def test_a_commit_that_fails_keeps_all_of_them_out(place: Place) -> None:
    other = place.another_queue()
    other.close()  # its files can be written, its database cannot
    outcomes = other.enqueue_together([[place.entry()], [place.entry()]])
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]
    assert outcomes[0] is not outcomes[1]  # each is raised for a caller of its own
    assert place.queue.entries() == []
    assert place.spooled() == []


def test_outcomes_of_several_entries_in_one_commit(place: Place) -> None:
    first, second, withdrawn = place.enqueued(), place.enqueued(), place.enqueued()
    place.queue.withdraw(withdrawn.queue_id)
    both = {0: (RecipientState.DELIVERED, OK), 1: (RecipientState.RELAYED, OK)}
    one = {1: (RecipientState.RELAYED, OK)}
    assert place.queue.settle_together([(first, both), (second, one), (withdrawn, both)]) == [None, None, None]
    [left] = place.queue.entries()
    assert left.queue_id == second.queue_id
    assert left.states == {RecipientState.QUEUED: 1, RecipientState.RELAYED: 1}
    assert [path.name.split(".")[0] for path in place.spooled()] == [second.queue_id]
    assert place.queue.settle_together([(second, one)]) == [None]  # again: nothing changes
    assert len(place.queue.entries()) == 1


def test_an_outcome_that_settles_nothing_keeps_no_other_from_being_noted(place: Place) -> None:
    first, second = place.enqueued(), place.enqueued()
    wrong, right = {0: (RecipientState.HELD, OK)}, {0: (RecipientState.DELIVERED, OK), 1: (RecipientState.RELAYED, OK)}
    refused, noted = place.queue.settle_together([(first, wrong), (second, right)])
    assert isinstance(refused, Conflict) and noted is None
    assert [left.queue_id for left in place.queue.entries()] == [first.queue_id]


def test_a_message_for_many_tenants_keeps_few_files_open(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0
    write = place.queue._spool.write

    def counted(*arguments: Any) -> SpoolFile:
        nonlocal most
        file = write(*arguments)
        most = max(most, spool_files_open())
        return file

    monkeypatch.setattr(place.queue._spool, "write", counted)
    place.queue.enqueue([place.entry() for _ in range(40)])
    assert len(place.spooled()) == 40
    assert most == 1


def spool_files_open() -> int:
    count = 0
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            count += "/spool/" in os.readlink(f"/proc/self/fd/{descriptor}")
    return count


def test_nothing_at_all(place: Place) -> None:
    assert place.queue.enqueue_together([]) == []
    assert place.queue.settle_together([]) == []
    assert place.announced == []
