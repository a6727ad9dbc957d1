"""How each item of FETCH is written: a piece of the response's template and the columns that fill it.

A FETCH is compiled once per command. For each slice of messages every item gives columns (lists in message order), and
the responses are `template % row` over the columns side by side: the work per message is one formatting call.

Standards: RFC 9051 §7.5.2, RFC 7162 §3.1.4.2 (MODSEQ), RFC 8474 §5.3 (EMAILID, THREADID),
RFC 8514 (SAVEDATE), RFC 8970 (PREVIEW).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from hosting.imap import encode
from hosting.imap.selected import Selected
from storage.errors import Gone
from storage.mail.messages import Messages
from storage.mail.reading import is_read_out
from storage.mime.render import body_of

Column = Sequence[Any]
Row = tuple[Any, ...]


@dataclass(slots=True)
class Slice:
    """Some messages of the selected mailbox, in order, and what was read of them."""

    selected: Selected
    positions: Sequence[int]  # in what the session was told
    current: Sequence[int]  # the same messages in the view's arrays
    rev2: bool
    messages: Messages
    columns: Mapping[str, int] = field(default_factory=dict)  # where each column stands in a row
    rows: Sequence[Row] = ()
    gone: set[int] = field(default_factory=set)  # places in this slice whose file went while it was written
    _octets: dict[int, bytes] = field(default_factory=dict)

    def column(self, name: str) -> list[Any]:
        at = self.columns[name]
        return [row[at] for row in self.rows]

    def message(self, place: int) -> bytes:
        """The whole octets of the message at `place`; empty if it was expunged meanwhile, which is noted."""
        octets = self._octets.get(place)
        if octets is None:
            row = self.rows[place]
            try:
                octets = self.messages.read(row[self.columns["message_id"]], row[self.columns["file"]])
            except Gone:
                self.gone.add(place)
                octets = b""
            self._octets[place] = octets
        return octets

    def of_view(self, values: Sequence[int]) -> Sequence[int]:
        """The messages' values of an array that is aligned with the view."""
        current = self.current
        if isinstance(current, range):
            return values[current.start : current.stop]
        return [values[at] for at in current]


@dataclass(frozen=True, slots=True)
class Writer:
    """One item: its template, the database columns it needs, and what fills the template."""

    template: bytes
    fill: Callable[[Slice], tuple[Column, ...]]
    needs: tuple[str, ...] = ()
    reads_message: bool = False
    reads_columns: bool = False  # sizes or dates, which a view reads when they are asked for
    stream: Callable[[Slice], Iterator[bytes]] | None = None  # for one large message: the item in pieces


def _uids(part: Slice) -> Column:
    uids, positions = part.selected.uids, part.positions
    if isinstance(positions, range):
        return uids[positions.start : positions.stop]
    return [uids[position] for position in positions]


def _flags(part: Slice) -> tuple[Column]:
    selected = part.selected
    bits = part.of_view(selected.view.flags)
    texts, uids, first = selected.flag_texts, _uids(part), selected.recent_from
    if part.rev2 or not uids or uids[-1] < first:
        return ([texts[value] for value in bits],)
    recent_texts, taken = selected.recent_texts, selected.taken.ranges
    if len(taken) > len(uids):
        is_recent = selected.is_recent
        return ([(recent_texts if is_recent(uid) else texts)[value] for uid, value in zip(uids, bits, strict=True)],)
    old = bisect_left(uids, first)
    told = [texts[value] for value in bits[:old]] + [recent_texts[value] for value in bits[old:]]
    for low, high in taken:  # spans, since asking for each message takes longer than all the rest of a FETCH of flags
        start, end = bisect_left(uids, low), bisect_right(uids, high)
        told[start:end] = [texts[value] for value in bits[start:end]]
    return (told,)


def _sizes(part: Slice) -> tuple[Column]:
    if "size" in part.columns:  # their rows are read anyway, for their files
        return (part.column("size"),)
    return (part.of_view(part.selected.view.columns().sizes),)


def _dates(part: Slice) -> tuple[Column]:
    write, columns = encode.internal_date, part.selected.view.columns()
    return (list(map(write, part.of_view(columns.internal_dates), part.of_view(columns.internal_zones))),)


def _save_dates(part: Slice) -> tuple[Column]:
    return ([encode.internal_date(seconds) for seconds in part.column("saved")],)


def _previews(part: Slice) -> tuple[Column]:
    """As a literal where a quoted string of this client could not hold it (RFC 8970 §3.3: UTF-8)."""
    texts = [text.encode("utf-8", "replace") for text in part.column("preview")]
    if part.rev2:
        return ([encode.quoted(text) for text in texts],)
    return ([encode.quoted(text) if text.isascii() else b"{%d}\r\n%b" % (len(text), text) for text in texts],)


