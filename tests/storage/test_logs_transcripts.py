"""Transcripts: who writes them cannot read them; auditors find connections by what they carried and whom they named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.clock import FixedClock
from storage.errors import Corrupt, StorageFull
from storage.files import durable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.sealing import new_secret, open_sealed_to, public_key, seal_to
from storage.keys.source import LocalKeys
from storage.logs import buffered
from storage.logs.classes import TRANSCRIPTS
from storage.logs.segments import ServiceKeys, WritersKeys, read_records
from storage.logs.transcript_log import TranscriptLog, TranscriptQuery
from storage.logs.transcripts import Direction, TranscriptRecord

DAY = 86_400
START = 1_750_000_000
TEXT = "0.000 > 220 mx.test\n0.010 < MAIL FROM:<Ada@Acme.test>\n0.020 < RCPT TO:<bob@other.test>"
RECORD = TranscriptRecord(START, Direction.IN, "s1", "192.0.2.1", ("q1", "q2"), (7, 8), TEXT)
OUT = TranscriptRecord(
    START + 9, Direction.OUT, "s2", "mx.other.test [2001:db8::1]", (), (), "0.1 < 220 \u2028 h\u00e9"
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START)


@pytest.fixture
def keys(tmp_path: Path, clock: FixedClock) -> LocalKeys:
    return LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))


@pytest.fixture
def log(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[TranscriptLog]:
    log = TranscriptLog(tmp_path, keys, "one", clock)
    yield log
    log.close()


class TestSealedToAKey:
    def test_only_the_private_key_opens(self) -> None:
        private = new_secret()
        box = seal_to(public_key(private), b"plain", b"context")
        assert open_sealed_to(private, box, b"context") == b"plain"
        for wrong in (
            (new_secret(), box, b"context"),
            (private, box, b"other"),
            (public_key(private), box, b"context"),
        ):
            with pytest.raises(Corrupt):
                open_sealed_to(*wrong)

    def test_no_changed_octet_opens(self) -> None:
        private = new_secret()
        box = seal_to(public_key(private), b"plain", b"context")
        for place in range(len(box)):
            for changed in (bytes([box[place] ^ 1]), b""):
                with pytest.raises(Corrupt):
                    open_sealed_to(private, box[:place] + changed + box[place + 1 :], b"context")

    def test_a_point_of_small_order_does_not_open(self) -> None:
        with pytest.raises(Corrupt):
            open_sealed_to(new_secret(), b"\x02" + bytes(32) + bytes(40), b"")

    def test_two_boxes_have_nothing_in_common(self) -> None:
        public = public_key(new_secret())
        assert seal_to(public, b"plain", b"")[1:33] != seal_to(public, b"plain", b"")[1:33]


def test_what_is_written_is_read_by_the_auditor(log: TranscriptLog, keys: LocalKeys) -> None:
    for record in (RECORD, OUT):
        log.record(record)
    private = keys.auditor_key("a complaint")
    assert list(log.read(private, START, START + 10)) == [RECORD, OUT]
    assert list(log.read(private, START + 1, START + 10)) == [OUT]


def test_who_writes_cannot_read(
    tmp_path: Path, log: TranscriptLog, keys: LocalKeys, caplog: pytest.LogCaptureFixture
) -> None:
    log.record(RECORD)
    log.flush()
    held = keys.service_key("transcripts")  # all that a role of the gateway can have
    for tried in (WritersKeys(held), ServiceKeys(held), ServiceKeys(keys.service_key("logs"))):
        assert list(read_records(tmp_path, TRANSCRIPTS, tried, 0, START * 2)) == []
    assert list(log.read(held, 0, START * 2)) == []
    assert "does not open" in caplog.text
    assert held != keys.auditor_key("x") and public_key(keys.auditor_key("x")) == held


def test_nothing_stands_in_the_files(tmp_path: Path, log: TranscriptLog) -> None:
    """Words that are too long to stand in a ciphertext by chance."""
    words = ("Adelaide-of-the-test", "acme-and-others.test", "2001:db8::5eed:77", "q-1-of-this-connection")
    text = f"0.010 < MAIL FROM:<{words[0]}@{words[1]}>"
    log.record(TranscriptRecord(START, Direction.IN, "s1", words[2], (words[3],), (7,), text))
    log.flush()
    content = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    for word in words:
        assert word.encode() not in content and word.lower().encode() not in content


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (TranscriptQuery(), ["s1", "s2"]),
        (TranscriptQuery(queue_id="q2"), ["s1"]),
        (TranscriptQuery(queue_id="q"), []),
        (TranscriptQuery(address="ADA@acme.test"), ["s1"]),
        (TranscriptQuery(address="da@acme.test"), []),
        (TranscriptQuery(address="@OTHER.test"), ["s1"]),
        (TranscriptQuery(address="192.0.2.1"), ["s1"]),
        (TranscriptQuery(address="192.0.2"), []),
        (TranscriptQuery(address="2001:DB8::1"), ["s2"]),
        (TranscriptQuery(address="mx.other.test"), ["s2"]),
        (TranscriptQuery(queue_id="q1", address="bob@other.test"), ["s1"]),
        (TranscriptQuery(queue_id="q1", address="mx.other.test"), []),
        (TranscriptQuery(address="\u00e9@x.test"), []),
    ],
)
def test_transcripts_are_found(log: TranscriptLog, keys: LocalKeys, query: TranscriptQuery, ids: list[str]) -> None:
    for record in (RECORD, OUT):
        log.record(record)
    assert [record.id for record in log.read(keys.auditor_key("x"), 0, START * 2, query)] == ids


def test_a_connection_over_midnight_belongs_to_the_day_on_which_it_began(
    tmp_path: Path, log: TranscriptLog, keys: LocalKeys
) -> None:
    log.record(OUT)
    log.flush()
    late = TranscriptRecord(START - DAY, Direction.IN, "s0", "192.0.2.1", (), (), "")
    log.record(late)
    log.flush()
    assert sorted(path.name for path in (tmp_path / "logs/transcripts").iterdir()) == ["2025-06-14", "2025-06-15"]
    assert [record.id for record in log.read(keys.auditor_key("x"), 0, START * 2)] == ["s0", "s2"]


def test_they_are_kept_for_twelve_months(log: TranscriptLog, keys: LocalKeys, clock: FixedClock) -> None:
    log.record(RECORD)
    log.flush()
    clock.advance(TRANSCRIPTS.floor_days * DAY)
    assert log.expire() == []
    clock.advance(DAY)
    assert log.expire() == ["2025-06-15"]
    assert list(log.read(keys.auditor_key("x"), 0, START * 2)) == []


def test_what_waits_for_a_full_disk_is_bounded(
    log: TranscriptLog, keys: LocalKeys, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(_: int) -> None:
        raise StorageFull

    monkeypatch.setattr(durable, "fsync_file", full)
    monkeypatch.setattr(buffered, "_OCTETS_MAX", 5 * 1_100_000)
    for number in range(20):
        log.record(TranscriptRecord(START + number, Direction.IN, "s", "192.0.2.1", (), (), "x" * 1_000_000))
        log.flush()
    assert caplog.records[-1].levelno == logging.ERROR and "15 lost" in caplog.text
    monkeypatch.undo()
    kept = [record.time - START for record in log.read(keys.auditor_key("x"), 0, START * 2)]
    assert kept == [15, 16, 17, 18, 19]
