"""UIDBATCHES: ranges of UIDs that part the selected mailbox into batches of as many messages each.

The batches are those of the messages that the client was told of, newest first, and exactly of the size asked for; the
last has what is left. Together they cover every UID from the highest one down to 1, so that nothing lies between two of
them. Only their ends are looked at: 200,000 messages in batches of 500 are 400 look-ups.

A list of all batches is never refused, however large the mailbox is; a range that asks for more messages than a server
has to tell of in one answer is. Who asks again, which §3.1.1 allows only after many changes, costs no more than a
search, and is answered; so nobody counts (§6).

Standards: RFC 10022 §3.1.2 to §3.1.7 (response, sizes, ranges, empty and large mailboxes), §3.3 (with UIDONLY nothing
else parts a mailbox), §3.4 (nothing is saved).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from hosting.imap.effects import Flow
from hosting.imap.encode import quoted
from hosting.imap.replies import Refused
from hosting.imap.searching.uid_batches_grammar import UidBatches
from hosting.imap.session import Session

SMALLEST: Final = 500  # messages in a batch; fewer would tell message numbers again (RFC 10022 §3.1.3.2)
SPAN: Final = 100_000  # messages that a range of batches may cover (RFC 10022 §3.1.5)


def uid_batches(session: Session, tag: bytes, command: UidBatches) -> Flow[bytes]:
    size, selected = command.size, session.mailbox
    if size < SMALLEST:
        raise Refused(b"TOOFEW", f"A batch has {SMALLEST} messages at least.")
    first, last = command.wanted or (1, None)
    if last is not None and (last - first + 1) * size > SPAN:
        raise Refused(b"TOOMANY", f"A range of batches has {SPAN} messages at most.")
    ranges = ",".join(f"{high}:{low}" for high, low in batches(selected.uids, selected.told, size, first, last))
    yield b"* UIDBATCHES (TAG %b)%b\r\n" % (quoted(tag), f" {ranges}".rstrip().encode("ascii"))
    return b"Batched."


def batches(uids: Sequence[int], told: int, size: int, first: int, last: int | None) -> Iterator[tuple[int, int]]:
    """Highest and lowest UID of each batch from `first` to `last`, of the first `told` UIDs."""
    count = -(-told // size)
    for batch in range(first - 1, count if last is None else min(last, count)):
        newest, oldest = told - 1 - batch * size, told - (batch + 1) * size
        high = uids[newest] if batch == 0 else uids[newest + 1] - 1
        yield high, uids[oldest] if oldest > 0 else 1
