"""SORT: what positions are ordered by.

Columns of the view and of content rows; rows are read by a worker in slices. Ties stay in mailbox order.

Standards: RFC 5256 §2.2 and §3 (keys), RFC 5957 (DISPLAYFROM, DISPLAYTO), RFC 6203 §6 (RELEVANCY), RFC 5255 §4.6.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from hosting.imap.completing import completed
from hosting.imap.effects import Flow, blocking
from hosting.imap.searching.gathering import gathered
from hosting.imap.searching.ordering import spread, stable
from hosting.imap.searching.progress import Progress
from hosting.imap.selected import Selected
from storage.mime.casemap import casemap
from storage.mime.decode import decode_words

Order = tuple[tuple[str, bool], ...]  # key, and whether reversed; the most important first
Value = Callable[[int], Any]  # of a position

_ROWS: Final = {"FROM": "sort_from", "TO": "sort_to", "CC": "sort_cc", "SUBJECT": "base_subject"}
_NUMBERS: Final = {"ARRIVAL", "DATE", "SIZE", "SUBJECT"}  # what very many messages have numbers of
_DISPLAY: Final = {"DISPLAYFROM": 0, "DISPLAYTO": 3}  # address lists of an envelope: from, sender, reply-to, to
_SLICE = 1000
_LOOKED_AT = 8000  # positions between two looks at other connections
_REMEMBERED = 500  # messages whose order is worth it
_MANY = 5000  # messages whose order is made by a worker

_NSTRING = rb'(?:"((?:[^"\\]|\\.)*+)"|NIL|\{(\d+)\}\r\n)'
_TOKEN = re.compile(_NSTRING + rb"|[ ()]", re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def ordered(
    selected: Selected, order: Order, found: Sequence[int], scores: Mapping[int, int], progress: Progress
) -> Flow[Sequence[int]]:
    """The positions `found` (ascending) in the order asked for; that of a whole mailbox is remembered."""
    told, view = selected.told, selected.view
    if selected.stale or len(found) < _REMEMBERED or 2 * len(found) < told or "RELEVANCY" in dict(order):
        return (yield from _sorted(selected, order, found, found, scores, progress))
    yield from _columns_ready(selected)
    columns = view.columns()
    known = columns.answers.get(order)
    if known is None or known.count != told:
        if len(found) != told:
            return (yield from _sorted(selected, order, found, found, scores, progress))
        # Those that arrived since stand behind the others: that is nearly the new order, which sorts in linear time.
        before = known.positions if known is not None and known.count < told else range(0)
        nearly = [*before, *range(len(before), told)] if before else range(told)
        result = yield from _sorted(selected, order, found, nearly, scores, progress)
        if selected.uids is view.uids and view.columns() is columns:  # no message has left meanwhile
            columns.answers.put(order, told, result)
        return result
    if len(found) == told:
        return known.positions
    wanted, kept = set(found), []
    for start in range(0, told, _LOOKED_AT):
        kept += [at for at in known.positions[start : start + _LOOKED_AT] if at in wanted]
        yield b""  # others are served between slices
    return kept


def _sorted(
    selected: Selected,
    order: Order,
    found: Sequence[int],
    before: Sequence[int],
    scores: Mapping[int, int],
    progress: Progress,
) -> Flow[Sequence[int]]:
    """`found` in the order asked for; equal ones stay as they stand in `before`, the same positions."""
    result = before
    for key, reverse in reversed(order):  # stable sorts, the least important first
        value = yield from values(selected, key, found, scores, progress)
        if len(result) <= _MANY:
            result = stable(result, value, reverse=reverse)
        else:
            by = partial(spread if key in _NUMBERS else stable, result, value, reverse=reverse)
            result = yield from blocking(lambda by=by: array("I", by()))  # type: ignore[misc]
    return result


def _columns_ready(selected: Selected) -> Flow[None]:
    if selected.view.columns_missing > _SLICE:
        yield from blocking(selected.view.prepare_columns)


def values(
    selected: Selected, key: str, found: Sequence[int], scores: Mapping[int, int], progress: Progress | None = None
) -> Flow[Value]:
    """What positions among `found` are ordered by; what is gone meanwhile has the least value."""
    if key == "RELEVANCY":
        return lambda at: -scores.get(at, 100)
    if key == "SUBJECT" and len(found) > _MANY:
        messages = yield from gathered(selected, found, progress, only_subjects=True)
        ranks = yield from blocking(lambda: messages.subjects(found, selected.told))
        return ranks.__getitem__
    if key in _ROWS or key in _DISPLAY:
        if key in _ROWS:
            rows = yield from content(selected, found, ("uid", _ROWS[key]), progress, lambda row: str(row[1]))
        else:
            asked = ("uid", "envelope")
            rows = yield from content(selected, found, asked, progress, lambda row: displayed(row[1], key))
        uids = selected.uids
        texts: dict[int, str] = {}
        for start in range(0, len(found), _LOOKED_AT):
            texts.update({at: rows.pop(uids[at], "") for at in found[start : start + _LOOKED_AT]})
            yield b""  # others are served between slices
        return texts.__getitem__
    view = selected.view
    yield from _columns_ready(selected)
    attribute = {"ARRIVAL": "internal_dates", "DATE": "sent_dates", "SIZE": "sizes"}[key]
    column: array[int] = getattr(view.columns(), attribute)
    if not selected.stale:
        return column.__getitem__
    numbers = array(column.typecode, bytes(column.itemsize * selected.told))
    for start in range(0, len(found), _LOOKED_AT // 4):
        part = found[start : start + _LOOKED_AT // 4]
        mine, current = selected.view_positions(part)
        column = getattr(view.columns(), attribute)  # messages may go meanwhile, and the columns be others
        for position, at in zip(mine, current, strict=True):
            numbers[position] = column[at]
        yield b""  # others are served between slices
    return numbers.__getitem__


def content(
    selected: Selected,
    found: Sequence[int],
    columns: tuple[str, ...],
    progress: Progress | None = None,
    made: Callable[[Any], Any] | None = None,
) -> Flow[dict[int, Any]]:
    """Content rows of the messages found, by UID; `made` of each row, if that is given."""
    rows: dict[int, Any] = {}
    if not found:
        return rows
    yield from completed(selected.account)
    messages, mailbox_id, uids = selected.account.messages, selected.mailbox_id, selected.uids

    def read(first: int, last: int) -> None:
        for row in messages.fetch_rows(mailbox_id, first, last, columns):
            rows[row[0]] = row if made is None else made(row)

    for start in range(0, len(found), _SLICE):
        part = found[start : start + _SLICE]
        first, last = uids[part[0]], uids[part[-1]]
        yield from blocking(lambda first=first, last=last: read(first, last))  # type: ignore[misc]
        if progress is not None:
            yield progress.told(start, len(found))
    return rows


def displayed(envelope: bytes, key: str) -> str:
    """DISPLAYFROM or DISPLAYTO of an envelope as it is sent (RFC 5957 §3, §4)."""
    address = _first_address(envelope, _DISPLAY[key])
    if address is None:
        return ""
    name, mailbox, host = address
    if name and (text := casemap(decode_words(name))):
        return text
    if mailbox is None:
        return ""
    return casemap((mailbox if host is None else mailbox + b"@" + host).decode("utf-8", "replace"))


def _first_address(envelope: bytes, wanted: int) -> tuple[bytes | None, bytes | None, bytes | None] | None:
    """Name, mailbox and host of the first address in a list of the envelope; None if the list is NIL."""
    at = depth = 0
    place = -3  # of the element at depth 1: date, subject, then the lists from 0 on
    strings: list[bytes | None] = []
    while at < len(envelope):
        match = _TOKEN.match(envelope, at)
        if match is None:
            return None
        at = match.end()
        token = match[0]
        if token == b" ":
            continue
        if token == b"(":
            depth += 1
            if depth == 2:
                place += 1
        elif token == b")":
            depth -= 1
        elif depth == 1:
            place += 1
            if place >= wanted:
                return None
        if depth >= 2 and place > wanted:
            return None
        if token in (b"(", b")"):
            continue
        text: bytes | None = None
        if match[2] is not None:
            text = envelope[at : at + int(match[2])]
            at += len(text)
        elif match[1] is not None:
            text = _ESCAPED.sub(rb"\1", match[1])
        if depth == 3 and place == wanted:
            strings.append(text)
            if len(strings) == 4:
                return strings[0], strings[2], strings[3]
    return None
