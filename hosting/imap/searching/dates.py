"""SINCE, BEFORE, ON and their SENT forms: messages by days.

Both go by the date as it was written, in its own zone (RFC 9051 §6.4.4): the internal date has its zone in a column of
the view; of the Date field only the moment is there, and near midnight the envelope is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import compress

from hosting.imap.effects import Flow, blocking
from hosting.imap.searching.by_position import marked, values_of
from hosting.imap.searching.search_commands import DateKey
from hosting.imap.selected import Selected
from storage.errors import Busy
from storage.mime.dates import parse_date

_DAY = 86400
_ZONES = 15 * 3600  # no zone is further from UTC
_ENVELOPE_DATE = re.compile(rb'\("((?:[^"\\]|\\.)*)"')
_ROWS = 100
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
    column = selected.view.columns().sent_dates
    dates, together = values_of(selected, column), isinstance(among, range) and not selected.stale
    first = key.day * _DAY
    earliest, latest = first - _ZONES, first + _ZONES + (_DAY if key.kind == "ON" else 0)
    surely = {"BEFORE": earliest.__gt__, "SINCE": latest.__le__}.get(key.kind)  # in every zone
    clear = bytearray()  # 1: it fits
    unclear: list[int] = []  # places of `among`
    for start in range(0, len(among), _SLICE):
        part = among[start : start + _SLICE]
        moments = column[part[0] : part[-1] + 1] if together else [dates[at] for at in part]
        clear += bytes(map(surely, moments)) if surely else bytes(len(part))
        unclear += [place for place, moment in enumerate(moments, start) if earliest <= moment < latest]
        yield b""  # others are served between slices
    messages, mailbox_id, uids = selected.account.messages, selected.mailbox_id, selected.uids
    for start in range(0, len(unclear), _ROWS):
        part = [among[place] for place in unclear[start : start + _ROWS]]

        def read(part: Sequence[int] = part, *, at_once: bool = True) -> dict[int, bytes]:
            there = messages.fetch_apart(mailbox_id, [uids[at] for at in part], ("uid", "envelope"), at_once=at_once)
            return dict(there)

        try:
            envelopes = read()
        except Busy:
            envelopes = yield from blocking(lambda read=read: read(at_once=False))  # type: ignore[misc]
        for place, at in zip(unclear[start : start + _ROWS], part, strict=True):
            clear[place] = _written(key, envelopes.get(uids[at], b""), dates[at])
        yield b""  # others are served between slices
    return marked(among, bytes(clear)) if isinstance(among, range) else list(compress(among, clear))


def _fits(kind: str, day: int, wanted: int) -> bool:
    if kind == "BEFORE":
        return day < wanted
    return day == wanted if kind == "ON" else day >= wanted


def _written(key: DateKey, envelope: bytes, sent: int) -> bool:
    match = _ENVELOPE_DATE.match(envelope)
    written = parse_date(match[1]) if match else None
    return _fits(key.kind, written.local_day if written else sent // _DAY, key.day)
