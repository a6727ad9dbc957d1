"""What waits to be told to one session of other mailboxes than the selected one, and how it is told.

Ids and names only: what is told of them is as it stands when it is told.
Standards: RFC 5465 §5.1 to §5.7, RFC 5464 §4.4.2 (METADATA), RFC 5258 §3 (LIST).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from hosting.imap import encode
from hosting.imap.news.interests import EXPUNGE, FLAGS, NEW
from storage.mail.mailboxes import Mailbox
from storage.values import AccountId, MailboxId

Key = tuple[AccountId, MailboxId]


class News:
    __slots__ = ("annotations", "messages", "names")

    def __init__(self) -> None:
        self.messages: dict[Key, int] = {}  # events
        self.names: dict[str, str | None] = {}  # and how a mailbox was called before
        self.annotations: dict[Key, set[str]] = {}

    def __len__(self) -> int:
        return len(self.messages) + len(self.names) + sum(map(len, self.annotations.values()))


def status_line(name: str, mailbox: Mailbox, events: int, *, with_modseq: bool, utf8: bool) -> bytes:
    told = [f"UIDVALIDITY {mailbox.uidvalidity}"]
    if events & (NEW | EXPUNGE):
        told += [f"UIDNEXT {mailbox.uidnext}", f"MESSAGES {mailbox.messages}"]
    if events & FLAGS:
        told.append(f"UNSEEN {mailbox.unseen}")
    if with_modseq:
        told.append(f"HIGHESTMODSEQ {mailbox.highest_modseq}")
    return b"* STATUS %b (%b)\r\n" % (encode.mailbox(name, utf8), " ".join(told).encode("ascii"))


def metadata_line(name: str, entries: Iterable[str], *, utf8: bool) -> bytes:
    told = b" ".join(encode.quoted(entry.encode("ascii")) for entry in sorted(entries))
    return b"* METADATA %b %b\r\n" % (encode.mailbox(name, utf8), told)


def list_lines(
    names: Mapping[str, str | None],
    there: Mapping[str, tuple[str, ...]],
    subscribed: Collection[str],
    *,
    utf8: bool,
) -> bytes:
    """LIST responses for names that changed; `there`: what can be seen now, and its special uses."""
    parents = {name[:cut] for name in there for cut in range(len(name)) if name[cut] == "/"}
    lines = []
    for name, old in names.items():
        words = ["\\Subscribed"] if name in subscribed else []
        words.append("\\HasChildren" if name in parents else "\\HasNoChildren")
        words += there.get(name, ("\\NonExistent",))
        line = b'* LIST (%b) "/" %b' % (" ".join(words).encode("ascii"), encode.mailbox(name, utf8))
        lines.append(line + (b' ("OLDNAME" (%b))' % encode.mailbox(old, utf8) if old is not None else b"") + b"\r\n")
    return b"".join(lines)


def lost_line(name: str, *, utf8: bool) -> bytes:
    """A mailbox of another that may not be looked up any more (RFC 5465 §5.4 and §5.9)."""
    return b'* LIST (\\NonExistent \\NoAccess) "/" %b\r\n' % encode.mailbox(name, utf8)


def no_access_line(name: str, *, utf8: bool) -> bytes:
    """One that may be looked up and not read (RFC 5465 §3.1)."""
    return b'* LIST (\\NoAccess) "/" %b\r\n' % encode.mailbox(name, utf8)
