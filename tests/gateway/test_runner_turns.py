"""The runner among many: fairness, destinations that are dead, its own faults, the change feed, and how it stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runner_town import (
    DAY,
    GREYLISTED,
    NO_CONNECTION,
    NO_SUCH_USER,
    TAKEN,
    RunnerTown,
)

from gateway.mx.recipients import Recipients
from gateway.queue.runner import Runner
from gateway.queue.schedule import Limits
from gateway.relay.outcome import NextHop, OwnServer, RecipientOutcome, RelayMessage, RelayRecipient, Result, TlsDemand
from storage.changes import Subscriber
from storage.directory.resolve import Resolver
from storage.directory.routes import Mode, Route, RouteTls
from storage.errors import CleanmailError, Corrupt, StorageFull, Unavailable
from storage.queue.entries import NewRecipient, Origin, RecipientParameters, Reply
from storage.values import Domain, EmailAddress

FAR, DEAD = Domain("far.example"), Domain("dead.example")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[RunnerTown]:
    town = RunnerTown(tmp_path, limits=Limits(12, 3))
    yield town
    town.close()


def while_running(runner: Runner, test: Callable[[], Awaitable[None]]) -> None:
    """`test` beside a runner, which is stopped afterwards."""

    async def both() -> None:
        async with asyncio.timeout(30):
            running = asyncio.create_task(runner.run())
            try:
                await test()
            finally:
                runner.stop()
                await running

    asyncio.run(both())


async def until(holds: Callable[[], object]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


# Fairness


def test_a_destination_that_hangs_delays_nobody_else(town: RunnerTown) -> None:
    for number in range(10):
        town.submit(f"x{number}@dead.example")
    for number in range(10):
        town.submit(f"x{number}@far.example", sender="mallory")
    released = asyncio.Event()

    async def before(hop: NextHop, message: RelayMessage) -> None:
        if hop == DEAD:
            await released.wait()

    async def test() -> None:
        await until(lambda: len(town.relay.taken()) == 10)
        assert town.relay.open[DEAD] == 3
        released.set()
        await until(lambda: len(town.relay.taken()) == 20)

    town.relay.before = before
    while_running(town.runner(), test)
    assert town.relay.most_open[DEAD] == 3 and town.relay.most_open[FAR] <= 3


def test_a_bulk_sender_lets_others_pass(town: RunnerTown) -> None:
    for number in range(60):
        town.submit(f"bulk{number}@far.example", sender="alice")
    town.submit("one@far.example", sender="mallory")
    town.run()
    assert "one@far.example" in town.relay.taken()[:10]
    assert len(town.relay.taken()) == 61


def test_each_message_is_sent_once_whatever_the_concurrency(town: RunnerTown) -> None:
    expected: Counter[str] = Counter()
    for number in range(120):
        domain = f"d{number % 7}.example"
        sender = "mallory" if number % 3 else "alice"
        town.submit(f"x{number}@{domain}", sender=sender)
        expected[f"x{number}@{domain}"] += 1

    async def before(hop: NextHop, message: RelayMessage) -> None:
        for _ in range(len(message.queue_id) % 5 + sum(message.queue_id.encode()) % 7):
            await asyncio.sleep(0)

    town.relay.before = before
    town.run()
    assert Counter(town.relay.taken()) == expected
    assert (town.queued(), town.spooled()) == ([], 0)


# Destinations that are dead


def test_a_dead_destination_is_tried_with_one_message_at_a_time_and_ever_more_rarely(town: RunnerTown) -> None:
    for number in range(20):
        town.submit(f"x{number}@dead.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    first = len(town.relay.sent)
    assert first <= 3  # what was open when the first failed
    state = town.queue.destination_state("dead.example")
    assert state is not None and (state.failures, state.retry_at) == (1, town.clock.now() + 300)
    for pause in (300, 600, 1200):
        town.run(later=pause)
    assert len(town.relay.sent) == first + 3
    state = town.queue.destination_state("dead.example")
    assert state is not None and state.failures == 4


def test_when_it_answers_again_all_of_it_goes(town: RunnerTown) -> None:
    for number in range(20):
        town.submit(f"x{number}@dead.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    town.relay.behaviour = lambda *_: TAKEN
    town.run(later=600)
    assert town.queued() == [] and len(town.relay.taken()) == 20
    assert town.queue.destination_state("dead.example") is None


def test_a_recipient_that_is_greylisted_says_nothing_about_the_destination(town: RunnerTown) -> None:
    for number in range(10):
        town.submit(f"x{number}@far.example")
    town.relay.behaviour = lambda *_: GREYLISTED
    town.run()
    assert len(town.relay.sent) == 10 and town.queue.destination_state("far.example") is None


@pytest.mark.parametrize(
    ("reply", "unwilling", "counts"),
    [
        (Reply(421, "4.3.2", "Shutting down", "mx.far.example"), True, True),
        (Reply(554, "5.7.1", "No mail from you", "mx.far.example"), True, True),
        (Reply(0, "4.4.3", "DNS does not answer."), False, True),
        (Reply(0, "4.7.5", "The certificate is not the right one.", "mx.far.example"), False, True),
        (Reply(0, "4.3.0", "The message cannot be signed at this moment."), False, False),
        (Reply(0, "4.5.3", "Too many recipients.", "mx.far.example"), False, False),
        (Reply(452, "4.3.1", "Out of space", "mx.far.example"), False, False),
    ],
)
def test_what_counts_as_a_failure_of_the_destination(
    town: RunnerTown, reply: Reply, unwilling: bool, counts: bool
) -> None:
    town.submit("x@far.example")
    town.relay.behaviour = lambda *_: RecipientOutcome(Result.DEFERRED, reply, host_unwilling=unwilling)
    town.run()
    assert (town.queue.destination_state("far.example") is not None) == counts


def test_an_operator_has_a_dead_destination_tried_at_once(town: RunnerTown) -> None:
    town.submit("x@dead.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION

    async def test() -> None:
        await until(lambda: runner.is_idle and town.relay.sent)
        town.relay.behaviour = lambda *_: TAKEN
        runner.look()
        await until(lambda: runner.is_idle)
        assert len(town.relay.sent) == 1
        assert town.queue.retry(destination="dead.example") == 1
        runner.look()
        await until(town.relay.taken)

    runner = town.runner()
    while_running(runner, test)


def test_a_runner_that_starts_anew_knows_which_destinations_are_dead(town: RunnerTown) -> None:
    town.submit("x@dead.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    town.submit("y@dead.example")
    town.run()
    assert len(town.relay.sent) == 1


# Routes


def route(town: RunnerTown, mode: Mode, host: str = "mail.customer.example") -> None:
    tenant_id, _ = town.owner("alice")
    town.installation.tenant(tenant_id).routes.set(Route(Domain("example.test"), mode, host, 2525, RouteTls.ENCRYPTED))


def routed(address: str) -> NewRecipient:
    parsed = EmailAddress.parse(address)
    return NewRecipient(parsed, None, routed=parsed.domain)


def test_a_routed_recipient_goes_to_the_server_that_the_route_names_now(town: RunnerTown) -> None:
    town.submit(routed("carol@example.test"), sender="alice")
    route(town, Mode.SERVER, "old.customer.example")
    route(town, Mode.SERVER)
    town.run()
    [sent] = town.relay.sent
    assert sent.hop == OwnServer("mail.customer.example", 2525, TlsDemand.ENCRYPTED)


def test_where_a_route_is_gone_mail_goes_to_the_mailbox(town: RunnerTown) -> None:
    queue_id = town.submit(routed("bob@example.test"), routed("carol@example.test"))
    town.run()
    assert town.relay.sent == [] and len(town.inbox("bob")) == 1
    [report] = town.reports("alice")
    assert "carol@example.test" in str(report.get_body()) and "bob@example.test" not in str(report.get_body())
    assert (town.queued(), town.spooled()) == ([], 0)
    assert town.traces.kinds(queue_id) == ["relayed", "failed", "notified"]


def test_where_an_alias_took_the_place_of_a_route_strangers_mail_is_forwarded_with_srs(town: RunnerTown) -> None:
    tenant_id, _ = town.owner("alice")
    town.provisioning.add_alias(
        tenant_id, EmailAddress.parse("carol@example.test"), [EmailAddress.parse("carol@far.example")]
    )
    town.submit(routed("carol@example.test"), reverse_path="stranger@origin.example", origin=Origin.MX)
    town.run()
    [sent] = town.relay.sent
    assert (str(sent.hop), [str(each.address) for each in sent.message.recipients]) == (
        "far.example",
        ["carol@far.example"],
    )
    assert str(sent.message.reverse_path).startswith("SRS0=") and sent.message.reverse_path is not None
    assert sent.message.reverse_path.domain == Domain("example.test")
    assert sent.message.content.startswith(b"Delivered-To: carol@example.test\r\n")


def test_and_the_way_back_is_that_of_whose_alias_it_is(town: RunnerTown) -> None:
    """An alias of another tenant led to the routed address: MX opens the path with the key of the alias's tenant."""
    tenant_id, _ = town.owner("alice")
    town.provisioning.add_alias(
        tenant_id, EmailAddress.parse("carol@example.test"), [EmailAddress.parse("carol@far.example")]
    )
    led = replace(routed("carol@example.test"), parameters=RecipientParameters(original="mixed@other.test"))
    town.submit(led, reverse_path="stranger@origin.example", origin=Origin.MX)
    town.run()
    [sent] = town.relay.sent
    assert sent.message.reverse_path is not None and sent.message.reverse_path.domain == Domain("other.test")
    found = Recipients(town.installation, Resolver(town.installation)).look_up(sent.message.reverse_path, 0)
    assert [str(address) for address in found.resolution.external] == ["stranger@origin.example"]


