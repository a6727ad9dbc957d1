"""Outcomes of recipients, and what follows from them in the same commit: there once, whoever is killed when."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from queue_place import LATER, NO, OK, ONE, TWO, Place

from storage.clock import FixedClock
from storage.errors import CleanmailError, Conflict, NotFound
from storage.files.incarnation import Incarnation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.queue.entries import (
    Entry,
    EnvelopeParameters,
    NewEntry,
    NewRecipient,
    Origin,
    RecipientParameters,
    RecipientState,
    Reply,
    new_queue_id,
)
from storage.queue.queue import Queue
from storage.values import AccountId, EmailAddress, TenantId

DELIVERED, RELAYED, FAILED = RecipientState.DELIVERED, RecipientState.RELAYED, RecipientState.FAILED


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def bounce(place: Place, tenant_id: TenantId = ONE) -> NewEntry:
    return place.small(
        "alice@elsewhere.example", tenant_id=tenant_id, account_id=None, origin=Origin.NOTICE, reverse_path=None
    )


def test_the_last_outcome_removes_the_entry_and_queues_its_bounce(place: Place) -> None:
    entry = place.enqueued()
    dsn = bounce(place)
    assert not place.queue.settle(entry, {0: (DELIVERED, OK)})
    assert place.queue.settle(entry, {1: (FAILED, NO)}, [dsn])
    [left] = place.queue.entries()
    assert left.queue_id == dsn.queue_id
    assert place.queue.content(place.queue.show(dsn.queue_id)) == dsn.content
    assert [path.name.split(".")[0] for path in place.spooled()] == [dsn.queue_id]
    assert len(place.announced) == 2  # the message, and the bounce


def test_an_outcome_that_is_repeated_bounces_once(place: Place) -> None:
    entry = place.enqueued()
    for _ in range(3):
        assert not place.queue.settle(entry, {1: (FAILED, NO)}, [bounce(place)])
    assert len(place.queue.entries()) == 2
    assert len(place.spooled()) == 2
    shown = place.queue.show(entry.queue_id).recipients[1]
    assert (shown.state, shown.reply, shown.attempts) == (FAILED, NO, 1)
    place.queue.settle(entry, {1: (RELAYED, OK)})  # too late
    assert place.queue.show(entry.queue_id).recipients[1].state is FAILED
    assert place.queue.settle(entry, {0: (DELIVERED, OK)})
    assert place.queue.settle(entry, {0: (FAILED, NO), 1: (FAILED, NO)}, [bounce(place)])
    assert len(place.queue.entries()) == 1


def test_nothing_follows_from_what_was_withdrawn(place: Place) -> None:
    entry = place.enqueued()
    place.queue.withdraw(entry.queue_id)
    assert place.queue.settle(entry, {1: (FAILED, NO)}, [bounce(place)])
    place.queue.postpone(entry, {0: (place.clock.now() + 9, LATER)})
    place.queue.warn(entry, [0], [bounce(place)])
    assert place.queue.entries() == []
    assert place.spooled() == []


def test_follow_ups_of_other_tenants_and_none_of_unknown_ones(place: Place) -> None:
    entry = place.enqueued()
    with pytest.raises(NotFound):
        place.queue.settle(entry, {1: (FAILED, NO)}, [bounce(place), bounce(place, TenantId(3))])
    assert place.queue.show(entry.queue_id).recipients[1].state is RecipientState.QUEUED
    assert len(place.spooled()) == 1
    place.queue.settle(entry, {1: (FAILED, NO)}, [bounce(place), bounce(place, TWO)])
    assert [len(place.queue.entries(tenant=tenant)) for tenant in (ONE, TWO)] == [2, 1]


def test_a_follow_up_that_is_there_already_undoes_the_outcome(place: Place) -> None:
    entry, dsn = place.enqueued(), bounce(place)
    place.queue.enqueue([dsn])
    with pytest.raises(CleanmailError):
        place.queue.settle(entry, {1: (FAILED, NO)}, [dsn])
    assert place.queue.show(entry.queue_id).recipients[1].state is RecipientState.QUEUED
    assert place.queue.content(place.queue.show(dsn.queue_id)) == dsn.content


def test_settling_needs_a_final_state(place: Place) -> None:
    entry = place.enqueued()
    for state in (RecipientState.QUEUED, RecipientState.HELD):
        with pytest.raises(Conflict):
            place.queue.settle(entry, {0: (state, OK)})


def test_postponed(place: Place) -> None:
    entry = place.enqueued()
    again = place.clock.now() + 300
    place.queue.postpone(entry, {1: (again, LATER)})
    place.queue.postpone(entry, {1: (again + 1, LATER)})
    bob, far = place.queue.show(entry.queue_id).recipients
    assert (far.next_attempt, far.attempts, far.reply, far.state) == (again + 1, 2, LATER, RecipientState.QUEUED)
    assert (bob.attempts, bob.reply) == (0, None)


def test_what_was_held_while_it_was_worked_on(place: Place) -> None:
    """It did happen, so it counts; but what has to wait waits."""
    entry = place.enqueued()
    place.queue.hold(entry.queue_id)
    place.queue.postpone(entry, {0: (place.clock.now() + 5, LATER)})
    assert place.queue.show(entry.queue_id).recipients[0].state is RecipientState.HELD
    assert place.queue.show(entry.queue_id).recipients[0].reply == LATER
    assert not place.queue.settle(entry, {0: (DELIVERED, OK)})
    assert place.queue.settle(entry, {1: (RELAYED, OK)})
    assert place.spooled() == []


def test_a_sender_is_warned_once(place: Place) -> None:
    entry = place.enqueued()
    place.queue.warn(entry, [1], [bounce(place)])
    place.queue.warn(entry, [1], [bounce(place)])
    assert [r.warned for r in place.queue.show(entry.queue_id).recipients] == [False, True]
    assert len(place.queue.entries()) == 2
    assert len(place.spooled()) == 2
    place.queue.settle(entry, {0: (DELIVERED, OK)})
    place.queue.warn(entry, [0, 1], [bounce(place)])
    assert len(place.queue.entries()) == 2


def test_replies_of_version_1_are_their_text(place: Place) -> None:
    assert Reply.decode(b"452 full") == Reply(0, "", "452 full")
    assert Reply.decode(NO.encode()) == NO


def test_rows_hold_no_address_and_nothing_that_was_said(place: Place) -> None:
    """Whoever holds the database's key, but not the tenant's, learns domains, ids and times."""
    entry = place.enqueued(
        place.entry(
            reverse_path=EmailAddress.parse("adelaide.sender@one.example"),
            parameters=EnvelopeParameters("HDRS", "unmistakable-x+2B", True, "8BITMIME"),
            recipients=(
                NewRecipient(EmailAddress.parse("bartholomew@one.example"), AccountId(6)),
                NewRecipient(
                    EmailAddress.parse("jörgensen-jörg@bücher.example"),
                    None,
                    RecipientParameters(("FAILURE",), "rfc822;unmistakable"),
                ),
            ),
        )
    )
    later = place.clock.now() + 60
    place.queue.postpone(entry, {1: (later, Reply(451, "4.3.0", "unmistakable-1 of joergensen", "mx.example"))})
    assert entry.reverse_path is not None
    notice = dataclasses.replace(bounce(place), recipients=(NewRecipient(entry.reverse_path),))
    place.queue.settle(entry, {0: (FAILED, Reply(550, "5.1.1", "unmistakable-2", "mx.example"))}, [notice])
    place.queue.bounce(entry.queue_id, Reply(550, "5.7.1", "unmistakable-3"))
    place.queue.destination_failed("xn--bcher-kva.example", 1, Reply(421, "4.7.0", "unmistakable-4", "mx.example"))
    with place.queue._database.reading() as connection:
        tables = [row[0] for row in connection.driver.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [repr(row) for table in tables for row in connection.driver.execute(f"SELECT * FROM {table}")]
    assert len(rows) > 5
    for secret in ("adelaide.sender", "bartholomew", "jörgensen-j", "j\\xc3\\xb6rgensen", "unmistakable", "joergensen"):
        assert not [row for row in rows if secret in row], secret


def test_content_whose_removal_was_interrupted_goes_with_the_sweep(place: Place) -> None:
    """Its writer is alive, so only its name in `unlink` tells that nobody needs it."""
    entry, other = place.enqueued(), place.enqueued()
    [file] = [path for path in place.spooled() if path.name == entry.file]
    content = file.read_bytes()
    place.queue.settle(entry, {0: (DELIVERED, OK), 1: (RELAYED, OK)})
    file.write_bytes(content)  # as if the process had been killed after its commit
    place.queue._removals._removed.clear()
    assert place.queue.sweep(ONE, place.incarnation.is_alive) == 1
    assert [path.name for path in place.spooled()] == [other.file]
    assert place.queue.sweep(ONE, place.incarnation.is_alive) == 0


def test_names_of_removed_files_do_not_pile_up(place: Place) -> None:
    for _ in range(5):
        entry = place.enqueued()
        place.queue.settle(entry, {0: (DELIVERED, OK), 1: (RELAYED, OK)})
    with place.queue._database.reading() as connection:
        [count] = connection.driver.execute("SELECT count(*) FROM unlink").fetchone()
    assert count <= 1
    place.queue.close()
    place.queue = place.another_queue()
    with place.queue._database.reading() as connection:
        assert connection.driver.execute("SELECT count(*) FROM unlink").fetchone() == (0,)


def test_many_threads_settle_the_same_entries(place: Place) -> None:
    """Whoever comes first settles it; every entry bounces once and is gone."""
    entries = [place.enqueued(place.small("a@far.example", "b@far.example")) for _ in range(20)]
    errors: list[BaseException] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        try:
            for entry in rng.sample(entries, len(entries)):
                for position in rng.sample((0, 1), 2):
                    place.queue.settle(entry, {position: (FAILED, NO)}, [bounce(place)])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    left = place.queue.entries()
    assert {entry.origin for entry in left} == {Origin.NOTICE}
    assert len(left) == 40
    assert len(place.spooled()) == 40


CRASH = """
    import os, signal, sys
    from pathlib import Path
    sys.path[:0] = {path!r}
    from storage.clock import SystemClock
    from storage.keys.keystore import KeyStore
    from storage.keys.master import Master
    from storage.keys.source import LocalKeys
    from storage.queue.entries import *
    from storage.queue.queue import Queue
    from storage.values import *
    data = Path({data!r})
    clock = SystemClock()
    keys = LocalKeys(KeyStore(data / "keys", Master({secrets!r}), clock))
    queue = Queue.open(data, keys, clock, "crashed")
    entry = queue.show({queue_id!r})
    left = {step}
    def counting(function):
        def call(*arguments, **named):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)
        return call
    for name in ("fsync", "write", "open", "close", "unlink"):
        setattr(os, name, counting(getattr(os, name)))
    import fcntl
    fcntl.flock = counting(fcntl.flock)
    notice = NewEntry("0notice", TenantId(1), None, Origin.NOTICE, None, EnvelopeParameters(),
                      (NewRecipient(EmailAddress.parse("alice@far.example")),), 2**40, b"it failed")
    queue.settle(entry, {{0: (RecipientState.FAILED, Reply(550, "5.1.1", "no"))}}, [notice])
    sys.stdout.write("settled"); sys.stdout.flush()
