"""The raw transcript of one SMTP connection, in either direction: commands, replies and times; no content, no secrets.

Whoever speaks tells it what went over the wire, command lines and replies only; what is between DATA and the end of the
message is noted by its size. An AUTH exchange is noted by its mechanism and its result. Lines are cut, and a
connection that says endlessly much is cut too, so that a stranger cannot fill the log.
"""

from __future__ import annotations

import re
from typing import Protocol

from storage.clock import Clock
from storage.logs.transcripts import Direction, TranscriptRecord

_LINE_MAX = 1024  # octets of a line that are kept
_OCTETS_MAX = 256 * 1024  # of a connection; then only what ends it is noted

# Nothing that follows AUTH's mechanism may be kept; what the peer sends as an AUTH answer is never given to us at all.
_AUTH = re.compile(rb"(AUTH\s+\S+)\s.*\Z", re.IGNORECASE | re.DOTALL)


class TranscriptSink(Protocol):
    def record(self, record: TranscriptRecord) -> None:
        """Never waits and never fails."""
        ...


class Transcript:
    """`id` is the session's, as log lines and Received fields name it."""

    __slots__ = (
        "_clock",
        "_direction",
        "_id",
        "_kept",
        "_lines",
        "_peer",
        "_queue_ids",
        "_sink",
        "_started",
        "_tenants",
    )

    def __init__(self, sink: TranscriptSink, clock: Clock, direction: Direction, id_: str, peer: str) -> None:
        self._sink = sink
        self._clock = clock
        self._direction = direction
        self._id = id_
        self._peer = peer
        self._started = clock.precise()
        self._lines: list[str] = []
        self._kept = 0
        self._queue_ids: list[str] = []
        self._tenants: set[int] = set()

    def theirs(self, line: bytes) -> None:
        """A line that the peer said, with or without its line end."""
        self._add("<", line)

    def ours(self, line: bytes) -> None:
        """A line, or several, that we said."""
        for each in line.rstrip(b"\r\n").split(b"\r\n"):
            self._add(">", each)

    def note(self, text: str) -> None:
        """What is no line: a handshake, the size of a message, how the connection ended."""
        self._add("*", text.encode())

    def message(self, queue_id: str, *tenants: int) -> None:
        """The connection carried this message, of these tenants."""
        self._queue_ids.append(queue_id)
        self._tenants.update(tenants)

    def close(self) -> None:
        """The connection is over; the record goes to the log."""
        self._sink.record(
            TranscriptRecord(
                int(self._started),
                self._direction,
                self._id,
                self._peer,
                tuple(self._queue_ids),
                tuple(sorted(self._tenants)),
                "\n".join(self._lines),
            )
        )

    def _add(self, mark: str, line: bytes) -> None:
        if self._kept > _OCTETS_MAX:
            return
        line = line.rstrip(b"\r\n")
        if line[:4].upper() == b"AUTH":
            line = _AUTH.sub(rb"\1 ...", line)
        if len(line) > _LINE_MAX:
            line = line[:_LINE_MAX] + b" [cut]"
        self._kept += len(line) + 16
        # Nobody can make a line of ours by what he puts into one of his.
        text = line.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")
        if self._kept > _OCTETS_MAX:
            text = "[the rest of this connection is not kept]"
            mark = "*"
        self._lines.append(f"{self._clock.precise() - self._started:.3f} {mark} {text}")
