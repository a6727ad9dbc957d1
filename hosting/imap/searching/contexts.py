"""Searches that tell how their results change: UPDATE (RFC 5267).

A context keeps the UIDs of its results, four octets each, and up to which modseq they hold. With every news only the
messages that changed or arrived since are looked at. Keys that need no rows (flags, numbers, dates of arrival, sizes)
are decided at once; text and what else needs rows is decided at once for a few messages, by a worker for many (`ready`,
before an answer ends). Message numbers in the search mean the messages that had them at that time.

What an expunge removes is told right before it, what arrives after its EXISTS. A sorted context is told with positions;
where a new result belongs is found by comparing it with some twenty of the others.

Bounds: contexts and results per session; a search beyond is answered, but not updated (NOUPDATE).
"""

from __future__ import annotations

import logging
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from hosting.imap import commands as c
from hosting.imap.effects import Flow, Work, blocking
from hosting.imap.encode import quoted, uid_set
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching import sorting
from hosting.imap.searching.matching import Matcher, of_view
from hosting.imap.searching.ordering import stable
from hosting.imap.selected import Selected
from storage.clock import Clock
from storage.errors import CleanmailError, Unavailable

_log = logging.getLogger(__name__)
CONTEXTS: Final = 20  # of one session
RESULTS: Final = 500_000  # of all contexts of a session
SORTED: Final = 50_000  # of one that is sorted: each change is told with its position
_INLINE = 16  # messages whose texts are looked at in the event loop
_AT_ONCE = 2000  # messages whose flags, numbers and dates are looked at before others are served
_NONE: Final = 1 << 64  # above every modseq and UID


class Context:
    """One search whose results are kept up to date."""

    __slots__ = (
        "after",
        "behind",
        "by_uid",
        "correlators",
        "costly",
        "examined",
        "items",
        "key",
        "members",
        "order",
        "pending",
        "sequence",
        "tag",
    )

    def __init__(
        self,
        tag: bytes,
        key: sc.Key,
        by_uid: bool,
        found: Sequence[int],
        order: sorting.Order,
        sequence: Sequence[int],
        correlators: bytes,
        items: tuple[c.FetchItem, ...],
        examined: int,
    ) -> None:
        self.tag = tag
        self.items = items  # of new messages that join (RFC 5465 §7)
        self.examined = examined  # messages up to this UID were looked at when they came
        self.correlators = correlators  # beside the tag (RFC 7377 §2.1)
        self.key = key
        self.by_uid = by_uid
        self.costly = bool(order) or not of_view(key)
        self.members = array("I", found)  # UIDs that match, ascending
        self.order = order
        self.sequence = array("I", sequence) if order else None  # the same in the order asked for
        self.pending: frozenset[int] = frozenset()  # UIDs that are still to be looked at …
        self.after = self.behind = _NONE  # … and, of very many, those with higher modseqs, and higher UIDs

    @property
    def at_once(self) -> int:
        """How many messages are looked at before others are served."""
        return _INLINE if self.costly else _AT_ONCE

    @property
    def is_much(self) -> bool:
        """More waits than is known one by one."""
        return min(self.after, self.behind) < _NONE

    def __len__(self) -> int:
        return len(self.members) * (2 if self.order else 1)

    def has(self, uid: int) -> bool:
        at = bisect_left(self.members, uid)
        return at < len(self.members) and self.members[at] == uid


