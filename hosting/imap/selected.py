"""The selected mailbox as one session was told of it.

Message numbers are a promise to the client: number n means the n-th message of what it was told, until it is told
otherwise. `Selected` keeps that picture over the shared view: arrays in UID order of which the first `told` are known
to the client, and the news that it was not told yet. `uids`, `told` and the numbers change only in `tell`.

The shared view appends to its arrays in place and replaces them when messages go. So between an expunge and the moment
it may be told, `uids` is the older array and flags are looked up by UID.

`told_modseq` never exceeds what the client knows: a client that resynchronises from it misses nothing (RFC 7162
§3.1.1).

Standards: RFC 9051 §2.3.1.2, §5.2, §7.5.1; RFC 2180 §4.1; RFC 7162 §3.2.10 (VANISHED); RFC 5182 §2.1 ("$").
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence

from hosting.imap.commands import STAR, SequenceSet
from hosting.imap.encode import SYSTEM_FLAGS, FlagTexts, uid_set
from hosting.imap.place import Place
from hosting.imap.replies import Bad, MailboxGone
from hosting.imap.sharing.rights import flag_mask
from storage.errors import Gone
from storage.mail.view import MailboxView
from storage.values import KEYWORDS_PER_MAILBOX, UidSet

_NO_UIDS: Sequence[int] = ()


class Selected:
    """One mailbox, open in one session."""

    __slots__ = (
        "_changed",
        "_floor",
        "_keywords_told",
        "_synced",
        "_vanished",
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

    def __init__(self, place: Place, view: MailboxView, *, read_only: bool, recent_from: int) -> None:
        self.account = place.account
        self.rights = place.rights
        self.view = view
        self.mailbox_id = place.mailbox.id
        self.name = place.name
        self.read_only = read_only
        self.recent_from = recent_from  # UIDs from here on are \Recent in this session (RFC 3501 §2.3.2)
        self.taken = UidSet()  # … but for these, which another session told of first
        self.recent_told = False  # this session told of messages that are \Recent nowhere else from now on
        self.uids: array[int] = view.uids
        self.told = len(view.uids)
        self.saved: Sequence[int] = _NO_UIDS  # "$", as ascending UIDs, four octets each
        self.uid_only = False  # the client wants no numbers (RFC 9586)
        self.flag_texts = FlagTexts(view.keywords)
        self.recent_texts = FlagTexts(view.keywords, recent=True)
        self._keywords_told = len(view.keywords)
        self._synced = view.highest_modseq  # changes up to here are told, or noted below
        self._floor = self._synced  # everything up to here is told
        self._changed: set[int] | None = None
        self._vanished: set[int] | None = None

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
        r"""Whether a message is \Recent here, and in no other session of this process."""
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

        Raises Bad for a message number beyond the last, except as one end of a range with "*" (RFC 9051 §9,
        seq-number); `lenient`: such a number means no message.
        """
        if numbers.saved:
            return self.positions_of(self.saved)
        told = self.told
        if by_uid:
            spans = self._uid_spans(numbers)
        else:
            spans = []
            for low, high in numbers.ranges:
                if not told or (STAR not in (low, high) and max(low, high) > told):
                    if not lenient:
                        raise Bad("There is no message with that number.")
                    if not told or min(low, high) > told:
                        continue
                first, last = sorted((min(low or told, told), min(high or told, told)))
                spans.append((first - 1, last))
        if len(spans) == 1:
            return range(*spans[0])
        if all(end - start <= 1 for start, end in spans):
            return sorted({start for start, end in spans if start < end})
        merged = UidSet.of_ranges((start, end - 1) for start, end in spans if start < end)
        return list(merged)

    def _uid_spans(self, numbers: SequenceSet) -> list[tuple[int, int]]:
        uids, told, last = self.uids, self.told, self.last_uid
        spans = []
        for low, high in numbers.ranges:
            low, high = low or last, high or last  # noqa: PLW2901
            if low > high:
                low, high = high, low  # noqa: PLW2901
            start = bisect_left(uids, low, 0, told)
            spans.append((start, bisect_right(uids, high, start, told)))
        return spans

    def positions_of(self, uids: Collection[int]) -> list[int]:
        """Positions of the UIDs that the client was told of, ascending."""
        mine, told = self.uids, self.told
        found = []
        at = 0
        for uid in sorted(uids):
            at = bisect_left(mine, uid, at, told)
            if at < told and mine[at] == uid:
                found.append(at)
        return found

    def view_positions(self, positions: Sequence[int]) -> tuple[Sequence[int], Sequence[int]]:
        """Positions that still exist, in `uids` and in the view's arrays side by side."""
        if not self.stale:
            return positions, positions
        current, kept, found = self.view.uids, [], []
        for position in positions:
            at = bisect_left(current, self.uids[position])
            if at < len(current) and current[at] == self.uids[position]:
                kept.append(position)
                found.append(at)
        return kept, found

    # --- news ---

    def refresh(self) -> None:
        """Brings the shared view up to date, and notes what is new for this session."""
        try:
            self.view.refresh()
        except Gone:
            raise MailboxGone from None
        self.absorb()

    def absorb(self, own_modseqs: Collection[int] = ()) -> None:
        """Notes what the view knows beyond what was noted; changes of `own_modseqs` are told by who made them."""
        view = self.view
        if view.highest_modseq == self._synced:
            return
        if own_modseqs and not self.others_wrote(own_modseqs):
            self._synced = view.highest_modseq
            self._settle()
            return
        changes = view.changes_since(self._synced)
        last = self.last_uid
        if changes.vanished:
            gone = {uid for uid in changes.vanished if uid <= last and self._knows(uid)}
            if gone:
                self._vanished = gone if self._vanished is None else self._vanished | gone
                if self._changed:
                    self._changed -= gone
        if changes.changed:
            modseqs, uids = view.modseqs, view.uids
            news = {
                uid
                for uid in changes.changed
                if uid <= last and not (own_modseqs and modseqs[bisect_left(uids, uid)] in own_modseqs)
            }
            if news:
                self._changed = news if self._changed is None else self._changed | news
        self._synced = view.highest_modseq
        if self.stale:
            self._vanished = self._all_vanished()
            if not self._vanished:  # only messages went that the client never heard of
                self._rebase()
        self._settle()

    def others_wrote(self, own_modseqs: Collection[int]) -> bool:
        """Whether the view knows changes that were not noted yet and are not of `own_modseqs`."""
        return len(own_modseqs) != self.view.highest_modseq - self._synced

    def _all_vanished(self) -> set[int] | None:
        """The noted ones; all by comparison, if tombstones were dropped before this session looked."""
        remaining = bisect_right(self.view.uids, self.last_uid)
        if self.told - len(self._vanished or ()) == remaining:
            return self._vanished
        return set(self.uids[: self.told]).difference(self.view.uids)

    def _rebase(self) -> None:
        last = self.last_uid
        self.uids = self.view.uids
        self.told = bisect_right(self.uids, last)

    def _knows(self, uid: int) -> bool:
        at = bisect_left(self.uids, uid, 0, self.told)
        return at < self.told and self.uids[at] == uid

    @property
    def has_arrivals(self) -> bool:
        current = self.view.uids
        return bool(current) and current[-1] > self.last_uid

    @property
    def has_changed(self) -> bool:
        """Flags changed that the client was not told of."""
        return bool(self._changed)

    @property
    def has_vanished(self) -> bool:
        return bool(self._vanished)

    @property
    def untold_gone(self) -> Collection[int]:
        """UIDs of messages that the client still counts."""
        return self._vanished or ()

    @property
    def has_news(self) -> bool:
        return bool(self._changed or self._vanished) or self.has_arrivals

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

    def forget_news_of(self, uids: Collection[int]) -> None:
        """The client learns of these messages' flags by another way."""
        if self._changed:
            self._changed.difference_update(uids)
            self._settle()

    def forget_news_at(self, positions: Sequence[int]) -> None:
        """The same, by ascending positions."""
        if not self._changed or not positions:
            return
        uids = self.uids
        if isinstance(positions, range):
            first, last = uids[positions[0]], uids[positions[-1]]
            self._changed = {uid for uid in self._changed if not first <= uid <= last}
        else:
            self._changed.difference_update([uids[position] for position in positions])
        self._settle()

    def tell(
        self, *, expunges: bool, arrivals: bool, qresync: bool, condstore: bool, rev2: bool, flags: bool = True
    ) -> bytes:
        """The untagged responses for what is new, as far as this moment allows (RFC 9051 §7.5.1)."""
        parts: list[bytes] = []
        if self._vanished and expunges:
            parts.append(self._tell_vanished(qresync))
        if arrivals and self.has_arrivals:
            self._take_arrivals()
            parts.append(b"* %d EXISTS\r\n" % self.told)
            if not rev2:
                parts.append(b"* %d RECENT\r\n" % self.recent)
        if self.has_new_keywords:
            parts.append(self.flags_response())
        if self._changed and flags:
            parts += self.flag_fetches(self.positions_of(self._changed), condstore=condstore, rev2=rev2)
            self._changed = None
        if parts:
            self._settle()
        return b"".join(parts)

    def _tell_vanished(self, qresync: bool) -> bytes:
        vanished = self._vanished or set()
        self._vanished = None
        if qresync or self.uid_only:
            text = b"* VANISHED %b\r\n" % uid_set(vanished)
        else:
            numbers = (position + 1 - gone for gone, position in enumerate(self.positions_of(vanished)))
            text = b"".join([b"* %d EXPUNGE\r\n" % number for number in numbers])
        if self.saved:
            self.saved = array("I", [uid for uid in self.saved if uid not in vanished])
        self._rebase()
        return text

    def _take_arrivals(self) -> None:
        current, first, claimed = self.view.uids, self.last_uid + 1, self.view.recent_claimed
        if claimed >= max(first, self.recent_from):
            self.taken = UidSet.of_ranges(
                (*self.taken.ranges, (max(first, self.recent_from), min(claimed, current[-1])))
            )
        if not self.read_only and current[-1] > claimed:
            self.view.recent_claimed = current[-1]
            self.recent_told = True
        if self.stale:  # gone messages keep their numbers until they may be told: a picture of our own
            self.uids = self.uids[: self.told] + current[bisect_right(current, self.last_uid) :]
        self.told = len(self.uids)

    def settle_recent(self) -> None:
        r"""What this session told of as \Recent is so to no session of another process, soon (RFC 3501 §2.3.2)."""
        if self.recent_told:
            self.recent_told = False
            account, mailbox_id = self.account, self.mailbox_id
            account.background.submit(
                (account.account_id, "recent", mailbox_id), lambda: account.mailboxes.take_recent(mailbox_id) < 0
            )

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
