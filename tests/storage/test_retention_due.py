"""What was kept for its time goes in one pass, each class in its own time; a part that fails keeps nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.clock import FixedClock
from storage.directory.provisioning import Provisioning
from storage.errors import StorageFull
from storage.installation import Installation
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.logs.access import AccessEvent
from storage.logs.classes import ACCESS, CLASSES, TRACES, TRANSCRIPTS, LogClass
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.traces import TraceLog
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.retention import remove_due
from storage.values import EmailAddress

DAY = 86_400
MIDNIGHT = 20_254 * DAY


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    clock = FixedClock(MIDNIGHT)
    keys = LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))
    Installation.create(tmp_path, keys, clock)
    installation = Installation(tmp_path, keys, clock)
    tenant_id = Provisioning(installation).create_tenant("acme", "ACME").tenant_id
    installation.tenant(tenant_id).srs.token(EmailAddress.parse("a@far.test"))
    for time in (MIDNIGHT, MIDNIGHT + DAY - 1):
        installation.access_log.record(AccessEvent(time, "sign_in", "success", "imap", None, None, b"", "192.0.2.1"))
        installation.transcripts.record(TranscriptRecord(time, Direction.IN, "s", "192.0.2.1", (), (), ""))
        installation.traces.record(TraceEvent(time, "q", TraceKind.RECEIVED, None))
    installation.flush_logs()
    yield installation
    installation.close()


def at(installation: Installation, time: int) -> dict[str, list[str]]:
    assert isinstance(installation.clock, FixedClock)
    installation.clock.advance(time - installation.clock.now())
    return remove_due(installation).days


def files(installation: Installation, kind: LogClass) -> list[str]:
    roots = (installation.data / "logs" / kind.name, installation.data / "keys" / "logs" / kind.name)
    return [path.name for root in roots for path in root.rglob("*") if path.is_file()]


def test_the_periods_are_declared() -> None:
    assert {kind.name: kind.ceiling_days for kind in CLASSES} == {"access": 365, "transcripts": 365, "traces": 14}
    assert all(kind.floor_days == kind.ceiling_days - 1 and kind.of.purpose for kind in CLASSES)


def test_every_class_goes_in_its_own_time(installation: Installation) -> None:
    for kind in CLASSES:
        assert len(files(installation, kind)) == 2
    assert at(installation, MIDNIGHT + 14 * DAY - 1) == {}
    assert at(installation, MIDNIGHT + 14 * DAY) == {"traces": ["2025-06-15"]}
    assert at(installation, MIDNIGHT + 14 * DAY) == {}
    assert files(installation, TRACES) == [] and len(files(installation, ACCESS)) == 2
    assert at(installation, MIDNIGHT + 365 * DAY - 1) == {}
    assert at(installation, MIDNIGHT + 365 * DAY) == {"access": ["2025-06-15"], "transcripts": ["2025-06-15"]}
    assert files(installation, ACCESS) == files(installation, TRANSCRIPTS) == []


def test_what_a_long_absence_left_goes_at_once(installation: Installation) -> None:
    days = at(installation, MIDNIGHT + 1000 * DAY)
    assert sorted(days) == ["access", "traces", "transcripts"]
    assert remove_due(installation).days == {}


def test_rows_go_too(installation: Installation) -> None:
    assert isinstance(installation.clock, FixedClock)
    installation.clock.advance(30 * DAY)
    assert remove_due(installation).rows == 1
    assert remove_due(installation).rows == 0


def test_a_part_that_fails_keeps_nothing_else_from_going(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: TraceLog, period: object = None) -> list[str]:
        raise StorageFull

    monkeypatch.setattr(TraceLog, "expire", full)
    assert isinstance(installation.clock, FixedClock)
    installation.clock.advance(400 * DAY)
    removed = remove_due(installation)
    assert sorted(removed.days) == ["access", "transcripts"] and removed.failed == 1
    assert "retention: traces" in caplog.text
    monkeypatch.undo()
    assert remove_due(installation).days == {"traces": ["2025-06-15"]}
