"""The books balance: whatever next hops say over the days, each recipient ends once, and is told of as he asked."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
from runner_town import DAY, GREYLISTED, NO_CONNECTION, NO_SUCH_USER, TAKEN, RunnerTown, fields

from gateway.queue.schedule import Limits
from gateway.relay.outcome import NextHop, RecipientOutcome, RelayMessage, RelayRecipient, Result
from storage.queue.entries import EnvelopeParameters, Origin

NOTIFY: tuple[tuple[str, ...], ...] = ((), ("NEVER",), ("FAILURE",), ("SUCCESS",), ("SUCCESS", "FAILURE", "DELAY"))
DOMAINS = ("far.example", "dead.example", "slow.example", "no.example")


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_every_recipient_ends_once(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    town = RunnerTown(tmp_path, limits=Limits(6, 2))
    wanted: dict[str, tuple[str, ...]] = {}
    failed: set[str] = set()

    def behaviour(hop: NextHop, message: RelayMessage, recipient: RelayRecipient) -> RecipientOutcome:
        if str(recipient.address).endswith("dead.example"):
            outcome = NO_CONNECTION
        elif str(recipient.address).endswith("no.example"):
            outcome = chance.choice([NO_SUCH_USER, GREYLISTED])
        else:
            outcome = chance.choice([TAKEN, GREYLISTED, GREYLISTED, NO_SUCH_USER, NO_CONNECTION])
        if outcome.result is Result.FAILED:
            failed.add(str(recipient.address))
        return outcome

    town.relay.behaviour = behaviour
    try:
        for number in range(25):
            addresses = [f"x{number}-{each}@{chance.choice(DOMAINS)}" for each in range(chance.randint(1, 4))]
            notify = chance.choice(NOTIFY)
            wanted.update(dict.fromkeys(addresses, notify))
            town.submit(*addresses, notify=notify, sender=chance.choice(("alice", "mallory")))
        for _ in range(200):
            if not town.queued():
                break
            town.run(later=chance.choice((100, 1000, 5000, 20_000)))
        assert (town.queued(), town.spooled()) == ([], 0)

        relayed = Counter(town.relay.taken())
        assert set(relayed.values()) <= {1} and not failed & set(relayed)
        ended = set(wanted) - set(relayed)
        assert failed <= ended  # the others were given up at the end of their time
        told: Counter[tuple[str, str]] = Counter()
        for name in ("alice", "mallory"):
            for report in town.reports(name):
                for group in fields(report)[1:]:
                    told[group["Final-Recipient"].removeprefix("rfc822; "), group["Action"]] += 1
        expected = {(each, "failed"): 1 for each in ended if not wanted[each] or "FAILURE" in wanted[each]}
        expected |= {(each, "relayed"): 1 for each in relayed if "SUCCESS" in wanted[each]}
        assert told == expected
    finally:
        town.close()


def test_strangers_whose_addresses_may_be_forged_hear_nothing_whatever_happens(tmp_path: Path) -> None:
    chance = random.Random(1)
    town = RunnerTown(tmp_path, delay_notice=60)
    town.relay.behaviour = lambda *_: chance.choice([NO_SUCH_USER, GREYLISTED, NO_CONNECTION, TAKEN])
    try:
        for number in range(20):
            town.submit(
                f"x{number}@{chance.choice(DOMAINS)}",
                reverse_path=f"victim{number}@victims.example",
                origin=Origin.MX,
                parameters=EnvelopeParameters(authentic=False),
                notify=chance.choice(NOTIFY),
            )
        for _ in range(100):
            if not town.queued():
                break
            town.run(later=20_000)
        assert town.queued() == []
        assert not any(str(sent.hop) == "victims.example" for sent in town.relay.sent)
        assert all(notice["To"] == "postmaster@example.test" for notice in town.reports("alice"))
        assert len(town.reports("alice")) > 0
    finally:
        town.close()


def test_all_of_it_is_over_after_the_retry_time(tmp_path: Path) -> None:
    town = RunnerTown(tmp_path)
    town.relay.behaviour = lambda *_: GREYLISTED
    try:
        for number in range(10):
            town.submit(f"x{number}@far.example")
        town.run()
        town.run(later=5 * DAY)
        assert town.queued() == [] and len(town.reports("alice")) == 10
    finally:
        town.close()
