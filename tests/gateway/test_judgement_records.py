"""Verdicts are told once a message is durable: whatever fails then, its client hears that it was taken."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from quarantine_place import ALICE, ONE, Place

from gateway.acceptance.targets import MailboxTarget
from gateway.authentication.authorship import Authors
from gateway.authentication.facts import AuthenticationFacts
from gateway.facts.values import ClientFacts, Facts
from gateway.judgement.records import Told, VerdictRecords
from gateway.policy.verdict import Action, Reason, Verdict
from gateway.smtp.address import ForwardPath
from storage.logs.trace import TraceEvent
from storage.values import EmailAddress

ADDRESS = EmailAddress.parse("alice@one.test")
TOLD = Told(
    "id",
    MailboxTarget(ONE, ALICE, ForwardPath(ADDRESS)),
    Verdict(Action.DELIVER, Reason.NOTHING_AGAINST_IT, "It is clean."),
)
FACTS = Facts(
    ClientFacts("192.0.2.1"), None, (), AuthenticationFacts(Authors(), None, None, None, None, unknown=()), None
)


class BrokenTraces:
    def record(self, event: TraceEvent) -> None:
        raise RuntimeError("a fault of ours")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


def test_a_fault_of_ours_takes_nothing_back(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    records = VerdictRecords(place.installation, BrokenTraces())
    with caplog.at_level(logging.ERROR):
        records.message(None, [TOLD], FACTS)
    assert records.actions["deliver"] == 1
    assert "verdicts are not told: RuntimeError" in caplog.text and "alice" not in caplog.text
