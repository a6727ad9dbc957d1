"""The selected mailbox as one session was told of it.

Message numbers are a promise to the client: number n means the n-th message of what it was told, until it is told
otherwise. `Selected` keeps that picture over the shared view: arrays in UID order of which the first `told` are known
to the client, and the news that it was not told yet. `uids`, `told` and the numbers change only in `tell`.

The shared view appends to its arrays in place and replaces them when messages go. So between an expunge and the moment
it may be told, `uids` is the older array and flags are looked up by UID. Which messages are gone is not kept: it is
what `uids` has and the view has not.

Of few changes their UIDs are noted; of many only the modseq after which they lie, and `telling` looks for them
when they are told, in pieces between which others are served.

`told_modseq` never exceeds what the client knows: a client that resynchronises from it misses nothing (RFC 7162
§3.1.1).

Standards: RFC 9051 §2.3.1.2, §5.2, §7.5.1; RFC 2180 §4.1; RFC 7162 §3.2.10 (VANISHED); RFC 5182 §2.1 ("$").
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterator, Sequence

from hosting.imap.catching_up import caught_up
from hosting.imap.commands import SequenceSet
from hosting.imap.effects import Flow
from hosting.imap.encode import SYSTEM_FLAGS, FlagTexts, uid_set
from hosting.imap.place import Place
from hosting.imap.positions import found, missing, number_spans, surviving, uid_spans, within
from hosting.imap.replies import MailboxGone
from hosting.imap.sharing.rights import flag_mask
from storage.errors import Gone
from storage.mail.view import MailboxView
from storage.values import KEYWORDS_PER_MAILBOX, UidSet

_FEW = 1000  # changes that are noted one by one, and told in one piece; more are told in pieces of so many
_NONE: frozenset[int] = frozenset()  # one for all: each would take 216 octets
_LOOKED_AT = 4000  # messages that are looked at before others are served

# Claims messages up to a UID as told of; up to which one they were before (`storage.recent_claims`).
Claim = Callable[[int], int]


def _unknown(_uid: int) -> int:
    return 0


class Selected:
    """One mailbox, open in one session."""

    __slots__ = (
        "_changed",
        "_changed_after",
        "_claim",
        "_floor",
        "_keywords_told",
        "_own",
        "_synced",
        "account",
        "flag_texts",
        "mailbox_id",
        "name",
        "read_only",
        "recent_from",
        "recent_texts",
        "recent_told",
        "rights",
        "saved",
        "taken",
        "told",
        "uid_only",
        "uids",
        "view",
    )

    def __init__(
        self, place: Place, view: MailboxView, *, read_only: bool, recent_from: int, claim: Claim = _unknown
    ) -> None:
        self.account = place.account
        self.rights = place.rights
        self.view = view
        self.mailbox_id = place.mailbox.id
        self.name = place.name
        self.read_only = read_only
        self.recent_from = recent_from  # UIDs from here on are \Recent in this session (RFC 3501 §2.3.2)
        self.taken = UidSet()  # … but for these, which another session told of first
        self.recent_told = False  # this session told of messages that are \Recent nowhere else from now on
        self._claim = claim
        self.uids: array[int] = view.uids
        self.told = len(view.uids)
        self.saved: Sequence[int] = ()  # "$", as ascending UIDs, four octets each
        self.uid_only = False  # the client wants no numbers (RFC 9586)
        self.flag_texts = FlagTexts(view.keywords)
        self.recent_texts = FlagTexts(view.keywords, recent=True)
        self._keywords_told = len(view.keywords)
        self._synced = view.highest_modseq  # changes up to here are told, or noted below
        self._floor = self._synced  # everything up to here is told
        self._changed: set[int] | None = None  # UIDs of messages whose flags are to be told
        self._changed_after: int | None = None  # … and of all whose modseqs are higher than this
        self._own: frozenset[int] = _NONE  # … but for these

    # --- numbers ---

    @property
    def last_uid(self) -> int:
        return self.uids[self.told - 1] if self.told else 0

    @property
    def stale(self) -> bool:
        """Messages are gone that the client was not told of: positions in `uids` are not those of the view."""
        return self.uids is not self.view.uids

    @property
    def told_modseq(self) -> int:
        return self._floor

    @property
    def recent(self) -> int:
        uids, told = self.uids, self.told
        taken = sum(
            bisect_right(uids, high, 0, told) - bisect_left(uids, low, 0, told) for low, high in self.taken.ranges
        )
        return told - bisect_left(uids, self.recent_from, 0, told) - taken

    def is_recent(self, uid: int) -> bool:
        r"""Whether a message is \Recent here, and in no other session."""
        return uid >= self.recent_from and uid not in self.taken

    def size(self, position: int) -> int:
        """The RFC 822 size of the message at a position; 0 if it is gone."""
        sizes = self.view.columns().sizes
        if not self.stale:
            return sizes[position]
        _mine, current = self.view_positions((position,))
        return sizes[current[0]] if current else 0

    def positions(self, numbers: SequenceSet, by_uid: bool, *, lenient: bool = False) -> Sequence[int]:
        """The positions in `uids` that a set of the client means, ascending.

        Raises Bad for a message number beyond the last (RFC 9051 §9, seq-number); `lenient`: it means no message.
        """
        if numbers.saved:
            return self.positions_of(self.saved)
        if by_uid:
            spans = uid_spans(self.uids, self.told, numbers.ranges)
        else:
            spans = number_spans(self.told, numbers.ranges, lenient=lenient)
        return within(spans)

    def positions_of(self, uids: Collection[int]) -> list[int]:
        """Positions of the UIDs that the client was told of, ascending."""
        return found(self.uids, self.told, sorted(uids))

    def view_positions(self, positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Positions that still exist, in `uids` and in the view's arrays side by side."""
        if not self.stale:
            return positions, positions
        return surviving(self.uids, positions, self.view.uids)

    # --- news ---

    def refresh(self) -> None:
        """Brings the shared view up to date, and notes what is new for this session."""
        try:
            self.view.refresh()
        except Gone:
            raise MailboxGone from None
        self.absorb()

    def refreshing(self) -> Flow[None]:
        """`refresh`; very many changes of another process are read by a worker."""
        try:
            yield from caught_up(self.view)
        except Gone:
            raise MailboxGone from None
        self.absorb()

    def absorb(self, own_modseqs: Collection[int] = ()) -> None:
        """Notes what the view knows beyond what was noted; changes of `own_modseqs` are told by who made them."""
        view = self.view
        if view.highest_modseq == self._synced:
            return
        is_all_own = own_modseqs and not self.others_wrote(own_modseqs)
        changed = () if is_all_own else view.lately_changed(self._synced, _FEW)
        if changed is None:
            self._changed_after = self._synced if self._changed_after is None else self._changed_after
            self._own |= frozenset(own_modseqs)
        elif changed:
            modseqs, uids, last = view.modseqs, view.uids, self.last_uid
            news = {
                uid
                for uid in changed
                if uid <= last
                and not (own_modseqs and (at := bisect_left(uids, uid)) < len(uids) and modseqs[at] in own_modseqs)
            }
            if news:
                self._changed = news if self._changed is None else self._changed | news
        self._synced = view.highest_modseq
        if self.stale and not self.has_vanished:  # only messages went that the client never heard of
            self._rebase(view.uids)
        self._settle()

    def others_wrote(self, own_modseqs: Collection[int]) -> bool:
        """Whether the view knows changes that were not noted yet and are not of `own_modseqs`."""
        return len(own_modseqs) != self.view.highest_modseq - self._synced

    def _rebase(self, current: array[int]) -> None:
        last = self.last_uid
        self.uids = current
        self.told = bisect_right(current, last)

    @property
    def has_arrivals(self) -> bool:
        return bool(self.view.uids) and self.view.uids[-1] > self.last_uid

    @property
    def has_changed(self) -> bool:
        """Flags changed that the client was not told of."""
        return bool(self._changed) or self._changed_after is not None

    @property
    def has_vanished(self) -> bool:
        """Messages are gone that the client still counts."""
        return self.stale and self.told > bisect_right(self.view.uids, self.last_uid)

    def _vanished(self, current: Sequence[int]) -> Iterator[Sequence[int]]:
        return missing(self.uids, self.told, current, _LOOKED_AT)

    def _uids_at(self, positions: Sequence[int]) -> Sequence[int]:
        return [self.uids[position] for position in positions]

    @property
    def has_news(self) -> bool:
        return self.has_changed or self.has_vanished or self.has_arrivals

    @property
    def may_tell(self) -> bool:
        """Something is new, or a keyword was defined."""
        return self.has_news or self.has_new_keywords

    @property
    def has_new_keywords(self) -> bool:
        return len(self.view.keywords) != self._keywords_told

    def _settle(self) -> None:
        if not self.has_news:
            self._floor = self._synced

    def forget_news_of(self, uids: Sequence[int]) -> None:
        """The client learns of these messages' flags, ascending UIDs, by another way."""
        if len(uids) == self.told:
            self._forget_changes()
        elif self._changed:
            self._changed = {
                uid for uid in self._changed if (at := bisect_left(uids, uid)) == len(uids) or uids[at] != uid
            }
        self._settle()

    def forget_news_at(self, positions: Sequence[int]) -> None:
        """The same, by ascending positions."""
        if not positions:
            return
        uids = self.uids
        if len(positions) == self.told:
            self._forget_changes()
        elif self._changed and isinstance(positions, range):
            first, last = uids[positions[0]], uids[positions[-1]]
            self._changed = {uid for uid in self._changed if not first <= uid <= last}
        elif self._changed:
            self._changed.difference_update([uids[position] for position in positions])
        self._settle()

    def telling(
        self,
        expunges: bool,
        arrivals: bool,
        flags: bool,
        leaving: Callable[[Sequence[int]], bytes] | None = None,
        *,
        qresync: bool,
        condstore: bool,
        rev2: bool,
    ) -> Iterator[bytes]:
        """The untagged responses for what is new, as far as this moment allows (RFC 9051 §7.5.1).

        In pieces; what happens meanwhile is told the next time. `leaving`: what is told before messages are gone.
        """
        current = self.view.uids  # what is not there is told; the view may lose more before that is done
        if expunges and self.has_vanished:
            if leaving is not None:
                yield from (leaving(self._uids_at(part)) for part in self._vanished(current))
            yield from self._tell_vanished(qresync, current)
        if arrivals and self.has_arrivals:
            self._take_arrivals()
            yield b"* %d EXISTS\r\n" % self.told
            if not rev2:
                yield b"* %d RECENT\r\n" % self.recent
        if self.has_new_keywords:
            yield self.flags_response()
        if flags and self._changed_after is not None:
            yield from self._tell_changed(self._changed_after, condstore, rev2)
        elif flags and self._changed:
            positions = self.positions_of(self._changed)
            self._forget_changes()
            yield from self._tell_flags(positions, condstore, rev2)
        self._settle()

    def _tell_changed(self, after: int, condstore: bool, rev2: bool) -> Iterator[bytes]:
        noted, own = self._changed or (), self._own
        self._forget_changes()
        for start in range(0, self.told, _LOOKED_AT):
            mine, current = self.view_positions(range(start, min(start + _LOOKED_AT, self.told)))
            uids, modseqs = self.uids, self.view.modseqs
            changed = [
                position
                for position, at in zip(mine, current, strict=True)
                if (modseqs[at] > after and modseqs[at] not in own) or (noted and uids[position] in noted)
            ]
            yield b""  # others are served between slices
            yield from self._tell_flags(changed, condstore, rev2)

    def _tell_flags(self, positions: Sequence[int], condstore: bool, rev2: bool) -> Iterator[bytes]:
        for start in range(0, len(positions), _FEW):
            if self.has_new_keywords:  # defined meanwhile (RFC 9051 §7.3.5)
                yield self.flags_response()
            part = positions[start : start + _FEW]
            yield b"".join(self.flag_fetches(part, condstore=condstore, rev2=rev2))

    def _forget_changes(self) -> None:
        self._changed, self._changed_after, self._own = None, None, _NONE

    def _tell_vanished(self, qresync: bool, current: array[int]) -> Iterator[bytes]:
        """What is not in `current` any more; that is the picture then."""
        gone = 0
        for part in self._vanished(current):
            if qresync or self.uid_only:
                yield b"* VANISHED %b\r\n" % uid_set(self._uids_at(part))
            elif isinstance(part, range):  # neighbours: each has the number of the first
                yield b"* %d EXPUNGE\r\n" % (part.start + 1 - gone) * len(part)
            else:
                numbers = (position + 1 - before for before, position in enumerate(part, gone))
                yield b"".join([b"* %d EXPUNGE\r\n" % number for number in numbers])
            yield b""  # others are served between slices: VANISHED is too short to make room for them
            gone += len(part)
        self._rebase(current)

    def _take_arrivals(self) -> None:
        current, first = self.view.uids, self.last_uid + 1
        claimed = max(self.view.recent_claimed, self._claim(0 if self.read_only else current[-1]))
        if claimed >= (since := max(first, self.recent_from)):
            self.taken = UidSet.of_ranges((*self.taken.ranges, (since, min(claimed, current[-1]))))
        if not self.read_only and current[-1] > claimed:
            self.view.recent_claimed = current[-1]
            self.recent_told = True
        if self.stale:  # gone messages keep their numbers until they may be told: a picture of our own
            self.uids = self.uids[: self.told] + current[bisect_right(current, self.last_uid) :]
        self.told = len(self.uids)

    # --- what is told of flags ---

    def flag_fetches(self, positions: Sequence[int], *, condstore: bool, rev2: bool) -> list[bytes]:
        """`* n FETCH (UID u FLAGS (…))` for messages whose flags the client should learn."""
        mine, current = self.view_positions(positions)
        uids, flags, modseqs, uid_only = self.uids, self.view.flags, self.view.modseqs, self.uid_only
        lines = []
        for position, at in zip(mine, current, strict=True):
            uid = uids[position]
            text = self.flag_text(uid, flags[at], rev2)
            if uid_only:
                modseq = b" MODSEQ (%d)" % modseqs[at] if condstore else b""
                line = b"* %d UIDFETCH (FLAGS (%b)%b)\r\n" % (uid, text, modseq)
            elif condstore:
                line = b"* %d FETCH (UID %d FLAGS (%b) MODSEQ (%d))\r\n" % (position + 1, uid, text, modseqs[at])
            else:
                line = b"* %d FETCH (UID %d FLAGS (%b))\r\n" % (position + 1, uid, text)
            lines.append(line)
        return lines

    def flag_text(self, uid: int, bits: int, rev2: bool) -> bytes:
        return self.recent_texts[bits] if not rev2 and self.is_recent(uid) else self.flag_texts[bits]

    def flags_response(self) -> bytes:
        """FLAGS and PERMANENTFLAGS: at SELECT, and again when a keyword is new (RFC 9051 §7.3.5)."""
        self._keywords_told = len(self.view.keywords)
        self.flag_texts = FlagTexts(self.view.keywords)
        self.recent_texts = FlagTexts(self.view.keywords, recent=True)
        keywords = [name.encode("ascii") for _, name in sorted(self.view.keywords.items())]
        defined = b" ".join([*(text for _, text in SYSTEM_FLAGS), *keywords])
        mask = flag_mask(self.rights)
        words = [text for bit, text in SYSTEM_FLAGS if mask & bit] + (keywords if "w" in self.rights else [])
        if self.read_only:
            permanent = b""
        else:
            if len(self.view.keywords) < KEYWORDS_PER_MAILBOX and "w" in self.rights:
                words.append(b"\\*")
            permanent = b" ".join(words)
        return b"* FLAGS (%b)\r\n* OK [PERMANENTFLAGS (%b)] Flags permitted.\r\n" % (defined, permanent)
