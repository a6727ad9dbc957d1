"""The log of SMTP transcripts: what the gateway's processes write, and only log auditors read.

Segments' keys are sealed to a public key, so a process that writes can read nothing but the segment that it has open,
and support or an administrator nothing at all. Reading takes the private key, which the auth role gives to log auditors
for a purpose that it logs; who reads writes an audit record first (`hosting.cli.transcripts`). `record` keeps a
transcript in memory; it is on the disk after the next `flush`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.clock import Clock
from storage.keys.source import KeySource
from storage.logs.buffered import BufferedLog
from storage.logs.classes import TRANSCRIPTS
from storage.logs.frames import Needles, Record, Wanted, record_of
from storage.logs.segments import ReadersKeys, WritersKeys
from storage.logs.subjects import Personal, Subject, Whose, mixed, nobody, owned, packed_text, whole
from storage.logs.transcripts import Direction, TranscriptRecord

_HELLO = re.compile(r"(?<= < EHLO | < HELO )([^\n]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TranscriptQuery:
    """What is sought; everything that is given must fit.

    `address` is an e-mail address or @domain as the dialogue has it in angle brackets, or the peer's address or name.
    """

    queue_id: str = ""
    address: str = ""

    def fits(self, record: TranscriptRecord) -> bool:
        return (not self.queue_id or self.queue_id in record.queue_ids) and (
            not self.address or _names(record, self.address.casefold())
        )

    @property
    def wanted(self) -> Wanted | None:
        """Of packed transcripts, before they are read."""
        needles = [
            packed_text(text)
            for text in (self.queue_id, self.address)
            if text and text.isascii()  # what is not ASCII has upper case that bytes.lower does not know
        ]
        return Needles(tuple(needles), every=True) if needles else None


class TranscriptLog(BufferedLog[TranscriptRecord]):
    """One for each process; any thread may use it. A `TranscriptSink`."""

    def __init__(self, data: Path, keys: KeySource, process: str, clock: Clock, whose: Whose = nobody) -> None:
        """`whose` tells which account an address belongs to; it is asked where records are written, and may block."""

        def wrapping() -> WritersKeys:
            return WritersKeys(keys.service_key("transcripts"))

        super().__init__(data, TRANSCRIPTS, lambda record: pack(record, whose), wrapping, process, clock)

    def read(
        self, private_key: bytes, since: int, until: int, query: TranscriptQuery | None = None
    ) -> Iterator[TranscriptRecord]:
        """Connections of all processes that began at since <= time < until, roughly in the order in which they ended.

        `private_key` is what `KeySource.auditor_key` gives. What is opened by another key is passed over, and said in
        the operational log.
        """
        query = query or TranscriptQuery()
        for packed in self.records(ReadersKeys(private_key), since, until, query.wanted):
            record = unpack(packed)
            if query.fits(record):
                yield record


def pack(record: TranscriptRecord, whose: Whose = nobody) -> Record:
    """Addresses of accounts belong to them; of who signed in also from where he came."""
    text = mixed(record.text, whose)
    client = _signed_in(record, text)
    if client is not None:
        parts = text if isinstance(text, list) else [text]
        text = [piece for part in parts for piece in _without_name(part, client)]
    values = [record.direction.value, record.id, owned(record.peer, client), record.queue_ids, record.tenants, text]
    return record_of(record.time, values)


def unpack(record: Record) -> TranscriptRecord:
    direction, id_, peer, queue_ids, tenants, text = record.values()
    return TranscriptRecord(record.time, Direction(direction), id_, peer, tuple(queue_ids), tuple(tenants), whole(text))


def _signed_in(record: TranscriptRecord, text: str | Personal | list[str | Personal]) -> Subject | None:
    """Who sent from here: the account of the first address of the dialogue, if the client signed in."""
    if record.direction is not Direction.IN or " < AUTH " not in record.text or not isinstance(text, list):
        return None
    before = ""
    for part in text:
        if isinstance(part, Personal):
            return part.subject if before.rstrip("<").upper().endswith("MAIL FROM:") else None
        before = part
    return None


def _without_name(part: str | Personal, client: Subject) -> list[str | Personal]:
    """What the client called itself is about it too."""
    if isinstance(part, Personal):
        return [part]
    pieces: list[str | Personal] = []
    for index, piece in enumerate(_HELLO.split(part)):
        pieces.append(owned(piece, client) if index % 2 else piece)
    return [piece for piece in pieces if piece != ""]


def _names(record: TranscriptRecord, address: str) -> bool:
    text = record.text.casefold()
    if f"{address}>" in text if address.startswith("@") else f"<{address}>" in text:
        return True
    return address in record.peer.casefold().replace("[", " ").replace("]", " ").split()
