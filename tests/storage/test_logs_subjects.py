"""Personal texts in records: each is sealed under the key of one account, is found, and goes with that key alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.clock import FixedClock
from storage.errors import StorageFull
from storage.files import durable
from storage.keys.keystore import KeyStore
from storage.keys.master import Master
from storage.keys.source import LocalKeys
from storage.logs.access import AccessEvent, AccessLog
from storage.logs.classes import ACCESS, TRACES, TRANSCRIPTS
from storage.logs.frames import Record
from storage.logs.segments import SegmentWriter, ServiceKeys, erase_subject, read_records, subject_segments
from storage.logs.subjects import ERASED, Personal, Subject, dump, load, mixed, renumbered, whole
from storage.logs.trace import TraceEvent, TraceKind
from storage.logs.traces import TraceLog, TraceQuery
from storage.logs.transcript_log import TranscriptLog, TranscriptQuery
from storage.logs.transcripts import Direction, TranscriptRecord
from storage.values import AccountId, TenantId

START = 1_750_000_000  # 2025-06-15 15:06:40 UTC
DAY = 86_400
ACME = TenantId(7)
ADA, BOB = AccountId(31), AccountId(32)
EVENT = AccessEvent(START, "sign_in", "success", "imap", ACME, ADA, b"", "192.0.2.1")
PEOPLE = {"ada@acme.test": 31, "bob@acme.test": 32}


def whose(address: str) -> Subject | None:
    number = PEOPLE.get(address.lower())
    return None if number is None else Subject(7, number)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START + 60)


@pytest.fixture
def keys(tmp_path: Path, clock: FixedClock) -> LocalKeys:
    return LocalKeys(KeyStore.create(tmp_path / "keys", Master.generate(), clock))


@pytest.fixture
def access(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[AccessLog]:
    log = AccessLog(tmp_path, keys, "one", clock)
    yield log
    log.close()


@pytest.fixture
def traces(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[TraceLog]:
    log = TraceLog(tmp_path, keys, "one", clock, whose)
    yield log
    log.close()


@pytest.fixture
def transcripts(tmp_path: Path, keys: LocalKeys, clock: FixedClock) -> Iterator[TranscriptLog]:
    log = TranscriptLog(tmp_path, keys, "one", clock, whose)
    yield log
    log.close()


# Texts


@pytest.mark.parametrize(
    ("text", "personal"),
    [
        ("550 5.1.1 <ada@acme.test>: no", ["ada@acme.test"]),
        ("to ada@acme.test, bob@acme.test; x@far.test", ["ada@acme.test", "bob@acme.test"]),
        ("RCPT TO:<Ada@Acme.test> ORCPT=rfc822;bob@acme.test", ["Ada@Acme.test", "bob@acme.test"]),
        ("write to ada@acme.test.", ["ada@acme.test."]),
        ("<<ada@acme.test>", ["ada@acme.test"]),
        ("nothing", []),
        ("@ <@> <> x@", []),
    ],
)
def test_addresses_of_accounts_are_found_in_texts(text: str, personal: list[str]) -> None:
    made = mixed(text, whose)
    parts = made if isinstance(made, list) else [made]
    assert [part.text for part in parts if isinstance(part, Personal)] == personal
    assert "".join(part.text if isinstance(part, Personal) else part for part in parts) == text


@given(
    st.lists(st.sampled_from(["ada@acme.test", "<", ">", " ", "@", "x", "\n", ",", '{"~":0}', "\u00e9"])).map("".join)
)
def test_whatever_a_text_is_it_comes_back(text: str) -> None:
    data, personal = dump(["x", {"reply": mixed(text, whose)}])
    shifted = renumbered(data, [number + 9 for number in range(len(personal))])
    values = load(shifted, lambda number: personal[number - 9].text)
    assert values[0] == "x" and whole(values[1]["reply"]) == text


# Records


def test_erased_is_who_was_erased_and_nobody_else(tmp_path: Path, access: AccessLog) -> None:
    events = [EVENT, replace(EVENT, account_id=BOB, address="192.0.2.2"), replace(EVENT, time=START + 1)]
    unknown = replace(EVENT, time=START + 2, tenant_id=None, account_id=None, login_hash=b"x", result="unknown")
    for event in [*events, unknown]:
        access.record(event)
    access.flush()
    assert list(access.read(0, START + 9)) == [*events, unknown]
    assert subject_segments(tmp_path, ACCESS, ADA) == 1
    assert erase_subject(tmp_path, ACCESS, ADA) == 1
    hidden = [replace(event, address=ERASED) if event.account_id == ADA else event for event in events]
    assert list(access.read(0, START + 9)) == [*hidden, unknown]
    assert erase_subject(tmp_path, ACCESS, ADA) == 0
    assert subject_segments(tmp_path, ACCESS, ADA) == 0 and subject_segments(tmp_path, ACCESS, BOB) == 1


def test_who_goes_on_after_an_erasure_gets_a_new_key(tmp_path: Path, access: AccessLog) -> None:
    access.record(EVENT)
    access.flush()
    erase_subject(tmp_path, ACCESS, ADA)
    for second in (1, 2):
        access.record(replace(EVENT, time=START + second))
        access.flush()
    assert [event.address for event in access.read(0, START + 9)] == [ERASED, "192.0.2.1", "192.0.2.1"]
    assert erase_subject(tmp_path, ACCESS, ADA) == 1
    assert [event.address for event in access.read(0, START + 9)] == [ERASED] * 3


def test_all_days_and_processes_are_erased(
    tmp_path: Path, access: AccessLog, keys: LocalKeys, clock: FixedClock
) -> None:
    other = AccessLog(tmp_path, keys, "two", clock)
    for log in (access, other):
        log.record(EVENT)
        log.record(replace(EVENT, time=START + DAY))
        log.flush()
    other.close()
    assert erase_subject(tmp_path, ACCESS, ADA) == 4
    assert {event.address for event in access.read(0, START * 2)} == {ERASED}


def test_nothing_that_is_kept_opens_an_erased_text(tmp_path: Path, access: AccessLog) -> None:
    access.record(EVENT)
    access.flush()
    [path] = tmp_path.glob("keys/logs/access/*/*.subjects")
    before = path.read_bytes()
    erase_subject(tmp_path, ACCESS, ADA)
    after = path.read_bytes()
    assert len(after) == len(before)
    assert not any(before[place : place + 16] in after for place in range(16, len(before) - 16))


def test_keys_go_with_their_day(tmp_path: Path, access: AccessLog, clock: FixedClock) -> None:
    access.record(EVENT)
    access.flush()
    clock.advance(ACCESS.ceiling_days * DAY)
    assert access.expire() == ["2025-06-15"]
    assert not list(tmp_path.glob("keys/logs/access/*"))


def test_records_of_before_are_read(tmp_path: Path, access: AccessLog, keys: LocalKeys) -> None:
    """As they were packed when nothing in them was anybody's."""
    old = json.dumps(["sign_in", "success", "imap", 7, 31, "", "192.0.2.1"]).encode()
    writer = SegmentWriter(tmp_path, ACCESS, "old", ServiceKeys(keys.service_key("logs")))
    writer.append([Record(START, old)])
    writer.close()
    assert list(access.read(0, START + 9)) == [EVENT]
    assert not list(tmp_path.glob("keys/logs/access/*/*.subjects"))


