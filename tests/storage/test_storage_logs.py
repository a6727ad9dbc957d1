"""Access events: kept, found, torn by crashes, and gone with their keys."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from storage.clock import FixedClock
from storage.errors import StorageFull
from storage.files import durable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.logs.access import ACCESS, AccessEvent, AccessLog
from storage.logs.frames import Record
from storage.logs.segments import SegmentWriter, ServiceKeys, read_records
from storage.values import AccountId, TenantId

DAY = 86_400
START = 1_750_000_000  # 2025-06-15 15:06:40 UTC
EVENT = AccessEvent(START, "sign_in", "success", "imap", TenantId(7), AccountId(31), b"", "192.0.2.1")


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def keys(tmp_path: Path, clock: FixedClock) -> LocalKeys:
    return LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))


@pytest.fixture
def log(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[AccessLog]:
    log = AccessLog(tmp_path, keys, "one", clock)
    yield log
    log.close()


def files(tmp_path: Path) -> list[str]:
    kept = {".log", ".key", ".subjects"}
    return sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.suffix in kept)


def test_events_of_all_processes_come_in_the_order_of_time(
    tmp_path: Path, keys: LocalKeys, clock: FixedClock, log: AccessLog
) -> None:
    other = AccessLog(tmp_path, keys, "two", clock)
    events = [replace(EVENT, time=START + n * 10_000) for n in range(30)]
    for number, event in enumerate(events):
        (other if number % 3 else log).record(event)
        if number % 5 == 0:
            log.flush()
    other.close()
    assert list(log.read(0, START * 2)) == events
    assert list(log.read(events[3].time, events[7].time)) == events[3:7]


def test_events_are_found_by_tenant_and_account(log: AccessLog) -> None:
    others = [
        replace(EVENT, tenant_id=None, account_id=None, result="unknown", login_hash=b"\x01\xff"),
        replace(EVENT, account_id=AccountId(32), type="submit", result="refused", protocol="submission"),
        replace(EVENT, tenant_id=TenantId(8), account_id=AccountId(40), address="2001:db8::1"),
    ]
    for event in [EVENT, *others]:
        log.record(event)
    assert list(log.read(0, START + 1)) == [EVENT, *others]
    assert list(log.read(0, START + 1, tenant=TenantId(7))) == [EVENT, others[1]]
    assert list(log.read(0, START + 1, tenant=TenantId(7), account=AccountId(31))) == [EVENT]


@pytest.mark.parametrize(("kind", "result"), [("sign in", "success"), ("sign_in", "ok")])
def test_types_and_results_are_a_closed_set(kind: str, result: str) -> None:
    with pytest.raises(ValueError):
        replace(EVENT, type=kind, result=result)


def test_the_segment_shows_nothing(tmp_path: Path, log: AccessLog) -> None:
    log.record(EVENT)
    log.flush()
    assert [name for name in files(tmp_path) if "logs/" in name] == [
        "keys/logs/access/2025-06-15/one-0.key",
        "keys/logs/access/2025-06-15/one-0.subjects",
        "logs/access/2025-06-15/one-0.log",
    ]
    assert b"192.0.2.1" not in (tmp_path / "logs/access/2025-06-15/one-0.log").read_bytes()


def test_a_day_goes_with_its_keys(tmp_path: Path, log: AccessLog) -> None:
    later = replace(EVENT, time=START + DAY)
    for event in (EVENT, later):
        log.record(event)
    log.flush()
    shutil.rmtree(tmp_path / "keys/logs/access/2025-06-15")
    assert list(log.read(0, START * 2)) == [later]


def test_retention(tmp_path: Path, log: AccessLog, clock: FixedClock) -> None:
    later = replace(EVENT, time=START + DAY)
    for event in (EVENT, later):
        log.record(event)
    log.flush()
    assert log.expire() == []
    clock.advance(ACCESS.ceiling_days * DAY - 15 * 3600 - 7 * 60)
    assert log.expire() == []
    clock.advance(60)  # a record of midnight would reach the ceiling now
    assert log.expire() == ["2025-06-15"] and log.expire() == []
    assert list(log.read(0, START * 2)) == [later]
    assert not [name for name in files(tmp_path) if "2025-06-15" in name]


def test_a_log_that_is_opened_anew_begins_a_segment(
    tmp_path: Path, log: AccessLog, keys: LocalKeys, clock: FixedClock
) -> None:
    log.record(EVENT)
    log.close()
    log.record(EVENT)
    again = AccessLog(tmp_path, keys, "one", clock)
    again.record(EVENT)
    again.close()
    assert len(list(log.read(0, START + 1))) == 3


def test_a_torn_end_is_passed_over(tmp_path: Path, log: AccessLog) -> None:
    sizes = []
    path = tmp_path / "logs/access/2025-06-15/one-0.log"
    for number in range(3):
        log.record(replace(EVENT, time=START + number))
        log.flush()
        sizes.append(path.stat().st_size)
    content = path.read_bytes()
    for end in range(sizes[1], sizes[2]):
        path.write_bytes(content[:end])
        assert [event.time - START for event in log.read(0, START * 2)] == [0, 1]


def test_a_damaged_frame_hides_only_itself(tmp_path: Path, log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "logs/access/2025-06-15/one-0.log"
    for number in range(3):
        log.record(replace(EVENT, time=START + number))
        log.flush()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [event.time - START for event in log.read(0, START * 2)] == [0, 2]
    assert "do not verify" in caplog.text


def test_segments_cannot_be_swapped(tmp_path: Path, log: AccessLog, caplog: pytest.LogCaptureFixture) -> None:
    log.record(EVENT)
    log.flush()
    for root, suffix in (("logs", "log"), ("keys/logs", "key")):
        folder = tmp_path / root / "access"
        (folder / "2025-06-16").mkdir()
        shutil.copy(folder / f"2025-06-15/one-0.{suffix}", folder / f"2025-06-16/one-0.{suffix}")
    assert list(log.read(0, START * 2)) == [EVENT]
    assert "does not open" in caplog.text


def test_what_cannot_be_written_waits(
    tmp_path: Path, log: AccessLog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    log.record(EVENT)
    log.flush()

    def full(_: int) -> None:
        raise StorageFull

    monkeypatch.setattr(durable, "fsync_file", full)
    second = replace(EVENT, time=START + 1)
    for _ in range(2):
        log.record(second)
        log.flush()
    assert caplog.records[-1].levelno == logging.ERROR and "192.0.2.1" not in caplog.text
    monkeypatch.undo()
    assert list(log.read(0, START + 5)) == [EVENT, second, second]


def test_large_amounts_are_split_into_frames(tmp_path: Path) -> None:
    writer = SegmentWriter(tmp_path, ACCESS, "one", ServiceKeys(b"k" * 32))
    records = [Record(START, bytes([n]) * 3_000_000) for n in range(5)]
    writer.append(records)
    writer.close()
    assert list(read_records(tmp_path, ACCESS, ServiceKeys(b"k" * 32), 0, START + 1)) == records