def _ascii(name: str) -> Callable[[Slice], tuple[Column]]:
    return lambda part: ([text.encode("ascii") for text in part.column(name)],)


_UID: Final = Writer(b"UID %d", lambda part: (_uids(part),))

SIMPLE: Final[dict[str, Writer]] = {
    "UID": _UID,
    "FLAGS": Writer(b"FLAGS (%b)", _flags),
    "INTERNALDATE": Writer(b"INTERNALDATE %b", _dates, reads_columns=True),
    "RFC822.SIZE": Writer(b"RFC822.SIZE %d", _sizes, reads_columns=True),
    "MODSEQ": Writer(b"MODSEQ (%d)", lambda part: (part.of_view(part.selected.view.modseqs),)),
    "ENVELOPE": Writer(b"ENVELOPE %b", lambda part: (part.column("envelope"),), needs=("envelope",)),
    "BODYSTRUCTURE": Writer(
        b"BODYSTRUCTURE %b", lambda part: (part.column("body_structure"),), needs=("body_structure",)
    ),
    "BODY": Writer(
        b"BODY %b",
        lambda part: ([body_of(structure) for structure in part.column("body_structure")],),
        needs=("body_structure",),
    ),
    "EMAILID": Writer(b"EMAILID (%b)", _ascii("email_id"), needs=("email_id",)),
    "THREADID": Writer(b"THREADID (%b)", _ascii("thread_id"), needs=("thread_id",)),
    "SAVEDATE": Writer(b"SAVEDATE %b", _save_dates, needs=("saved",)),
    "PREVIEW": Writer(b"PREVIEW %b", _previews, needs=("preview",)),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A FETCH, compiled: what to read for each slice, and how to write it."""

    writers: tuple[Writer, ...]
    template: bytes
    needs: tuple[str, ...]  # database columns
    read: tuple[str, ...]  # the same behind the UID
    columns: Mapping[str, int]  # where each of those stands in a row
    reads_message: bool
    reads_columns: bool
    streams: bool  # whether a large message need not be read whole
    head: bytes  # with the number, or the UID, to be filled in
    uid_only: bool
    names: frozenset[str] = frozenset()  # of the items
    peeks: bool = True  # none of them sets \Seen
    is_read_out: bool = False  # whether a column is what reading a message gives

    @classmethod
    def of(
        cls,
        writers: tuple[Writer, ...],
        *,
        uid_only: bool = False,
        names: frozenset[str] = frozenset(),
        peeks: bool = True,
    ) -> Plan:
        reads = [writer for writer in writers if writer.reads_message]
        head = b"* %d UIDFETCH (" if uid_only else b"* %d FETCH ("  # RFC 9586 §3.3
        needs = tuple(dict.fromkeys(name for writer in writers for name in writer.needs))
        read = ("uid", *needs)
        return cls(
            writers,
            head + b" ".join([writer.template for writer in writers]) + b")\r\n",
            needs,
            read,
            {name: place for place, name in enumerate(read)},
            bool(reads),
            any(writer.reads_columns and not (writer.fill is _sizes and "size" in needs) for writer in writers),
            all(writer.stream is not None for writer in reads),
            head,
            uid_only,
            names,
            peeks,
            is_read_out(needs),
        )


def _numbers(part: Slice) -> Column:
    at = part.positions
    return range(at.start + 1, at.stop + 1) if isinstance(at, range) else [position + 1 for position in at]


def responses(plan: Plan, part: Slice) -> bytes:
    """The responses for one slice, as one piece of octets."""
    columns: list[Column] = [_uids(part) if plan.uid_only else _numbers(part)]
    for writer in plan.writers:
        columns += writer.fill(part)
    rows = zip(*columns, strict=True)
    if part.gone:
        rows = (row for place, row in enumerate(rows) if place not in part.gone)  # type: ignore[assignment]
    return b"".join([plan.template % row for row in rows])


def streamed(plan: Plan, part: Slice) -> Iterator[bytes]:
    """The response for one large message, in pieces of bounded size."""
    yield plan.head % (_uids(part) if plan.uid_only else _numbers(part))[0]
    for place, writer in enumerate(plan.writers):
        if place:
            yield b" "
        if writer.stream is not None:
            yield from writer.stream(part)
        else:
            yield writer.template % tuple(column[0] for column in writer.fill(part))
    yield b")\r\n"
