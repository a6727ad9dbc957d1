"""Append-only records in segments: one for each process and UTC day, each encrypted under a key of its own.

    logs/<class>/<day>/<process>.log             frames: length (4), box (AES-256-GCM over zstd over records)
    keys/logs/<class>/<day>/<process>.key        the segment's key, wrapped as the class wants it (`SegmentKeys`)
    keys/logs/<class>/<day>/<process>.subjects   keys of those whose personal texts are in it (`storage.logs.subjects`)

Destroying the keys of a day destroys the day, wherever copies of its segments are. When `append` returns, the records
are on the disk; when it raises, none of them is kept. A frame that was being written at a crash is passed over. A
frame begins with the terms that its records are the first to refer to.

Raises: StorageFull, Unavailable.
"""

from __future__ import annotations

import logging
import os
import shutil
import struct
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from heapq import merge
from pathlib import Path
from typing import BinaryIO, Protocol

from storage.errors import Corrupt
from storage.files import durable
from storage.keys.sealing import new_secret, open_sealed, open_sealed_to, seal, seal_to
from storage.logs import subjects
from storage.logs.classes import CLASSES, LogClass
from storage.logs.frames import TERM, FrameReader, Record, Wanted, frames_of
from storage.logs.subjects import KeptKeys, NewKeys, Personal
from storage.register.periods import Period
from storage.register.values import FileClass

_log = logging.getLogger("cleanmail.storage")

_LENGTH = struct.Struct(">I")
_TERMS_MAX = 50_000  # that a writer remembers; what it forgot is written again when it is needed

FILES = tuple(
    FileClass(pattern.format(kind.name), kind.of, what)
    for kind in CLASSES
    for pattern, what in (
        ("logs/{}/*/*.log", "records of a process and a day, encrypted"),
        ("keys/logs/{}/*/*.key", "the key of such a segment, wrapped"),
        ("keys/logs/{}/*/*.subjects", "keys of the accounts that such a segment names, wrapped"),
    )
)


class SegmentKeys(Protocol):
    """How segments' keys are wrapped."""

    def wrap(self, secret: bytes, context: bytes) -> bytes: ...

    def unwrap(self, box: bytes, context: bytes) -> bytes:
        """Raises Corrupt."""
        ...


@dataclass(frozen=True, slots=True)
class ServiceKeys:
    """Under a service key: whoever writes can read."""

    key: bytes

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        return seal(self.key, secret, context)

    def unwrap(self, box: bytes, context: bytes) -> bytes:
        return open_sealed(self.key, box, context)


@dataclass(frozen=True, slots=True)
class WritersKeys:
    """To a public key: who writes cannot read, not even what it wrote itself and closed."""

    public: bytes

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        return seal_to(self.public, secret, context)

    def unwrap(self, box: bytes, context: bytes) -> bytes:
        raise Corrupt(detail="log segment: its key opens with the private key only")


@dataclass(frozen=True, slots=True)
class ReadersKeys:
    """With the private key that belongs to `WritersKeys`."""

    private: bytes

    def wrap(self, secret: bytes, context: bytes) -> bytes:
        raise Corrupt(detail="log segment: whoever reads does not write")

    def unwrap(self, box: bytes, context: bytes) -> bytes:
        return open_sealed_to(self.private, box, context)


class SegmentWriter:
    """One process's segments of one class; used by one thread at a time."""

    def __init__(self, data: Path, kind: LogClass, process: str, keys: SegmentKeys) -> None:
        self._data = data
        self._kind = kind
        self._process = process
        self._keys = keys
        self._segments: dict[str, _Segment] = {}

    def append(self, records: Sequence[Record]) -> None:
        """Write the records to the segments of their days, durably."""
        by_day: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_day[_day(record.time)].append(record)
        begun: list[tuple[_Segment, int]] = []
        try:
            for day in sorted(by_day):
                segment = self._segment(day)
                begun.append((segment, segment.size))
                for frame in frames_of(segment.with_terms(by_day[day])):
                    segment.append(frame)
                segment.sync()
        except BaseException as error:
            for segment, size in begun:
                segment.cut(size)
            if isinstance(error, OSError):
                raise durable.translated(error) from None
            raise

    def close(self) -> None:
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()

    def _segment(self, day: str) -> _Segment:
        if day not in self._segments:
            for earlier in sorted(self._segments)[:-1]:  # the day before may still get late records
                self._segments.pop(earlier).close()
            self._segments[day] = _Segment(self._data, self._kind, day, self._process, self._keys)
        return self._segments[day]