"""


@pytest.mark.parametrize("step", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14])
def test_killed_while_it_bounces(tmp_path: Path, step: int) -> None:
    """There is either the message or its bounce, with content, and nothing else is left after the sweep."""
    clock = FixedClock()
    master = Master.generate()
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", master, clock))
    keys.create_tenant_key(ONE)
    (tmp_path / "tenants" / "1").mkdir(parents=True)
    incarnation = Incarnation(tmp_path)
    queue = Queue.create(tmp_path, keys, clock, incarnation.name)
    new = NewEntry(
        new_queue_id(clock),
        ONE,
        None,
        Origin.MX,
        EmailAddress.parse("alice@far.example"),
        EnvelopeParameters(),
        (NewRecipient(EmailAddress.parse("x@far.example")),),
        2**40,
        b"content",
    )
    queue.enqueue([new])
    queue.close()
    script = textwrap.dedent(CRASH).format(
        path=sys.path, data=str(tmp_path), secrets=master.secrets, step=step, queue_id=new.queue_id
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert run.returncode in {0, -signal.SIGKILL}, run.stderr.decode()
    queue = Queue.open(tmp_path, keys, clock, incarnation.name)
    queue.sweep(ONE, incarnation.is_alive)
    [left] = [queue.show(summary.queue_id) for summary in queue.entries()]
    if run.stdout:
        assert left.queue_id == "0notice"
    assert queue.content(left) == (b"it failed" if left.queue_id == "0notice" else b"content")
    assert os.listdir(tmp_path / "tenants" / "1" / "spool") == [left.file]
    queue.close()
    incarnation.close()


class Model:
    """What the queue should hold, in plain dictionaries."""

    def __init__(self) -> None:
        self.entries: dict[str, dict[int, RecipientState]] = {}
        self.held: set[str] = set()

    def waiting(self, queue_id: str) -> list[int]:
        return [p for p, state in self.entries[queue_id].items() if not state.settled]

    def gone_if_settled(self, queue_id: str) -> None:
        if not self.waiting(queue_id):
            del self.entries[queue_id]
            self.held.discard(queue_id)


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_operations(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    model = Model()
    stale: list[Entry] = []  # as a runner has them in hand

    def enqueue() -> None:
        new = place.small(*(f"u{n}@d{rng.randint(0, 2)}.example" for n in range(rng.randint(1, 4))))
        stale.append(place.enqueued(new))
        model.entries[new.queue_id] = dict.fromkeys(range(len(new.recipients)), RecipientState.QUEUED)

    def settle() -> None:
        entry = rng.choice(stale)
        reached = {p: (rng.choice((FAILED, RELAYED)), NO) for p in range(len(entry.recipients)) if rng.random() < 0.5}
        notice = bounce(place) if rng.random() < 0.3 else None
        known = model.entries.get(entry.queue_id)
        newly = [p for p in reached if known is not None and not known[p].settled]
        gone = place.queue.settle(entry, reached, [notice] if notice else [])
        if known is not None:
            known.update({p: reached[p][0] for p in newly})
            model.gone_if_settled(entry.queue_id)
        assert gone == (entry.queue_id not in model.entries)
        if newly and notice:
            model.entries[notice.queue_id] = {0: RecipientState.QUEUED}

    def postpone() -> None:
        entry = rng.choice(stale)
        place.queue.postpone(
            entry, {r.position: (place.clock.now() + rng.randint(-9, 9), LATER) for r in entry.recipients}
        )

    def of_one(operation: Callable[[str], object], becomes: RecipientState | None) -> None:
        entry = rng.choice(stale)
        if entry.queue_id not in model.entries:
            with pytest.raises(NotFound):
                operation(entry.queue_id)
            return
        operation(entry.queue_id)
        if becomes is None:
            del model.entries[entry.queue_id]
            model.held.discard(entry.queue_id)
            return
        for position in model.waiting(entry.queue_id):
            model.entries[entry.queue_id][position] = becomes
        (model.held.add if becomes is RecipientState.HELD else model.held.discard)(entry.queue_id)

    steps: list[tuple[int, Callable[[], object]]] = [
        (4, enqueue),
        (5, settle),
        (2, postpone),
        (2, lambda: of_one(place.queue.hold, RecipientState.HELD)),
        (2, lambda: of_one(place.queue.release, RecipientState.QUEUED)),
        (1, lambda: of_one(place.queue.retry, RecipientState.QUEUED) if not model.held else None),
        (1, lambda: of_one(place.queue.withdraw, None)),
        (1, lambda: place.clock.advance(rng.randint(0, 5))),
    ]
    enqueue()
    for _ in range(120):
        rng.choices([step for _, step in steps], [weight for weight, _ in steps])[0]()
    check(place, model)


def check(place: Place, model: Model) -> None:
    shown = {summary.queue_id: place.queue.show(summary.queue_id) for summary in place.queue.entries()}
    assert {i: {r.position: r.state for r in entry.recipients} for i, entry in shown.items()} == model.entries
    assert {i for i, entry in shown.items() if entry.held} == model.held
    queued: dict[tuple[str, int], list[tuple[int, str]]] = {}
    for queue_id, entry in shown.items():
        for recipient in entry.recipients:
            if recipient.state is RecipientState.QUEUED:
                lane = (recipient.destination, -entry.tenant_id if entry.account_id is None else entry.account_id)
                queued.setdefault(lane, []).append((recipient.next_attempt, queue_id))
    lanes = {(lane.destination, lane.lane): lane.earliest for lane in place.queue.lanes()}
    assert lanes == {lane: min(times)[0] for lane, times in queued.items()}
    now = place.clock.now()
    for (destination, number), times in queued.items():
        due = list(dict.fromkeys(queue_id for time, queue_id in sorted(times) if time <= now))
        assert place.queue.due(destination, number, now, 1000) == due
    assert {path.name for path in place.spooled()} == {entry.file for entry in shown.values()}
