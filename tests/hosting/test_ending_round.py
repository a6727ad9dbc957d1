"""The jobs role carries out what is open: one that cannot go on keeps no other, and is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ending_town import EndingTown
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock

from hosting.composition import Parts
from hosting.config import Config
from hosting.ending_round import EndingRound
from hosting.metrics import Metrics


@pytest.fixture
def town(tmp_path: Path) -> Iterator[EndingTown]:
    town = EndingTown(tmp_path)
    yield town
    town.close()


def test_one_that_cannot_go_on_keeps_no_other_and_raises_the_gauge(town: EndingTown) -> None:
    metrics = Metrics(CollectorRegistry())
    installation, clock = town.installation, town.clock
    parts = Parts(Clock(), "jobs", 0, town.data, Config(), clock, [], town.keys, None, installation, metrics)
    tenant_id = town.tenant()
    anna, bea = town.account(tenant_id, "anna-4711x"), town.account(tenant_id, "bea-4711x")
    broken, whole = town.order(tenant_id, anna), town.order(tenant_id, bea)

    def spoil(progress: str) -> None:
        statement = "UPDATE ending SET step = 'moved', progress = ? WHERE ending_id = ?"
        installation.control.database.write(lambda t: t.driver.execute(statement, (progress, broken)))

    spoil("{}")
    clock.advance(3 * 86_400)
    EndingRound(parts).round()
    endings = installation.control.endings
    assert endings.find(whole).finished is not None and endings.find(broken).finished is None
    assert metrics.registry.get_sample_value("cleanmail_ending_waits_seconds") == 3 * 86_400
