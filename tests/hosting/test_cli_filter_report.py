"""cleanmail filter report: what was judged and the promise beside it, for people and for scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.classifier.model import BITS, FILE, Learned, SharedModel, write_model
from hosting import cli, composition, config
from storage.clock import FixedClock, SystemClock
from storage.filter.counts import DAY, KEPT_DAYS, Counted, Counts
from storage.values import TenantId

ONE, TWO = TenantId(1), TenantId(2)


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


class Place:
    def __init__(self, data: Path, run: Callable[..., Said]) -> None:
        self.data = data
        self.run = run

    def count(self, tenant_id: TenantId, counts: Mapping[Counted, int], *, days_ago: int = 0) -> None:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            clock = FixedClock(SystemClock().now() - days_ago * DAY)
            several = Counts(lambda: administration.control.judged, clock)
            for what, number in counts.items():
                several.add(tenant_id, what, number)
            several.close()


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Place:
    data = tmp_path / "data"

    def run(*arguments: str) -> Said:
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        capsys.readouterr()
        status = cli.run(["--data", str(data), *arguments])
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    for arguments in (["init"], ["tenant", "create", "acme"], ["tenant", "create", "zeta"]):
        assert run(*arguments).status == 0
    return Place(data, run)


def test_a_kept_promise(place: Place) -> None:
    place.count(ONE, {Counted.DELIVER: 9_000, Counted.JUNK: 980, Counted.REJECT: 20, Counted.DEFER: 7})
    place.count(ONE, {Counted.VIEWED: 1, Counted.REPORTED: 3})
    said = place.run("filter", "report")
    assert said.status == 0, said.err
    lines = [line.split() for line in said.out.splitlines()]
    assert ["deliver", "9000", "90.0000", "%"] in lines
    assert ["junk", "980", "9.8000", "%"] in lines
    assert ["defer", "7", "-"] in lines
    assert ["all", "10000", "100.0000", "%"] in lines
    assert ["reported", "as", "wrong", "3", "0.0300", "%"] in lines
    assert ["reviewed", "by", "a", "person", "1", "0.0100", "%"] in lines
    assert ["found", "wrongly", "filtered", "0", "0.0000", "%"] in lines
    assert said.out.splitlines()[-2:] == [
        "OK: reviewed 0.0100 %, wrongly filtered 0.0000 %; promised is less than 0.02 % of all mail.",
        "Content model: none; make one with: cleanmail filter train CORPUS.",
    ]


@pytest.mark.parametrize(
    ("learned", "sentence"),
    [
        (
            Learned(1_200, 999),
            "Content model: learning (1200 wanted messages, 999 of spam); "
            "until it has learned from 1000 of each, what looks like spam is only tagged.",
        ),
        (Learned(1_000, 1_000), "Content model: trained (1000 wanted messages, 1000 of spam)."),
    ],
)
def test_why_so_much_is_only_tagged(place: Place, learned: Learned, sentence: str) -> None:
    weights = np.zeros(1 << BITS, np.float32)
    write_model(place.data / FILE, SharedModel(weights, weights, learned, 0, {}))
    assert place.run("filter", "report").out.splitlines()[-1] == sentence


def test_an_alarm_is_a_gauge(place: Place) -> None:
    place.count(ONE, {Counted.DELIVER: 10_000, Counted.VIEWED: 3, Counted.WRONG: 2})
    said = place.run("filter", "report")
    assert said.status == 0
    assert "ALARM: reviewed 0.0300 %, wrongly filtered 0.0200 %; promised is less than 0.02 % of all mail." in said.out


def test_the_promise_is_the_configurations(place: Place) -> None:
    (place.data / "cleanmail.toml").write_text("[filter]\nalarm_share = 0.05\n")
    place.count(ONE, {Counted.DELIVER: 10_000, Counted.VIEWED: 3})
    found = place.run("filter", "report", "--json").json
    assert (found["alarm"], found["promised_percent"], found["percent"]["viewed"]) == (False, 0.05, 0.03)


def test_days_and_tenants(place: Place) -> None:
    place.count(ONE, {Counted.DELIVER: 1})
    place.count(TWO, {Counted.JUNK: 2}, days_ago=1)
    place.count(ONE, {Counted.REJECT: 4}, days_ago=29)
    place.count(ONE, {Counted.TAG: 8}, days_ago=30)

    def judged(*arguments: str) -> int:
        return int(place.run("filter", "report", *arguments, "--json").json["judged"])

    assert judged() == 7
    assert judged("--days", "1") == 1
    assert judged("--days", "31") == 15
    assert judged("--tenant", "acme") == 5
    assert judged("--tenant", "zeta", "--days", "2") == 2
    assert place.run("filter", "report", "--tenant", "nobody").status == 1
    for days in ("0", str(KEPT_DAYS + 1)):
        assert place.run("filter", "report", "--days", days).status == 2


def test_for_scripts(place: Place) -> None:
    place.count(TWO, {Counted.QUARANTINE: 3, Counted.DELIVER: 1})
    found = place.run("filter", "report", "--tenant", "zeta", "--json").json
    assert found["counts"] == {**{what.value: 0 for what in Counted}, "quarantine": 3, "deliver": 1}
    assert (found["tenant"], found["days"], found["model"]) == ("zeta", 30, "none")
    assert found["percent"]["quarantine"] == 75.0


def test_nothing_has_come_so_far(place: Place) -> None:
    said = place.run("filter", "report")
    assert said.status == 0 and "OK: reviewed 0.0000 %" in said.out