# The end of the retry time


def test_any_number_of_entries_expires_together(town: RunnerTown, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.queue.expiry._MOST", 4)
    for number in range(13):
        town.submit(f"x{number}@dead.example", expires=100)
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    town.run(later=100)
    assert (town.queued(), town.spooled()) == ([], 0)
    assert len(town.reports("alice")) == 13


def test_entries_that_cannot_be_given_up_now_hide_none_of_the_others(
    town: RunnerTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.queue.expiry._MOST", 3)
    for number in range(5):
        town.submit(f"x{number}@dead.example", sender="mallory", expires=100)
    town.submit("y@dead.example", sender="alice", expires=101)
    town.relay.behaviour = lambda *_: NO_CONNECTION
    town.run()
    mallory, _ = town.owner("mallory")
    expire = town.orders.expire

    def failing(queue_id: str, busy: frozenset[str]) -> object:
        if town.entry(queue_id).tenant_id == mallory:
            raise Unavailable
        return expire(queue_id, busy)

    monkeypatch.setattr(town.orders, "expire", failing)

    async def test() -> None:
        for _ in range(4):
            town.clock.advance(60)  # less than until the destination is tried again
            runner.look()
            await until(lambda: runner.is_idle)

    runner = town.runner()
    while_running(runner, test)
    assert len(town.reports("alice")) == 1 and len(town.queued()) == 5


# Faults of our own


def test_an_outcome_that_cannot_be_written_is_written_later_and_nothing_is_sent_twice(
    town: RunnerTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.submit("x@far.example")
    monkeypatch.setattr("gateway.queue.runner._RECORD_AGAIN", (0.001, 0.01))
    failures: list[CleanmailError] = [StorageFull(), Unavailable(), StorageFull()]
    settle, settle_together = town.queue.settle, town.queue.settle_together

    def failing(*arguments: object, **options: object) -> bool:
        if failures:
            raise failures.pop()
        return settle(*arguments, **options)  # type: ignore[arg-type]

    def failing_together(outcomes: Sequence[Any]) -> list[Exception | None]:
        return [failures.pop()] * len(outcomes) if failures else settle_together(outcomes)

    monkeypatch.setattr(town.queue, "settle", failing)
    monkeypatch.setattr(town.queue, "settle_together", failing_together)
    town.run()
    assert failures == [] and town.queued() == [] and len(town.relay.sent) == 1
    town.submit("y@far.example")  # refused: its outcome has a report, and is written by itself
    town.relay.behaviour = lambda *_: NO_SUCH_USER
    failures += [Unavailable(), StorageFull()]
    town.run()
    assert failures == [] and town.queued() == [] and len(town.relay.sent) == 2
    assert len(town.reports("alice")) == 1


def test_a_message_that_is_missing_in_the_spool_is_waits_and_goes_back_at_the_end(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")
    town.submit("y@far.example")
    tenant_id, _ = town.owner("alice")
    (town.data / "tenants" / str(tenant_id) / "spool" / town.entry(queue_id).file).unlink()
    town.run()
    assert town.relay.taken() == ["y@far.example"] and town.queued() == [queue_id]
    assert town.entry(queue_id).recipients[0].attempts == 1
    town.run(later=6 * DAY)
    assert town.queued() == [] and len(town.reports("alice")) == 1


def test_a_sender_that_cannot_be_told_now_is_told_later(town: RunnerTown, monkeypatch: pytest.MonkeyPatch) -> None:
    town.submit("x@far.example", "y@far.example")
    town.relay.behaviour = lambda hop, message, to: NO_SUCH_USER if to.address.local == "x" else TAKEN

    def unavailable(*_: object) -> None:
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr("storage.directory.resolve.Resolver.resolve", unavailable)
        town.run()
    [queue_id] = town.queued()
    states = [recipient.state.value for recipient in town.entry(queue_id).recipients]
    assert states == ["queued", "relayed"]
    town.run(later=300)
    assert town.queued() == [] and len(town.reports("alice")) == 1
    assert town.relay.taken() == ["y@far.example"]


def test_a_lane_whose_tenant_cannot_be_read_waits_and_others_go_on(
    town: RunnerTown, monkeypatch: pytest.MonkeyPatch
) -> None:
    town.submit("x@far.example", sender="alice")
    town.submit("y@far.example", sender="mallory")
    mallory, _ = town.owner("mallory")
    show = town.queue.show

    def failing(queue_id: str, *, destination: str | None = None) -> object:
        entry = show(queue_id, destination=destination)
        if entry.tenant_id == mallory:
            raise Unavailable
        return entry

    with monkeypatch.context() as patched:
        patched.setattr(town.queue, "show", failing)
        town.run()
    assert town.relay.taken() == ["x@far.example"]
    town.run()
    assert town.relay.taken() == ["x@far.example", "y@far.example"]


def test_large_messages_pass_a_few_at_a_time(town: RunnerTown) -> None:
    content = b"Subject: large\r\n\r\n" + b"x" * 70 + b"\r\n" + (b"y" * 78 + b"\r\n") * 600_000
    for number in range(4):
        town.submit(f"x{number}@d{number}.example", content=content)
    at_once = 0
    open_now = 0

    async def before(hop: NextHop, message: RelayMessage) -> None:
        nonlocal at_once, open_now
        open_now += 1
        at_once = max(at_once, open_now)
        for _ in range(50):
            await asyncio.sleep(0)
        open_now -= 1

    town.relay.before = before
    town.run()
    assert at_once == 1 and len(town.relay.taken()) == 4


# Learning and stopping


def test_the_change_feed_wakes_it(town: RunnerTown) -> None:
    feed = Subscriber(town.data, town.clock, mailboxes=False, queue=True)

    async def test() -> None:
        await until(lambda: runner.is_idle)
        town.submit("x@far.example")
        await until(town.relay.taken)

    runner = town.runner(feed=feed)
    while_running(runner, test)
    feed.close()


def test_a_stop_lets_what_is_under_way_finish(town: RunnerTown) -> None:
    town.submit("x@far.example")
    town.submit("y@dead.example")
    released = asyncio.Event()

    async def before(hop: NextHop, message: RelayMessage) -> None:
        await released.wait()

    async def test() -> None:
        await until(lambda: town.relay.open.total() == 2)
        runner.stop()
        town.submit("late@far.example")
        runner.look()
        asyncio.get_running_loop().call_soon(released.set)

    town.relay.before = before
    runner = town.runner()
    while_running(runner, test)
    assert sorted(town.relay.taken()) == ["x@far.example", "y@dead.example"]
    assert len(town.queued()) == 1 and town.relay.closed


def test_what_does_not_finish_is_as_if_it_had_not_been_tried(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")

    async def before(hop: NextHop, message: RelayMessage) -> None:
        await asyncio.Event().wait()

    async def test() -> None:
        await until(lambda: town.relay.open.total() == 1)

    town.relay.before = before
    while_running(town.runner(stop_within=0.01), test)
    [recipient] = town.entry(queue_id).recipients
    assert (recipient.attempts, recipient.state.value) == (0, "queued")
    town.relay.before = None
    town.run()
    assert town.relay.taken() == ["x@far.example"]


def test_what_is_held_while_it_is_sent_is_settled_all_the_same(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")

    def behaviour(hop: NextHop, message: RelayMessage, recipient: RelayRecipient) -> RecipientOutcome:
        town.queue.hold(queue_id)
        return TAKEN

    town.relay.behaviour = behaviour
    town.run()
    assert town.queued() == []


def test_what_is_withdrawn_while_it_is_sent_makes_no_report(town: RunnerTown) -> None:
    queue_id = town.submit("x@far.example")

    def behaviour(hop: NextHop, message: RelayMessage, recipient: RelayRecipient) -> RecipientOutcome:
        town.queue.withdraw(queue_id)
        return NO_SUCH_USER

    town.relay.behaviour = behaviour
    town.run()
    assert town.queued() == [] and town.inbox("alice") == []


@pytest.mark.parametrize("fault", [Corrupt(), ZeroDivisionError()], ids=["corrupt", "bug"])
def test_an_entry_that_nothing_can_be_done_with_stops_no_other_of_its_lane(
    town: RunnerTown, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    bad = town.submit("bad@far.example")
    town.submit("good@far.example")
    show = town.queue.show

    def failing(queue_id: str, *, destination: str | None = None) -> object:
        if queue_id == bad:
            raise fault
        return show(queue_id, destination=destination)

    with monkeypatch.context() as patched:
        patched.setattr(town.queue, "show", failing)
        town.run()
    assert town.relay.taken() == ["good@far.example"]
    town.run()
    assert town.relay.taken() == ["good@far.example", "bad@far.example"]


def test_a_failure_that_cannot_be_noted_loses_no_outcome(town: RunnerTown, monkeypatch: pytest.MonkeyPatch) -> None:
    town.submit("x@dead.example")
    town.relay.behaviour = lambda *_: NO_CONNECTION

    def full(*_: object) -> None:
        raise StorageFull

    monkeypatch.setattr(town.queue, "destination_failed", full)
    town.run()
    monkeypatch.setattr(town.queue, "destination_answered", full)
    town.relay.behaviour = lambda *_: TAKEN
    town.run(later=300)
    assert town.queued() == [] and len(town.relay.sent) == 2
