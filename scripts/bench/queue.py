#!/usr/bin/env python3
"""Shows that the cost of an entry does not grow with the queue: accepting, claiming, settling and listing it.

    scripts/bench/queue.py [--sizes 1000,10000,100000] [--sample 300] [--drain]

Real database, real files, one process, one thread: every entry that is accepted or settled waits for its own fsyncs.
Prints milliseconds for each entry (median) and the ratio of the last column to the first: 1.0 is flat. With --drain
every queue is emptied, and its column says how many entries a second went.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.clock import SystemClock
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
        self.queue = Queue.open(data, self.keys, CLOCK, self.incarnation.name)
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
        self.incarnation.close()


def timed(step: Callable[[], T], taken: list[float]) -> T:
    started = time.perf_counter()
    result = step()
    taken.append((time.perf_counter() - started) * 1e3)
    return result


def claim(queue: Queue, sample: int, batch: int, taken: list[float]) -> list[Entry]:
    """As the runner does it: which lanes there are, what is due in them, and each entry with its content."""
    started = time.perf_counter()
    lanes = queue.lanes(CLOCK.now())
    share = (time.perf_counter() - started) * 1e3 / max(len(lanes), 1)  # what each lane cost to find
    found: list[Entry] = []
    for lane in lanes:
        if len(found) >= sample:
            break
        due: list[float] = []
        ids = timed(lambda lane=lane: queue.due(lane.destination, lane.lane, CLOCK.now(), batch), due)
        for queue_id in ids[: sample - len(found)]:
            entry = timed(lambda queue_id=queue_id: queue.show(queue_id), taken)
            timed(lambda entry=entry: queue.content(entry), due)
            taken[-1] += due.pop() + (due[0] + share) / len(ids)
            found.append(entry)
    return found


def measure(place: Place, sample: int) -> dict[str, float]:
    queue = place.queue
    times: dict[str, list[float]] = {step: [] for step in STEPS}
    for _ in range(sample):
        entry = place.entry()
        timed(lambda entry=entry: queue.enqueue([entry]), times["accept"])
    claimed = claim(queue, sample, 20, times["claim"])
    again = CLOCK.now() + 300
    for entry in claimed[: sample // 2]:
        timed(lambda entry=entry: queue.postpone(entry, {0: (again, LATER)}), times["postpone"])
    for entry in claimed[sample // 2 :]:
        timed(lambda entry=entry: queue.settle(entry, {0: (RecipientState.RELAYED, TAKEN)}), times["settle"])
    middle = claimed[-1].queue_id
    for after in ("", middle) * 10:
        page = timed(lambda after=after: queue.entries(after=after, limit=100), times["list"])
        times["list"][-1] /= max(len(page), 1)
        page = timed(lambda after=after: queue.entries(tenant=TENANT, after=after, limit=100), times["list, tenant"])
        times["list, tenant"][-1] /= max(len(page), 1)
    for number in range(10):
        name = f"d{number}.example"
        page = timed(lambda name=name: queue.entries_for(name, limit=100), times["list, destination"])
        times["list, destination"][-1] /= max(len(page), 1)
    for _ in range(50):
        timed(lambda: queue.expired(CLOCK.now(), 100), times["expired?"])
    return {step: statistics.median(values) for step, values in times.items()}


STEPS = ("accept", "claim", "settle", "postpone", "list", "list, tenant", "list, destination", "expired?")


def drain(queue: Queue) -> float:
    """Settles everything; entries a second."""
    queue.retry()
    started, gone = time.perf_counter(), 0
    while True:
        claimed = claim(queue, 2000, 100, [])
        if not claimed:
            return gone / (time.perf_counter() - started)
        for entry in claimed:
            gone += queue.settle(entry, {0: (RecipientState.RELAYED, TAKEN)})
        print(f"\r  {gone:,} gone", end="", file=sys.stderr, flush=True)


def column(size: int, arguments: argparse.Namespace) -> dict[str, float]:
    work = Path(tempfile.mkdtemp(prefix="cleanmail-queue-", dir=arguments.work))
    try:
        place = Place(work)
        place.fill(size)
        found = measure(place, arguments.sample)
        if arguments.drain:
            found["drained/s"] = drain(place.queue)
            print(file=sys.stderr)
        place.close()
        return found
    finally:
        shutil.rmtree(work, ignore_errors=True)


def table(sizes: Iterable[int], columns: list[dict[str, float]]) -> None:
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
