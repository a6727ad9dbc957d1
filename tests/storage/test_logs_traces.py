"""Traces: put together from the events of all processes, found by what they have, never shown past the horizon."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.clock import FixedClock
from storage.errors import NotPermitted
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.logs.classes import TRACES
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.traces import HORIZON, TraceLog, TraceQuery, pack, unpack
from storage.queue.entries import new_queue_id
from storage.values import AccountId, TenantId

DAY = 86_400
START = 1_750_000_000  # 2025-06-15 15:06:40 UTC
ACME, OTHER = TenantId(7), TenantId(8)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def keys(tmp_path: Path, clock: FixedClock) -> LocalKeys:
    return LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))


@pytest.fixture
def log(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[TraceLog]:
    log = TraceLog(tmp_path, keys, "one", clock)
    yield log
    log.close()


def event(kind: TraceKind, id_: str, time: int = START, **values: object) -> TraceEvent:
    made = TraceEvent(time, id_, kind, ACME, None, "ada@acme.test", "bob@other.test")
    return replace(made, **values)  # type: ignore[arg-type]


def found(log: TraceLog, since: int | None = None, until: int | None = None, **query: object) -> list[str]:
    return [trace.id for trace in log.find(TraceQuery(**query), since, until)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "made",
    [
        event(TraceKind.RECEIVED, "q1", details={"peer": "192.0.2.1", "size": "12"}),
        event(TraceKind.REFUSED, "s1", tenant_id=None, sender="", recipient='"a\\"b c"@x.test'),
        event(TraceKind.DELIVERED, "q2", account_id=AccountId(3), sender="gr\u00fc\u00dfe@m\u00fcller.test"),
        event(TraceKind.FAILED, "q3", details={"reply": "550 \u2028\x00"}),
    ],
)
def test_events_survive_packing(made: TraceEvent) -> None:
    assert unpack(pack(made)) == made


def test_what_is_no_text_is_replaced() -> None:
    made = event(TraceKind.FAILED, "q3", details={"reply": "550 \udcff"})
    assert unpack(pack(made)).details == {"reply": "550 ?"}


def test_a_trace_is_put_together_from_all_processes(
    tmp_path: Path, keys: LocalKeys, clock: FixedClock, log: TraceLog
) -> None:
    other = TraceLog(tmp_path, keys, "another", clock)
    other.record(event(TraceKind.DEFERRED, "q1"))  # in the same second as what the other process did before it
    log.record(event(TraceKind.RECEIVED, "q1", recipient=""))
    other.record(event(TraceKind.RELAYED, "q1", START + 90_000))
    log.record(event(TraceKind.RECEIVED, "q2"))
    other.close()
    clock.advance(2 * DAY)
    [trace] = log.find(TraceQuery(id="q1"))
    assert [each.kind for each in trace.events] == [TraceKind.RECEIVED, TraceKind.DEFERRED, TraceKind.RELAYED]
    assert trace.begun == START


@pytest.fixture
def told(log: TraceLog) -> TraceLog:
    for made in (
        event(TraceKind.RECEIVED, "q1", recipient=""),
        event(TraceKind.VERDICT, "q1", recipient="", details={"verdict": "forward"}),
        event(TraceKind.RELAYED, "q1", START + 5),
        event(TraceKind.FAILED, "q1", START + 5, recipient="Carl@Third.TEST"),
        event(
            TraceKind.RECEIVED,
            "q2",
            START + 10,
            sender="",
            recipient="",
            tenant_id=OTHER,
            details={"to": "bob@other.test, dora@fourth.test"},
        ),
        event(TraceKind.DELIVERED, "q2", START + 11, sender="", tenant_id=OTHER),
        event(
            TraceKind.REFUSED, "s1", START + 20, tenant_id=None, sender="J\u00d6RG@sub.acme.test", recipient="x@y.test"
        ),
    ):
        log.record(made)
    return log


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ({}, ["q1", "q2", "s1"]),
        ({"id": "q2"}, ["q2"]),
        ({"id": "Q2"}, []),
        ({"id": "q"}, []),
        ({"sender": "ADA@acme.TEST"}, ["q1"]),
        ({"sender": "da@acme.test"}, []),
        ({"sender": "@acme.test"}, ["q1"]),
        ({"sender": "j\u00f6rg@sub.acme.test"}, ["s1"]),
        ({"sender": "<>"}, ["q2"]),
        ({"recipient": "bob@other.test"}, ["q1", "q2"]),
        ({"recipient": "carl@third.test"}, ["q1"]),
        ({"recipient": "Dora@fourth.test"}, ["q2"]),  # nothing has become of it yet
        ({"recipient": "ora@fourth.test"}, []),
        ({"recipient": "@fourth.test"}, ["q2"]),
        ({"recipient": "@third.test", "sender": "ada@acme.test"}, ["q1"]),
        ({"recipient": "@third.test", "sender": "<>"}, []),
        ({"kind": TraceKind.DELIVERED}, ["q2"]),
        ({"kind": TraceKind.FAILED, "recipient": "bob@other.test"}, ["q1"]),  # not of the same event
        ({"verdict": "forward"}, ["q1"]),
        ({"verdict": "reject"}, []),
        ({"tenant_id": OTHER}, ["q2"]),
        ({"tenant_id": ACME, "kind": TraceKind.RELAYED}, ["q1"]),
    ],
)
def test_traces_are_found_by_what_they_have(
    told: TraceLog, clock: FixedClock, query: dict[str, object], ids: list[str]
) -> None:
    clock.advance(100)
    assert found(told, **query) == ids


def test_traces_are_found_by_time_and_shown_whole(told: TraceLog, clock: FixedClock) -> None:
    clock.advance(100)
    assert found(told, START + 5, START + 10) == ["q1"]
    assert found(told, START + 11, START + 21) == ["q2", "s1"]
    [trace] = told.find(TraceQuery(), START + 5, START + 10)
    assert len(trace.events) == 4


def test_a_queue_id_says_from_when_to_look(log: TraceLog, clock: FixedClock) -> None:
    old = new_queue_id(clock)
    log.record(event(TraceKind.RECEIVED, old))
    clock.advance(5 * DAY)
    log.record(event(TraceKind.FAILED, old, clock.now()))
    [trace] = log.find(TraceQuery(kind=TraceKind.FAILED), clock.now() - 60)
    assert [each.kind for each in trace.events] == [TraceKind.RECEIVED, TraceKind.FAILED]
    assert found(log, id=old) == [old]


def test_nobody_sees_what_is_older_than_the_horizon(log: TraceLog, clock: FixedClock) -> None:
    log.record(event(TraceKind.RECEIVED, "q1", START - 10))
    log.record(event(TraceKind.RELAYED, "q1", START + 10))
    log.flush()
    clock.advance(HORIZON - 10)
    assert [len(trace.events) for trace in log.find(TraceQuery(id="q1"))] == [2]
    clock.advance(11)  # the first is past it; its segment is still there
    assert [len(trace.events) for trace in log.find(TraceQuery(id="q1"))] == [1]
    for since, until in ((START - 10, None), (START, START + 20), (0, None), (START - 10, START - 5)):
        with pytest.raises(NotPermitted, match="14 days"):
            log.read(since, until)
        with pytest.raises(NotPermitted, match="14 days"):
            log.find(TraceQuery(), since, until)
    with pytest.raises(NotPermitted):
        log.read(None, START)
    clock.advance(20)
    assert found(log) == [] and list(log.read()) == []


def test_days_end_when_their_first_moment_reaches_the_ceiling(log: TraceLog, clock: FixedClock) -> None:
    for number in range(3):
        log.record(event(TraceKind.RECEIVED, f"q{number}", START + number * DAY))
    log.flush()
    midnight = (START // DAY + TRACES.ceiling_days) * DAY
    clock.advance(midnight - START - 1)
    assert log.expire() == []
    clock.advance(1)
    assert log.expire() == ["2025-06-15"] and log.expire() == []
    assert found(log) == ["q1", "q2"]


def test_many_events_are_found_as_by_looking_at_each(log: TraceLog, clock: FixedClock) -> None:
    made = random.Random(3)
    people = [f"p{n}@d{n % 3}.test" for n in range(20)]
    events = [
        event(
            made.choice(list(TraceKind)),
            f"q{made.randrange(300)}",
            START + made.randrange(3 * DAY),
            sender=made.choice([*people, ""]),
            recipient=made.choice(people),
        )
        for _ in range(2000)
    ]
    for number, each in enumerate(events):
        log.record(each)
        if number % 100 == 0:
            log.flush()
    clock.advance(3 * DAY)
    for _ in range(50):
        sender, recipient, kind = made.choice(people), made.choice(people), made.choice(list(TraceKind))
        since = START + made.randrange(3 * DAY)
        until = since + made.randrange(DAY)
        within = [each for each in events if since <= each.time < until]
        expected = (
            {each.id for each in within if each.sender == sender}
            & {each.id for each in within if each.recipient == recipient}
            & {each.id for each in within if each.kind is kind}
        )
        traces = log.find(TraceQuery(sender=sender, recipient=recipient, kind=kind), since, until)
        assert {trace.id for trace in traces} == expected
        for trace in traces:
            assert len(trace.events) == sum(each.id == trace.id and each.time >= since - DAY for each in events)
