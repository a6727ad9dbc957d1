"""SINCE, BEFORE, ON and their SENT forms: messages by days.

Both go by the date as it was written, in its own zone (RFC 9051 §6.4.4): the internal date has its zone in a column of
the view; of the Date field only the moment is there, and near midnight the envelope is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from math import inf

from hosting.imap.effects import Flow, blocking
from hosting.imap.searching.by_position import marked, values_of
from hosting.imap.searching.search_commands import DateKey
from hosting.imap.selected import Selected
from storage.errors import Busy
from storage.mime.dates import parse_date

_DAY = 86400
_ZONES = 15 * 3600  # no zone is further from UTC
_ENVELOPE_DATE = re.compile(rb'\("((?:[^"\\]|\\.)*)"')
_ROWS = 250
_SLICE = 4000  # positions that are looked at before others are served


def arrived(selected: Selected, key: DateKey, among: Sequence[int]) -> Sequence[int]:
    """Those of `among` whose internal date fits."""
    columns, first = selected.view.columns(), key.day * _DAY
    if isinstance(among, range) and not selected.stale:
        part = slice(among.start, among.stop)
        moments, zones = columns.internal_dates[part], columns.internal_zones[part]
        local: Iterable[int] = moments
        if zones.tobytes().strip(b"\0"):
            local = [moment + zone * 60 for moment, zone in zip(moments, zones, strict=True)]
        if key.kind == "ON":
            return marked(among, bytes([first <= moment < first + _DAY for moment in local]))
        return marked(among, bytes(map(first.__gt__ if key.kind == "BEFORE" else first.__le__, local)))
    dates, offsets = values_of(selected, columns.internal_dates), values_of(selected, columns.internal_zones)
    return [at for at in among if _fits(key.kind, (dates[at] + offsets[at] * 60) // _DAY, key.day)]


def sent(selected: Selected, key: DateKey, among: Sequence[int]) -> Flow[Sequence[int]]:
    """Those of `among` whose Date field fits."""
    dates = values_of(selected, selected.view.columns().sent_dates)
    surely, possibly = _bounds(key.kind, key.day * _DAY)
    clear: set[int] = set()
    unclear: list[int] = []
    for start in range(0, len(among), _SLICE):
        for at in among[start : start + _SLICE]:
            date = dates[at]
            if surely[0] <= date < surely[1]:
                clear.add(at)
            elif possibly[0] <= date < possibly[1]:
                unclear.append(at)
        yield b""  # others are served between slices
    messages, mailbox_id, uids = selected.account.messages, selected.mailbox_id, selected.uids
    for start in range(0, len(unclear), _ROWS):
        part = unclear[start : start + _ROWS]

        def read(part: Sequence[int] = part, *, at_once: bool = True) -> dict[int, bytes]:
            ranges = [(uids[part[0]], uids[part[-1]])]
            if ranges[0][1] - ranges[0][0] > 4 * _ROWS:
                ranges = [(uids[at], uids[at]) for at in part]
            envelopes: dict[int, bytes] = {}
            for first, last in ranges:
                envelopes.update(messages.fetch_rows(mailbox_id, first, last, ("uid", "envelope"), at_once=at_once))
            return envelopes

        try:
            envelopes = read()
        except Busy:
            envelopes = yield from blocking(lambda read=read: read(at_once=False))  # type: ignore[misc]
        clear.update(at for at in part if _written(key, envelopes.get(uids[at], b""), dates[at]))
        yield b""  # others are served between slices
    return [at for at in among if at in clear]


def _fits(kind: str, day: int, wanted: int) -> bool:
    if kind == "BEFORE":
        return day < wanted
    return day == wanted if kind == "ON" else day >= wanted


def _bounds(kind: str, first: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Moments that fit in every zone, and those that fit in any; `first`: of the day in UTC."""
    if kind == "BEFORE":
        return (-inf, first - _ZONES), (-inf, first + _ZONES)
    if kind == "SINCE":
        return (first + _ZONES, inf), (first - _ZONES, inf)
    return (first + _ZONES, first + _DAY - _ZONES), (first - _ZONES, first + _DAY + _ZONES)


def _written(key: DateKey, envelope: bytes, sent: int) -> bool:
    match = _ENVELOPE_DATE.match(envelope)
    written = parse_date(match[1]) if match else None
    return _fits(key.kind, written.local_day if written else sent // _DAY, key.day)
