#!/usr/bin/env python3
"""Shows that the cost of an entry does not grow with the queue: accepting, claiming, settling and listing it.

    scripts/bench/queue.py [--sizes 1000,10000,100000] [--sample 300] [--drain]

Real database, real files, one process, one thread: every entry that is accepted or settled waits for its own fsyncs.
Prints milliseconds for each entry (median), first by the clock and then of CPU, and the ratio of the last column to the
first: 1.0 is flat. What waits for the disk varies with everything else that uses it; the CPU's part does not. With
--drain every queue is emptied, and its column says how many entries a second went, and what one took of CPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.clock import SystemClock
from storage.database.checkpointer import Checkpointer
from storage.files import durable
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
    RecipientState,
    Reply,
    new_queue_id,
)
from storage.queue.queue import Queue
from storage.values import AccountId, Domain, EmailAddress, TenantId

T = TypeVar("T")

TENANT = TenantId(1)
DESTINATIONS, SENDERS = 200, 50
CONTENT = b"Subject: benchmark\r\n\r\n" + b"A line of text as people write them, more or less.\r\n" * 200
TAKEN = Reply(250, "2.0.0", "Ok: queued")
LATER = Reply(451, "4.3.0", "Try again later", "mx.example")
CLOCK = SystemClock()


class Place:
    """A data directory with one tenant and an empty queue."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.keys = LocalKeys(KeyStore.create(data / "keys", Master.generate(), CLOCK))
        self.keys.create_tenant_key(TENANT)
        (data / "tenants" / str(TENANT)).mkdir(parents=True)
        self.incarnation = Incarnation(data)
        Queue.create(data, self.keys, CLOCK, self.incarnation.name).close()
        self.checkpointer = Checkpointer(CLOCK)
        self.checkpointer.start()
        self.queue = Queue.open(data, self.keys, CLOCK, self.incarnation.name, checkpointer=self.checkpointer)
        self.number = 0

    def entry(self) -> NewEntry:
        """The next: senders and destinations take turns, so the number of lanes is bounded as in life."""
        self.number += 1
        to = EmailAddress(f"user{self.number}", Domain(f"d{self.number % DESTINATIONS}.example"))
        return NewEntry(
            new_queue_id(CLOCK),
            TENANT,
            AccountId(1 + self.number // DESTINATIONS % SENDERS),
            Origin.SUBMISSION,
            EmailAddress.parse("alice@one.example"),
            EnvelopeParameters(),
            (NewRecipient(to),),
            CLOCK.now() + 5 * 86_400,
            CONTENT,
        )

    def fill(self, size: int) -> None:
        """Many in one commit, and without waiting for the disk: how they came is not measured."""
        fsync, durable.fsync_file = durable.fsync_file, lambda descriptor: None
        try:
            while self.number < size:
                self.queue.enqueue([self.entry() for _ in range(min(250, size - self.number))])
                print(f"\r  {self.number:,} entries", end="", file=sys.stderr, flush=True)
        finally:
            durable.fsync_file = fsync
        print(file=sys.stderr)

    def close(self) -> None:
        self.queue.close()
        self.checkpointer.stop()
        self.incarnation.close()


@dataclass
class Cost:
    """Milliseconds by the clock and of CPU, of each entry."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def of(self, step: Callable[[], T], share: Callable[[T], int] = lambda _: 1) -> T:
        """Runs a step that is for `share` entries together."""
        wall, cpu = time.perf_counter(), time.process_time()
        result = step()
        count = max(share(result), 1)
        self.wall.append((time.perf_counter() - wall) * 1e3 / count)
        self.cpu.append((time.process_time() - cpu) * 1e3 / count)
        return result


def claim(queue: Queue, sample: int, batch: int, cost: Cost) -> list[Entry]:
    """As the runner does it: which lanes there are, what is due in them, and each entry with its content."""
    lanes = queue.lanes(CLOCK.now())

    def claimed() -> list[Entry]:
        lane = lanes.pop()
        entries = [queue.show(queue_id) for queue_id in queue.due(lane.destination, lane.lane, CLOCK.now(), batch)]
        for entry in entries:
            queue.content(entry)
        return entries

    found: list[Entry] = []
    while lanes and len(found) < sample:
        found += cost.of(claimed, len)
    return found[:sample]


STEPS = ("accept", "lanes", "claim", "settle", "postpone", "list", "list, tenant", "list, destination", "expired?")


def measure(place: Place, sample: int) -> dict[str, Cost]:
    queue = place.queue
    costs = {step: Cost() for step in STEPS}
    for _ in range(sample):
        entry = place.entry()
        costs["accept"].of(partial(queue.enqueue, [entry]))
    costs["lanes"].of(queue.lanes, len)
    claimed = claim(queue, sample, 20, costs["claim"])
    again = CLOCK.now() + 300
    for entry in claimed[: sample // 2]:
        costs["postpone"].of(partial(queue.postpone, entry, {0: (again, LATER)}))
    for entry in claimed[sample // 2 :]:
        costs["settle"].of(partial(queue.settle, entry, {0: (RecipientState.RELAYED, TAKEN)}))
    for after in ("", claimed[0].queue_id) * 10:
        costs["list"].of(partial(queue.entries, after=after, limit=100), len)
        costs["list, tenant"].of(partial(queue.entries, tenant=TENANT, after=after, limit=100), len)
    for number in range(20):
        costs["list, destination"].of(partial(queue.entries_for, f"d{number}.example", limit=100), len)
    for _ in range(50):
        costs["expired?"].of(partial(queue.expired, CLOCK.now(), 100))
    return costs


def drain(queue: Queue) -> tuple[float, float]:
    """Settles everything: entries a second, milliseconds of CPU for each."""
    queue.retry()
    wall, cpu, gone = time.perf_counter(), time.process_time(), 0
    while claimed := claim(queue, 5000, 100, Cost()):
        for entry in claimed:
            gone += queue.settle(entry, {0: (RecipientState.RELAYED, TAKEN)})
        print(f"\r  {gone:,} gone", end="", file=sys.stderr, flush=True)
    return gone / (time.perf_counter() - wall), (time.process_time() - cpu) * 1e3 / gone


def column(size: int, arguments: argparse.Namespace) -> dict[str, float]:
    work = Path(tempfile.mkdtemp(prefix="cleanmail-queue-", dir=arguments.work))
    try:
        place = Place(work)
        place.fill(size)
        costs = measure(place, arguments.sample)
        found = {step: statistics.median(cost.wall) for step, cost in costs.items()}
        found |= {f"CPU: {step}": statistics.median(cost.cpu) for step, cost in costs.items()}
        if arguments.drain:
            found["drained a second"], found["CPU: drain"] = drain(place.queue)
            print(file=sys.stderr)
        place.close()
        return found
    finally:
        shutil.rmtree(work, ignore_errors=True)


def table(sizes: Sequence[int], columns: Sequence[dict[str, float]]) -> None:
    print(f"{'milliseconds per entry':24}" + "".join(f"{size:>12,}" for size in sizes) + f"{'last/first':>12}")
    for step in columns[0]:
        values = [found[step] for found in columns]
        print(f"{step:24}" + "".join(f"{v:>12.3f}" for v in values) + f"{values[-1] / values[0]:>12.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--sample", type=int, default=300, help="entries that are measured in each queue")
    parser.add_argument("--drain", action="store_true", help="empty each queue too")
    parser.add_argument("--work", type=Path, help="where the queues are made")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = [int(size) for size in arguments.sizes.split(",")]
    columns = [column(size, arguments) for size in sizes]
    if arguments.json:
        print(json.dumps(dict(zip(map(str, sizes), columns, strict=True))))
    else:
        table(sizes, columns)


if __name__ == "__main__":
    main()
