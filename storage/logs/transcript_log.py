"""The log of SMTP transcripts: what the gateway's processes write, and only log auditors read.

Segments' keys are sealed to a public key, so a process that writes can read nothing but the segment that it has open,
and support or an administrator nothing at all. Reading takes the private key, which the auth role gives to log auditors
for a purpose that it logs; who reads writes an audit record first (`hosting.cli.transcripts`). `record` keeps a
transcript in memory; it is on the disk after the next `flush`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage.clock import Clock
from storage.keys.source import KeySource
from storage.logs.buffered import BufferedLog
from storage.logs.classes import TRANSCRIPTS
from storage.logs.segments import ReadersKeys, Record, Wanted, WritersKeys
from storage.logs.transcripts import Direction, TranscriptRecord


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
            json.dumps(text, ensure_ascii=False)[1:-1].lower().encode("utf-8", "replace")
            for text in (self.queue_id, self.address)
            if text and text.isascii()  # what is not ASCII has upper case that bytes.lower does not know
        ]
        if not needles:
            return None
        return lambda octets: _has_all(octets.lower(), needles)


class TranscriptLog(BufferedLog[TranscriptRecord]):
    """One for each process; any thread may use it. A `TranscriptSink`."""

    def __init__(self, data: Path, keys: KeySource, process: str, clock: Clock) -> None:
        super().__init__(data, TRANSCRIPTS, pack, lambda: WritersKeys(keys.service_key("transcripts")), process, clock)

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


def pack(record: TranscriptRecord) -> Record:
    values = [record.direction.value, record.id, record.peer, record.queue_ids, record.tenants, record.text]
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    return Record(record.time, text.encode("utf-8", "replace"))


def unpack(record: Record) -> TranscriptRecord:
    direction, id_, peer, queue_ids, tenants, text = json.loads(record.data)
    return TranscriptRecord(record.time, Direction(direction), id_, peer, tuple(queue_ids), tuple(tenants), text)


def _names(record: TranscriptRecord, address: str) -> bool:
    text = record.text.casefold()
    if f"{address}>" in text if address.startswith("@") else f"<{address}>" in text:
        return True
    return address in record.peer.casefold().replace("[", " ").replace("]", " ").split()


def _has_all(lower: bytes, needles: list[bytes]) -> bool:
    return all(needle in lower for needle in needles)