@pytest.mark.parametrize("failing", ["fsync_file", "write_all"])
def test_what_could_not_be_written_leaves_nothing_behind(
    tmp_path: Path, access: AccessLog, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    access.record(EVENT)
    access.flush()
    for fails_at in range(1, 4):
        calls = [0]
        work = getattr(durable, failing)

        def sometimes(*arguments: object, calls: list[int] = calls, at: int = fails_at, work: object = work) -> object:
            calls[0] += 1
            if calls[0] == at:
                raise StorageFull
            return work(*arguments)  # type: ignore[operator]

        with monkeypatch.context() as patch:
            patch.setattr(durable, failing, sometimes)
            number = 100 + fails_at
            access.record(
                replace(EVENT, time=START + fails_at, account_id=AccountId(number), address=f"192.0.2.{number}")
            )
            access.flush()
    events = list(access.read(0, START + 9))
    assert [event.address for event in events] == ["192.0.2.1", "192.0.2.101", "192.0.2.102", "192.0.2.103"]
    for number in (101, 102, 103):
        assert erase_subject(tmp_path, ACCESS, number) == 1
    assert [event.address for event in access.read(0, START + 9)] == ["192.0.2.1", *[ERASED] * 3]


def test_a_file_of_keys_that_was_torn_hides_only_what_it_lost(tmp_path: Path, access: AccessLog) -> None:
    for number in range(3):
        access.record(replace(EVENT, time=START + number, account_id=AccountId(40 + number)))
        access.flush()
    [path] = tmp_path.glob("keys/logs/access/*/*.subjects")
    os.truncate(path, path.stat().st_size - 1)
    assert [event.address for event in access.read(0, START + 9)] == ["192.0.2.1", "192.0.2.1", ERASED]


# Traces


def event(kind: TraceKind, id_: str, sender: str, recipient: str, **more: object) -> TraceEvent:
    made = TraceEvent(START, id_, kind, ACME, None, sender, recipient)
    return replace(made, **more)  # type: ignore[arg-type]


@pytest.fixture
def told(traces: TraceLog) -> TraceLog:
    for made in (
        event(TraceKind.RECEIVED, "q1", "x@far.test", "Ada@acme.test", details={"client": "198.51.100.7"}),
        event(TraceKind.DEFERRED, "q1", "x@far.test", "Ada@acme.test", details={"reply": "450 <ada@acme.test> busy"}),
        event(TraceKind.RECEIVED, "q2", "bob@acme.test", "", account_id=BOB, details={"client": "192.0.2.9"}),
        event(TraceKind.RECEIVED, "q3", "x@far.test", "", details={"to": "ada@acme.test, y@far.test"}),
        event(TraceKind.DELIVERED, "q4", "bob@acme.test", "alias@acme.test", account_id=ADA),
    ):
        traces.record(made)
    traces.flush()
    return traces


def ids(log: TraceLog, **query: str) -> list[str]:
    return [trace.id for trace in log.find(TraceQuery(**query))]  # type: ignore[arg-type]


def test_traces_are_found_by_sealed_addresses(told: TraceLog) -> None:
    assert ids(told, recipient="ADA@acme.test") == ["q1", "q3"]
    assert ids(told, recipient="@acme.test") == ["q1", "q3", "q4"]
    assert ids(told, sender="bob@acme.test") == ["q2", "q4"]
    assert ids(told, recipient="alias@acme.test") == ["q4"]
    assert ids(told, sender="x@far.test") == ["q1", "q3"]
    assert ids(told, recipient="da@acme.test") == []


def test_an_erased_recipient_is_found_no_more(tmp_path: Path, told: TraceLog) -> None:
    erase_subject(tmp_path, TRACES, ADA)
    assert ids(told, recipient="ada@acme.test") == [] and ids(told, recipient="alias@acme.test") == []
    assert ids(told, sender="bob@acme.test") == ["q2", "q4"] and ids(told, recipient="y@far.test") == ["q3"]
    events = {(made.id, made.kind): made for made in told.read()}
    assert events["q1", TraceKind.RECEIVED].recipient == ERASED
    assert events["q1", TraceKind.RECEIVED].details == {"client": "198.51.100.7"}  # the stranger's
    assert events["q1", TraceKind.DEFERRED].details["reply"] == f"450 <{ERASED}> busy"
    assert events["q3", TraceKind.RECEIVED].details["to"] == f"{ERASED}, y@far.test"
    assert events["q2", TraceKind.RECEIVED].details["client"] == "192.0.2.9"
    erase_subject(tmp_path, TRACES, BOB)
    assert ids(told, sender="bob@acme.test") == []
    assert {made.details.get("client") for made in told.read() if made.id == "q2"} == {ERASED}


def test_many_terms_that_fit_are_found_too(traces: TraceLog, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        monkeypatch.setitem(PEOPLE, f"n{number}@acme.test", 100 + number)
        traces.record(event(TraceKind.REFUSED, f"s{number:02}", "", f"n{number}@acme.test"))
        traces.flush()
    assert len(ids(traces, recipient="@acme.test")) == 50
    assert ids(traces, recipient="n7@acme.test") == ["s07"]


# Transcripts

SUBMITTED = """0.0 > 220 mx
0.1 < EHLO adas-laptop.lan
0.2 < AUTH PLAIN ...
0.3 > 235 welcome
0.4 < MAIL FROM:<ada@acme.test>
0.5 < RCPT TO:<bob@acme.test>
0.6 < RCPT TO:<x@far.test>
0.7 > 250 <bob@acme.test> taken"""
RECORD = TranscriptRecord(START, Direction.IN, "s1", "192.0.2.1", ("q1",), (7,), SUBMITTED)


def read(log: TranscriptLog, keys: LocalKeys, **query: str) -> list[TranscriptRecord]:
    return list(log.read(keys.auditor_key("a case"), 0, START + DAY, TranscriptQuery(**query)))


def test_transcripts_seal_who_is_known(tmp_path: Path, transcripts: TranscriptLog, keys: LocalKeys) -> None:
    other = replace(RECORD, id="s2", text="0.1 < EHLO mx.far.test\n0.2 < MAIL FROM:<x@far.test>", peer="198.51.100.7")
    for record in (RECORD, other):
        transcripts.record(record)
    assert read(transcripts, keys) == [RECORD, other]
    assert read(transcripts, keys, address="ada@acme.test") == [RECORD]
    assert read(transcripts, keys, address="192.0.2.1", queue_id="q1") == [RECORD]
    assert read(transcripts, keys, address="x@far.test") == [RECORD, other]
    assert erase_subject(tmp_path, TRANSCRIPTS, ADA) == 1
    found = read(transcripts, keys)
    assert [found[0].peer, found[1]] == [ERASED, other]
    text = SUBMITTED.replace("ada@acme.test", ERASED).replace("adas-laptop.lan", ERASED)
    assert found[0].text == text
    assert read(transcripts, keys, address="ada@acme.test") == []
    assert [record.id for record in read(transcripts, keys, address="bob@acme.test")] == ["s1"]


def test_a_segment_reads_what_is_written_while_it_is_read(tmp_path: Path) -> None:
    wrapping = ServiceKeys(b"k" * 32)
    writer = SegmentWriter(tmp_path, ACCESS, "one", wrapping)

    def write(number: int) -> None:
        data, personal = dump([Personal(Subject(7, number), f"text {number}")])
        writer.append([Record(START, data, personal)])

    write(1)
    reading = read_records(tmp_path, ACCESS, wrapping, 0, START + 1)
    write(2)
    assert [record.values() for record in reading] == [["text 1"], ["text 2"]]
    writer.close()
