"""ESEARCH responses: what RETURN (…) asks for of the messages that a search found.

Standards: RFC 9051 §7.3.4, RFC 4731, RFC 5267 §3 (ESORT) and §4.4, RFC 9394 (PARTIAL), RFC 6203 §4 (RELEVANCY),
RFC 7162 §3.1.10 (MODSEQ), RFC 7377 §2.1 (correlators).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter

from hosting.imap.effects import Flow, blocking
from hosting.imap.encode import quoted
from hosting.imap.searching.ordering import stable
from hosting.imap.searching.search_commands import Partial
from hosting.imap.selected import Selected
from storage.mail.answers import CHUNK, decimals

_SLICE = 10_000  # numbers that are written before others are served
_LOOKED_AT = 4000  # messages that are looked at before others are served
_FEW = 100  # numbers that are not worth another way of writing them
_SOME = 20  # chunks that are written before others are served
_SILENT = frozenset({"SAVE"})  # with nothing else, no response is sent (RFC 5182 §2.1)


@dataclass(frozen=True, slots=True)
class Results:
    """Positions of the messages found, in mailbox order, and in the order that was asked for."""

    selected: Selected
    found: Sequence[int]
    order: Sequence[int]
    by_uid: bool
    with_modseq: bool = False
    scores: Mapping[int, int] = field(default_factory=dict)

    @property
    def is_sorted(self) -> bool:
        return self.order is not self.found


def names(selected: Selected, positions: Sequence[int], by_uid: bool) -> Sequence[int]:
    """UIDs or message numbers of positions."""
    if isinstance(positions, range) and positions:
        if not by_uid:
            return range(positions[0] + 1, positions[-1] + 2)
        return selected.uids[positions[0] : positions[-1] + 1]
    if by_uid:
        uids = selected.uids
        if len(positions) < _FEW:
            return [uids[at] for at in positions]
        found: Sequence[int] = itemgetter(*positions)(uids)  # one call of C
        return found
    return [at + 1 for at in positions]


def named(selected: Selected, positions: Sequence[int], by_uid: bool) -> Flow[Sequence[int]]:
    """The same of many, in slices."""
    if isinstance(positions, range) or len(positions) <= _SLICE:
        return names(selected, positions, by_uid)
    found = array("I")
    for start in range(0, len(positions), _SLICE):
        found.extend(names(selected, positions[start : start + _SLICE], by_uid))
        yield b""  # others are served between slices
    return found


def listed(numbers: Sequence[int]) -> Flow[bytes]:
    """Numbers with a space before each."""
    parts: list[bytes] = []
    for start in range(0, len(numbers), _SLICE):
        parts.append(decimals(numbers[start : start + _SLICE]))
        yield b""  # others are served between slices
    return b"".join(parts)


def listed_uids(selected: Selected, positions: Sequence[int]) -> Flow[bytes]:
    """The same of the UIDs at ascending positions; of long stretches without a gap the text is remembered."""
    view, uids = selected.view, selected.uids
    if len(positions) < _FEW or selected.stale or view.columns_missing > _FEW:
        return (yield from listed((yield from named(selected, positions, by_uid=True))))
    answers = view.columns().answers
    parts: list[bytes] = []
    at, count, others = 0, len(positions), 0
    while at < count:
        position = positions[at]
        end = (position // CHUNK + 1) * CHUNK
        if at + CHUNK <= count and positions[at + CHUNK - 1] == position + CHUNK - 1 == end - 1:
            parts.append(answers.whole_text(uids, position // CHUNK))
            at += CHUNK
        else:
            behind = bisect_left(positions, end, at, min(count, at + CHUNK))
            parts.append(decimals(names(selected, positions[at:behind], by_uid=True)))
            at = behind
        others += 1
        if not others % _SOME:
            yield b""  # others are served between slices
    return b"".join(parts)


def as_set(numbers: Sequence[int], *, ascending: bool = False) -> Flow[bytes]:
    """A set in the order of its numbers: ranges only upwards (RFC 5267 §3.2). NIL if there are none."""
    if ascending and numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
        return _range(numbers[0], numbers[-1]).encode("ascii")
    texts: list[str] = []
    first, last = 0, -1  # the range that may go on
    for start in range(0, len(numbers), _SLICE):
        ranges: list[str] = []
        for number in numbers[start : start + _SLICE]:
            if number != last + 1:
                if first:
                    ranges.append(_range(first, last))
                first = number
            last = number
        texts.append(",".join(ranges))
        yield b""  # others are served between slices
    if first:
        texts.append(_range(first, last))
    return ",".join(filter(None, texts)).encode("ascii") or b"NIL"


def _range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}:{last}"


def window(results: Sequence[int], partial: Partial) -> Sequence[int]:
    """The part of the results that PARTIAL means (RFC 9394 §3.1)."""
    first, last = sorted(partial)
    if first > 0:
        return results[first - 1 : last]
    count = len(results)
    return results[max(0, count + first) : max(0, count + last + 1)]


def to_save(results: Results, returned: frozenset[str], partial: Partial | None) -> Flow[Sequence[int]]:
    """The positions that "$" names afterwards (RFC 5182 §2.1, RFC 9394 §3.2)."""
    found, order = results.found, results.order
    if not found or returned & {"ALL", "COUNT"} or not (returned & {"MIN", "MAX"} or partial):
        return found
    ends = [order[0]] * ("MIN" in returned) + [order[-1]] * ("MAX" in returned)
    part = window(order, partial) if partial else ()
    if len(part) <= _SLICE:
        return sorted({*part, *ends})
    return (yield from blocking(lambda: stable(list({*part, *ends}), int)))


def saved(results: Results, returned: frozenset[str], partial: Partial | None) -> Flow[array[int]]:
    """What "$" is afterwards: their UIDs."""
    positions = yield from to_save(results, returned, partial)
    uids = yield from named(results.selected, positions, by_uid=True)
    return uids if isinstance(uids, array) else array("I", uids)


def highest_modseq(selected: Selected, positions: Sequence[int]) -> Flow[int]:
    highest = 0
    for start in range(0, len(positions), _LOOKED_AT):
        _mine, current = selected.view_positions(positions[start : start + _LOOKED_AT])
        highest = max(highest, max(map(selected.view.modseqs.__getitem__, current), default=0))
        yield b""  # others are served between slices
    return highest


def _relevancies(positions: Sequence[int], scores: Mapping[int, int]) -> Flow[bytes]:
    numbers = array("B")
    for start in range(0, len(positions), _LOOKED_AT):
        numbers.extend([scores.get(at, 100) for at in positions[start : start + _LOOKED_AT]])
        yield b""  # others are served between slices
    return (yield from listed(numbers))[1:]


def response(
    tag: bytes, results: Results, returned: frozenset[str], partial: Partial | None, correlators: bytes = b""
) -> Flow[bytes]:
    """`* ESEARCH …`; empty where none is due."""
    if returned == _SILENT:
        return b""
    words = [b"* ESEARCH (TAG %b%b)" % (quoted(tag), correlators)]
    if results.by_uid:
        words.append(b"UID")
    told = results.order
    all_names = yield from named(results.selected, told, results.by_uid)
    if all_names:
        if "MIN" in returned:
            words.append(b"MIN %d" % all_names[0])
        if "MAX" in returned:
            words.append(b"MAX %d" % all_names[-1])
        if "ALL" in returned:
            words.append(b"ALL " + (yield from as_set(all_names, ascending=not results.is_sorted)))
    if partial is not None:
        told = window(told, partial)
        shown = yield from as_set(window(all_names, partial))
        if partial[0] > partial[1] > 0:
            partial = (partial[1], partial[0])  # RFC 5267 §4.4: 4:2 means 2:4
        words.append(b"PARTIAL (%d:%d %b)" % (*partial, shown))
    if "COUNT" in returned:
        words.append(b"COUNT %d" % len(all_names))
    if results.with_modseq and results.found:
        examined = yield from to_save(results, returned, partial)
        highest = yield from highest_modseq(results.selected, examined)
        words.append(b"MODSEQ %d" % highest)
    if "RELEVANCY" in returned and told:
        words.append(b"RELEVANCY (%b)" % (yield from _relevancies(told, results.scores)))
    return b" ".join(words) + b"\r\n"