class _Segment:
    """One file that this process appends to; begun when it is made, never continued by another process."""

    def __init__(self, data: Path, kind: LogClass, day: str, process: str, wrapping: SegmentKeys) -> None:
        folder = _log_root(data, kind) / day
        keys = _key_root(data, kind) / day
        durable.make_directory(folder)
        durable.make_directory(keys)
        name = _free_name(keys, process)
        self._secret = new_secret()
        self._context = _context(kind, day, name)
        durable.write_file(keys / f"{name}.key", wrapping.wrap(self._secret, self._context))
        try:
            self._descriptor = os.open(
                folder / f"{name}.log", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600
            )
        except OSError as error:
            raise durable.translated(error) from None
        durable.fsync_directory(folder)
        self.size = 0
        self._subjects = NewKeys(keys / f"{name}.subjects", self._secret, self._context)
        self._terms: dict[Personal, int] = {}
        self._next_term = 0

    def with_terms(self, records: Sequence[Record]) -> Sequence[Record]:
        """The records as they are written, after the terms that are new in them. Their keys are durable.

        Raises OSError.
        """
        if self._subjects.was_erased() or len(self._terms) > _TERMS_MAX:
            self._terms.clear()
        made: list[Record] = []
        referring = []
        for record in records:
            if not record.personal:
                referring.append(record)
                continue
            numbers = []
            for personal in record.personal:
                number = self._terms.get(personal)
                if number is None:
                    number = self._terms[personal] = self._next_term
                    self._next_term += 1
                    made.append(Record(TERM, self._subjects.seal(number, personal)))
                numbers.append(number)
            referring.append(Record(record.time, subjects.renumbered(record.data, numbers)))
        self._subjects.settle()
        return [*made, *referring] if made else referring

    def append(self, frame: bytes) -> None:
        """Not yet durable. Raises OSError, and then something may be there that has to be cut off."""
        box = seal(self._secret, frame, self._context + self.size.to_bytes(8, "big"))
        durable.write_all(self._descriptor, _LENGTH.pack(len(box)) + box)
        self.size += _LENGTH.size + len(box)

    def sync(self) -> None:
        durable.fsync_file(self._descriptor)

    def cut(self, size: int) -> None:
        self._terms.clear()  # some of them are not there
        os.ftruncate(self._descriptor, size)
        self.size = size

    def close(self) -> None:
        self._subjects.close()
        os.close(self._descriptor)


def read_records(
    data: Path, kind: LogClass, keys: SegmentKeys, since: int, until: int, wanted: Wanted | None = None
) -> Iterator[Record]:
    """Every record with since <= time < until, of all processes, in the order of time as each process wrote them.

    With `wanted`, records of which it is false are passed over, whole frames at a time.
    """
    root = _log_root(data, kind)
    days = sorted(entry.name for entry in root.iterdir() if entry.is_dir()) if root.is_dir() else []
    for day in days:
        if _day(since) <= day <= _day(max(since, until - 1)):
            names = sorted(file.stem for file in (root / day).glob("*.log"))
            segments = [_read_segment(data, kind, day, name, keys, wanted) for name in names]
            for record in merge(*segments, key=lambda record: record.time):
                if since <= record.time < until:
                    yield record


def remove_expired(data: Path, kind: LogClass, now: int, period: Period) -> list[str]:
    """Destroy the days whose first record has reached the ceiling, their keys first; says which.

    A record of midnight is as old as its day, so the day goes when its midnight has.
    """
    newest = (
        datetime.fromtimestamp(now, UTC).date() - timedelta(days=period.ceiling_days or kind.ceiling_days)
    ).isoformat()
    removed = set()
    for root in (_key_root(data, kind), _log_root(data, kind)):
        if not root.is_dir():
            continue
        for folder in sorted(root.iterdir()):
            if _is_day(folder.name) and folder.name <= newest:
                try:
                    shutil.rmtree(folder)
                except FileNotFoundError:  # another process does the same
                    shutil.rmtree(folder, ignore_errors=True)
                except OSError as error:
                    raise durable.translated(error) from None
                removed.add(folder.name)
        durable.fsync_directory(root)
    return sorted(removed)


def _read_segment(
    data: Path, kind: LogClass, day: str, name: str, keys: SegmentKeys, wanted: Wanted | None
) -> Iterator[Record]:
    """The records of one segment, as far as they verify; a segment without its key is empty."""
    context = _context(kind, day, name)
    try:
        wrapped = (_key_root(data, kind) / day / f"{name}.key").read_bytes()
        file = (_log_root(data, kind) / day / f"{name}.log").open("rb")
    except FileNotFoundError:  # removed meanwhile
        return
    with file:
        try:
            secret = keys.unwrap(wrapped, context)
        except Corrupt:
            _log.error("log segment %s/%s/%s: its key does not open", kind.name, day, name)
            return
        frames = FrameReader(KeptKeys(_key_root(data, kind) / day / f"{name}.subjects", secret, context), wanted)
        for begin, box, is_last in _boxes(file):
            try:
                # A frame is bound to its place in the file.
                yield from frames.records(open_sealed(secret, box, context + begin.to_bytes(8, "big")))
            except Corrupt:
                if not is_last:  # else it is being written, or a crash tore it
                    _log.error("log segment %s/%s/%s: octets from %d do not verify", kind.name, day, name, begin)


def _boxes(file: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Where each whole frame begins, its box, and whether it ends the file."""
    size = os.fstat(file.fileno()).st_size
    begin = 0
    while begin + _LENGTH.size <= size:
        length = _LENGTH.unpack(file.read(_LENGTH.size))[0]
        end = begin + _LENGTH.size + length
        if end > size:
            return  # torn by a crash
        yield begin, file.read(length), end == size
        begin = end


def erase_subject(data: Path, kind: LogClass, account_id: int) -> int:
    """Destroys the account's keys in all segments of a class; of how many. May be repeated, needs no key."""
    return subjects.erase(_key_root(data, kind), account_id)


def subject_segments(data: Path, kind: LogClass, account_id: int) -> int:
    """In how many segments of a class something is sealed under a key of the account."""
    return subjects.count(_key_root(data, kind), account_id)


def _free_name(keys: Path, process: str) -> str:
    """A process that closed its log and opened it anew begins another segment."""
    number = 0
    while (keys / f"{process}-{number}.key").exists():
        number += 1
    return f"{process}-{number}"


def _log_root(data: Path, kind: LogClass) -> Path:
    return data / "logs" / kind.name


def _key_root(data: Path, kind: LogClass) -> Path:
    return data / "keys" / "logs" / kind.name


def _context(kind: LogClass, day: str, name: str) -> bytes:
    return f"cleanmail log {kind.name} {day} {name} ".encode()


def _day(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).date().isoformat()


def _is_day(name: str) -> bool:
    try:
        date.fromisoformat(name)
    except ValueError:
        return False
    return True