class Contexts:
    """All of one session and its selected mailbox."""

    __slots__ = ("_clock", "_joined", "_kept", "_last", "_selected", "_synced", "_tell_joined")

    def __init__(self, selected: Selected, clock: Clock, tell_joined: Callable[[], Flow[None]]) -> None:
        """`tell_joined` tells what is to be fetched of messages that joined: `take_joined`."""
        self._joined: dict[int, tuple[c.FetchItem, ...]] = {}
        self._tell_joined = tell_joined
        self._selected = selected
        self._clock = clock
        self._kept: dict[bytes, Context] = {}
        self._synced = selected.view.highest_modseq
        self._last = selected.last_uid  # messages up to here were looked at

    def __contains__(self, tag: bytes) -> bool:
        return tag in self._kept

    def __len__(self) -> int:
        return len(self._kept)

    def refuses(self, results: int, *, is_sorted: bool) -> str:
        """Why another context of so many results is not kept up to date; empty: it is."""
        if len(self._kept) >= CONTEXTS:
            return "Too many searches are being updated."
        if is_sorted and results > SORTED:
            return "So many results are not kept in order."
        if sum(map(len, self._kept.values())) + results * (2 if is_sorted else 1) > RESULTS:
            return "Too many results are being updated."
        return ""

    def add(
        self,
        tag: bytes,
        key: sc.Key,
        by_uid: bool,
        found: Sequence[int],
        order: sorting.Order = (),
        sequence: Sequence[int] = (),
        correlators: bytes = b"",
        items: tuple[c.FetchItem, ...] = (),
    ) -> None:
        """`found`: the UIDs of the results, ascending; `sequence`: the same in their order, if they have one.

        `items`: to be fetched of new messages that join them.
        """
        context = Context(tag, key, by_uid, found, order, sequence, correlators, items, self._selected.last_uid)
        if self._kept:
            self._note_changes()
        else:
            self._synced, self._last = self._selected.view.highest_modseq, self._selected.last_uid
        self._kept[tag] = context

    def cancel(self, tag: bytes) -> bool:
        return self._kept.pop(tag, None) is not None

    # --- what is told ---

    def leaving(self, uids: Iterable[int]) -> bytes:
        """What is told right before these messages are told to be gone."""
        gone = sorted(uids)
        return b"".join([self._told(context, [], gone) for context in self._kept.values()])

    def ready(self) -> Flow[None]:
        """What `updates` left because it is much, in pieces, texts by a worker; to be called after the news."""
        self._note_changes()
        for context in list(self._kept.values()):
            if context.is_much:
                yield from self._settle_all(context)
            elif len(context.pending) > context.at_once:
                pending, context.pending = context.pending, frozenset()
                waiting = yield from blocking(lambda pending=pending: stable(list(pending), int))  # type: ignore[misc]
                for start in range(0, len(waiting), _AT_ONCE):
                    positions = self._selected.positions_of(waiting[start : start + _AT_ONCE])
                    yield (yield from self._settled(context, positions))
        if self._joined:
            try:
                yield from self._tell_joined()
            except CleanmailError as error:  # the client was told of the messages, and may fetch them itself
                _log.warning("messages that joined a search could not be read: %s", type(error).__name__)

    def _settle_all(self, context: Context) -> Flow[None]:
        """Goes through all messages for those that wait."""
        selected, pending, after, behind = self._selected, context.pending, context.after, context.behind
        context.pending, context.after, context.behind = frozenset(), _NONE, _NONE
        for start in range(0, selected.told, _AT_ONCE):
            mine, current = selected.view_positions(range(start, min(start + _AT_ONCE, selected.told)))
            uids, modseqs = selected.uids, selected.view.modseqs
            waiting = [
                position
                for position, at in zip(mine, current, strict=True)
                if modseqs[at] > after or uids[position] > behind or uids[position] in pending
            ]
            yield b""  # others are served between slices
            if waiting:
                yield (yield from self._settled(context, waiting))

    def take_joined(self) -> dict[int, tuple[c.FetchItem, ...]]:
        """By UID what is to be fetched of new messages that joined searches; it counts as told."""
        joined, self._joined = self._joined, {}
        return joined

    def updates(self) -> bytes:
        """What is told after all other news."""
        self._note_changes()
        texts = []
        for context in self._kept.values():
            if 0 < len(context.pending) <= context.at_once and not context.is_much:
                pending, context.pending = context.pending, frozenset()
                texts.append(_run(self._settled(context, self._selected.positions_of(pending))))
        return b"".join(texts)

    # --- how it is found out ---

    def _note_changes(self) -> None:
        """What changed among the messages that the client was told of waits to be looked at."""
        selected, view = self._selected, self._selected.view
        fresh: set[int] = set()
        after = behind = _NONE
        if view.highest_modseq != self._synced:
            last = min(self._last, selected.last_uid)
            changed = view.lately_changed(self._synced, _AT_ONCE)
            if changed is None:
                after = self._synced
            else:
                fresh.update(uid for uid in changed if uid <= last)
            self._synced = view.highest_modseq
        if selected.last_uid > self._last:
            start = bisect_left(selected.uids, self._last + 1, 0, selected.told)
            if selected.told - start > _AT_ONCE:
                behind = self._last
            else:
                fresh.update(selected.uids[start : selected.told])
            self._last = selected.last_uid
        shared = frozenset(fresh)
        for context in self._kept.values():
            context.after, context.behind = min(context.after, after), min(context.behind, behind)
            if shared:
                context.pending = context.pending | shared if context.pending else shared

    def _settled(self, context: Context, pending: Sequence[int]) -> Flow[bytes]:
        """Decides about messages, by ascending positions; the response that tells of it."""
        selected = self._selected
        positions, _current = selected.view_positions(pending)
        try:
            found = set((yield from Matcher(selected, self._clock.now()).find(context.key, positions)))
        except Unavailable:
            context.pending = context.pending.union([selected.uids[at] for at in positions])
            return b""
        uids = selected.uids
        joining = [uids[at] for at in positions if at in found and not context.has(uids[at])]
        parting = [uids[at] for at in positions if at not in found and context.has(uids[at])]
        if context.items:
            for uid in joining:
                if uid > context.examined:  # not for flags that changed (RFC 5465 §7)
                    self._joined[uid] = tuple(dict.fromkeys((*self._joined.get(uid, ()), *context.items)))
        context.examined = max(context.examined, uids[pending[-1]] if pending else 0)
        if context.order and joining:
            parts = self._told(context, [], parting)
            try:
                return parts + (yield from self._inserted(context, joining))
            except Unavailable:
                context.pending = context.pending.union(joining)
                return parts
        return self._told(context, joining, parting)

    def _told(self, context: Context, joining: list[int], parting: list[int]) -> bytes:
        """Takes ascending UIDs in and out, in mailbox order or (out only) in that of the context."""
        parting = [uid for uid in parting if context.has(uid)]
        words: list[bytes] = []
        if parting:
            gone = set(parting)
            if context.sequence is None:
                words.append(b"REMOVEFROM (0 %b)" % uid_set(self._names(context, parting)))
            else:
                places = [place for place, uid in enumerate(context.sequence) if uid in gone]
                pairs = []
                for place in reversed(places):  # from the end: the places before stay what they are
                    (name,) = self._names(context, [context.sequence[place]])
                    pairs.append(b"%d %d" % (place + 1, name))
                context.sequence = array("I", [uid for uid in context.sequence if uid not in gone])
                words.append(b"REMOVEFROM (%b)" % b" ".join(pairs))
            _part(context.members, parting, gone)
        if joining:
            words.append(b"ADDTO (0 %b)" % uid_set(self._names(context, joining)))
            _join(context.members, joining)
        return self._response(context, words)

    def _inserted(self, context: Context, joining: list[int]) -> Flow[bytes]:
        assert context.sequence is not None
        sequence = context.sequence[:]  # in its place when all of them have theirs
        pairs = []
        for uid in joining:
            place = yield from self._place(context, sequence, uid)
            sequence.insert(place, uid)
            (name,) = self._names(context, [uid])
            pairs.append(b"%d %d" % (place + 1, name))
        context.sequence = sequence
        _join(context.members, joining)
        return self._response(context, [b"ADDTO (%b)" % b" ".join(pairs)])

    def _place(self, context: Context, sequence: Sequence[int], uid: int) -> Flow[int]:
        """Where a result belongs among the others. One that is gone, but not told to be, compares with nothing."""
        rank = yield from self._rank(context.order, uid)
        low, high = 0, len(sequence)
        while low < high:
            middle = probe = (low + high) // 2
            other = None
            while probe < high and other is None:
                other = yield from self._rank(context.order, sequence[probe])
                probe += other is None
            if other is None:
                high = middle
            elif rank is not None and other < rank:
                low = probe + 1
            else:
                high = middle
        return low

    def _rank(self, order: sorting.Order, uid: int) -> Flow[tuple[Any, ...] | None]:
        """What a message compares by; None if it is gone."""
        selected = self._selected
        positions, _current = selected.view_positions(selected.positions_of((uid,)))
        if not positions:
            return None
        parts: list[Any] = []
        for key, reverse in order:
            value = (yield from sorting.values(selected, key, positions, {}))(positions[0])
            parts.append(_Reversed(value) if reverse else value)
        return (*parts, uid)

    def _names(self, context: Context, uids: Sequence[int]) -> Sequence[int]:
        if context.by_uid or self._selected.uid_only:
            return uids
        return [at + 1 for at in self._selected.positions_of(uids)]

    def _response(self, context: Context, words: list[bytes]) -> bytes:
        if not words:
            return b""
        uid = b" UID" if context.by_uid or self._selected.uid_only else b""
        return b"* ESEARCH (TAG %b%b)%b %b\r\n" % (quoted(context.tag), context.correlators, uid, b" ".join(words))


class _Reversed:
    """A value that compares the other way round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.value < self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(other.value == self.value)

    def __hash__(self) -> int:
        return hash(self.value)


def _join(members: array[int], joining: Sequence[int]) -> None:
    """Takes ascending UIDs in."""
    low, high = bisect_left(members, joining[0]), bisect_right(members, joining[-1])
    members[low:high] = array("I", sorted([*members[low:high], *joining]))


def _part(members: array[int], parting: Sequence[int], gone: Collection[int]) -> None:
    """Takes ascending UIDs out, `gone` as a set."""
    low, high = bisect_left(members, parting[0]), bisect_right(members, parting[-1])
    members[low:high] = array("I", [uid for uid in members[low:high] if uid not in gone])


def _run(flow: Flow[bytes]) -> bytes:
    """A flow carried out at once: a few reads that are not worth a thread."""
    result: Any = None
    failure: Exception | None = None
    try:
        while True:
            effect = flow.send(result) if failure is None else flow.throw(failure)
            result = failure = None
            if isinstance(effect, Work):
                try:
                    result = effect.run()
                except Exception as error:  # noqa: BLE001 - thrown in, as the shell does
                    failure = error
    except StopIteration as end:
        return bytes(end.value)
