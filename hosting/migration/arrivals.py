"""New messages of one folder come here, over one connection: each once, in batches, in their order there.

Each batch is durable before the next one, so that a run may break off anywhere. Bodies are asked for one batch ahead of
what is being stored. A message that cannot be had is tried alone, in pieces, and skipped in the end, with a reason;
everything else comes.

Memory: two batches of 4 MB, or the one message at hand, and the attributes of a thousand messages.
Raises: ServerLost (connect again and go on), Stopped (nothing more can be stored), Unavailable, NotFound, Gone.
Standards: RFC 9051 §2.3.1.1.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from hosting.migration.answers import Attributes, Refused
from hosting.migration.client import CHUNK, Server
from hosting.migration.folders import Planned
from hosting.migration.report import FolderReport
from hosting.migration.run import Attempts, Destination, Stopped
from hosting.migration.wire import ServerLost
from storage.errors import AlreadyExists, CleanmailError, Gone, LimitReached, NotFound, OverQuota, Unavailable
from storage.mail.messages import NewMessage
from storage.mail.moving import Present
from storage.mail.moving_values import Arrived, MovingFolder, digest
from storage.mime.dates import parse_date
from storage.mime.fields import read_header
from storage.mime.normalise import to_crlf
from storage.values import MessageId

_SLICE = 1000  # UIDs that are looked at together
_BATCH_MESSAGES = 200
_BATCH_OCTETS = CHUNK
_AHEAD = 2  # batches that are asked for and not stored
_DOUBTS = 3  # after so many broken connections a message is skipped
_NOBODY = MessageId(0)  # until it is stored
_NOT_GIVEN = "the server did not give it"
_NIL = "the server says that it has no content"
_BREAKS = "the connection broke whenever it was asked for"


@dataclass(frozen=True, slots=True)
class _Batch:
    uids: list[int]
    octets: int
    is_single: bool = False  # a message that is had in pieces


class Arrivals:
    """New messages of one folder, over one connection."""

    def __init__(
        self,
        destination: Destination,
        server: Server,
        folder: MovingFolder,
        planned: Planned,
        attempts: Attempts,
        report: FolderReport,
    ) -> None:
        self._destination = destination
        self._account = destination.account
        self._moving = destination.moving
        self._server = server
        self._folder = folder
        self._planned = planned
        self._attempts = attempts
        self._report = report
        self._present: Present | None = None
        self._attributes: dict[int, Attributes] = {}
        self._done = 0
        self._total = 0

    def all(self, wanted: array[int], before: array[int]) -> None:
        moved = set(before)
        new = [uid for uid in wanted if uid not in moved and uid not in self._attempts.skipped]
        self._done, self._total = len(wanted) - len(new), len(wanted)
        self._tell(0)
        for part in parts(new):
            again = self._slice(part)
            again = self._slice(again) if again else []
            for uid in again:
                self._attempts.skipped[uid] = _NOT_GIVEN
            self._tell(len(again))

    def _slice(self, uids: Sequence[int]) -> list[int]:
        """Those that the server did not give."""
        rest = self._left(uids)
        self._attributes = self._server.attributes(rest)
        missing = [uid for uid in rest if uid not in self._attributes]
        known = [uid for uid in rest if uid in self._attributes]
        return missing + self._get(known)

    def _left(self, uids: Sequence[int]) -> list[int]:
        """Without those that a crash kept from being recorded."""
        stored = self._moving.delivered(self._folder, uids)
        if stored:
            messages = self._account.messages
            found = []
            for uid, message_id in stored.items():
                try:
                    hashed = digest(messages.read_message(message_id))
                except Gone:
                    hashed = b""
                found.append(Arrived(uid, message_id, hashed, self._moving.tags_here(message_id)))
            self._record(found)
        return [uid for uid in uids if uid not in stored]

    # Getting them

    def _get(self, uids: Sequence[int]) -> list[int]:
        """In their order, so that they stand here as they do there. Those that the server did not give."""
        missing: list[int] = []
        asked: deque[tuple[_Batch, bytes]] = deque()
        for batch in self._cut(uids):
            while asked and (batch.is_single or len(asked) >= _AHEAD):
                missing += self._take(*asked.popleft())
            if batch.is_single:
                self._single(batch.uids[0], missing)
                continue
            allowed = sum(2 * each.octets for each, _ in asked) + 2 * batch.octets
            asked.append((batch, self._server.ask_bodies(batch.uids, allowed)))
        while asked:
            missing += self._take(*asked.popleft())
        return missing

    def _cut(self, uids: Sequence[int]) -> Iterator[_Batch]:
        part: list[int] = []
        octets = 0
        for uid in uids:
            size = max(0, self._attributes[uid].size)
            is_single = bool(self._attempts.doubts[uid]) or size > CHUNK
            if part and (is_single or len(part) >= _BATCH_MESSAGES or octets + size > _BATCH_OCTETS):
                yield _Batch(part, octets)
                part, octets = [], 0
            if is_single:
                yield _Batch([uid], size, is_single=True)
                continue
            part.append(uid)
            octets += size
        if part:
            yield _Batch(part, octets)

    def _take(self, batch: _Batch, tag: bytes) -> list[int]:
        bodies = self._server.receive(tag)
        self._store([(uid, bodies.octets[uid]) for uid in batch.uids if uid in bodies.octets])
        for uid in bodies.empty:
            self._skip(uid, _NIL)
        missing = [uid for uid in batch.uids if uid not in bodies.octets and uid not in bodies.empty]
        if bodies.lost is not None:
            if missing:
                self._doubt(missing[0])
            raise bodies.lost
        return missing

    def _single(self, uid: int, missing: list[int]) -> None:
        """In pieces: the message may be large, or other than the server says."""
        try:
            octets = self._server.large_body(uid)
        except ServerLost:
            self._doubt(uid)
            raise
        except Refused as refused:
            self._skip(uid, refused.said)
            return
        if octets is None:
            missing.append(uid)
        else:
            self._store([(uid, octets)])

    def _doubt(self, uid: int) -> None:
        self._attempts.doubts[uid] += 1
        if self._attempts.doubts[uid] >= _DOUBTS:
            self._skip(uid, _BREAKS)

    def _skip(self, uid: int, reason: str) -> None:
        self._attempts.skipped[uid] = reason
        self._tell(1)

    # Storing them

    def _store(self, bodies: Iterable[tuple[int, bytes]]) -> None:
        new: list[tuple[Arrived, NewMessage]] = []
        present: list[Arrived] = []
        for uid, octets in bodies:
            data = to_crlf(octets)
            attributes = self._attributes[uid]
            arrived = Arrived(uid, _NOBODY, digest(data), attributes.tags)
            found = self._find(data, arrived)
            if found is not None:
                present.append(found)
                continue
            message = NewMessage(
                data,
                flags=attributes.tags.flags,
                keywords=sorted(attributes.tags.keywords),
                internal_date=attributes.internal_date if attributes.internal_date is not None else _sent(data),
                delivery_id=self._folder.delivery_id(uid),
                internal_zone=attributes.internal_zone if attributes.internal_date is not None else 0,
            )
            new.append((arrived, message))
        if present:
            self._record(present)
            self._report.present += len(present)
        if new:
            self._destination.check()
            self._append(new)
        self._attempts.stored += len(present) + len(new)
        self._tell(len(present) + len(new))

    def _find(self, data: bytes, arrived: Arrived) -> Arrived | None:
        if self._present is None:
            self._present = self._moving.present(self._folder)
        found = self._present.find(data, arrived.digest)
        if found is not None:
            return arrived._replace(message_id=found[0], tags=found[1] or arrived.tags)
        if self._planned.is_virtual:
            message_id = self._moving.is_anywhere(arrived.digest)
            if message_id is not None:
                return arrived._replace(message_id=message_id)
        return None

    def _append(self, new: list[tuple[Arrived, NewMessage]]) -> None:
        try:
            appended = self._account.messages.append_many(
                self._folder.mailbox_id, [message for _, message in new], many=True
            )
        except (Unavailable, NotFound, Gone):
            raise
        except CleanmailError as error:
            if len(new) > 1:
                for each in new:
                    self._append([each])
                return
            self._refused(error, *new[0])
            return
        self._report.pulled += len(new)
        self._report.octets += sum(len(message.data) for _, message in new)
        self._record(
            arrived._replace(message_id=each.message_id) for (arrived, _), each in zip(new, appended, strict=True)
        )

    def _refused(self, error: CleanmailError, arrived: Arrived, message: NewMessage) -> None:
        if isinstance(error, OverQuota):
            raise Stopped(f"{error.public} Raise the quota, or make room, and run it again to go on.") from None
        if isinstance(error, AlreadyExists):  # it was stored since
            self._left([arrived.uid])
        elif isinstance(error, LimitReached) and message.keywords:
            self._destination.report.note("Keywords were left out: a mailbox has no room for more of them.")
            self._append([(arrived, replace(message, keywords=()))])
        else:
            self._skip(arrived.uid, error.public)

    def _record(self, arrived: Iterable[Arrived]) -> None:
        rows = list(arrived)
        self._moving.record(self._folder, rows)
        if self._present is not None:
            self._present.took(each.message_id for each in rows)

    def _tell(self, count: int) -> None:
        self._done += count
        self._destination.say(self._planned, self._done, self._total)


def parts(uids: Sequence[int]) -> Iterator[Sequence[int]]:
    """Of those that are looked at together."""
    for start in range(0, len(uids), _SLICE):
        yield uids[start : start + _SLICE]


def _sent(data: bytes) -> int | None:
    """The time in the Date field."""
    value = read_header(data).value(b"date")
    sent = parse_date(value) if value else None
    return sent.seconds if sent and sent.seconds >= 0 else None
