"""LIST with its options, and LSUB.

Special-use attributes are told in LSUB too (Outlook reads them there), and whether a mailbox has children in every
LIST.

Standards: RFC 9051 §6.3.9, §7.3.1; RFC 5258; RFC 5819; RFC 6154; RFC 3501 §6.3.9 (LSUB).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hosting.imap import encode, metadata
from hosting.imap.commands import ListMailboxes, ListSubscribed
from hosting.imap.effects import Flow
from hosting.imap.patterns import Pattern
from hosting.imap.place import Place
from hosting.imap.session import Session
from hosting.imap.status import mailbox_status
from storage.mail.mailboxes import Mailbox


def list_mailboxes(session: Session, _: bytes, command: ListMailboxes) -> Flow[bytes]:
    if not command.extended and command.patterns == ("",):  # the delimiter and the root (RFC 9051 §6.3.9)
        yield b'* LIST (\\Noselect) "/" ""\r\n'
        return b"That is all."
    tree = _Tree(session)
    accepts = _accepted(command.reference, [pattern for pattern in command.patterns if pattern])
    told_subscribed = bool({"SUBSCRIBED"} & (command.only | command.returned))
    for name in sorted(filter(accepts, tree.candidates(command.only)), key=_inbox_first):
        chosen = tree.chosen(name, command.only)
        below = "RECURSIVEMATCH" in command.only and tree.chosen_below(name, command.only)
        if not chosen and not below:
            continue
        words = tree.attributes(name, rev2=session.rev2)
        if told_subscribed and name in tree.subscribed:
            words.insert(0, "\\Subscribed")
        line = b'* LIST (%b) "/" %b' % (" ".join(words).encode("ascii"), encode.mailbox(name, session.utf8))
        if below:
            kinds = " ".join(f'"{kind}"' for kind in sorted(command.only & {"SUBSCRIBED", "SPECIAL-USE"}))
            line += b' ("CHILDINFO" (%b))' % kinds.encode("ascii")  # RFC 5258 §3.5
        yield line + b"\r\n"
        mailbox = tree.mailboxes.get(name)
        if command.status and mailbox is not None:
            yield from mailbox_status(session, Place(session.mail, mailbox, name), command.status)
        if command.metadata and mailbox is not None:
            yield metadata.listed(session, Place(session.mail, mailbox, name), command.metadata)
    return b"That is all."


def list_subscribed(session: Session, _: bytes, command: ListSubscribed) -> Flow[bytes]:
    tree = _Tree(session)
    accepts = _accepted(command.reference, [command.pattern])
    for name in sorted(filter(accepts, tree.subscribed), key=_inbox_first):
        words = tree.attributes(name, rev2=session.rev2)
        yield b'* LSUB (%b) "/" %b\r\n' % (" ".join(words).encode("ascii"), encode.mailbox(name, session.utf8))
    if command.pattern.endswith("%"):  # a parent that is not subscribed itself (RFC 3501 §6.3.9)
        for name in sorted(filter(accepts, _parents(tree.subscribed) - tree.subscribed)):
            yield b'* LSUB (\\Noselect) "/" %b\r\n' % encode.mailbox(name, session.utf8)
    return b"That is all."


class _Tree:
    """All names of an account: mailboxes, the parents that only their children imply, subscriptions."""

    def __init__(self, session: Session) -> None:
        listed = session.mail.mailboxes.list()
        self.mailboxes: Mapping[str, Mailbox] = {mailbox.name: mailbox for mailbox in listed}
        self.subscribed = session.mail.mailboxes.subscriptions()
        self._parents = _parents(self.mailboxes)

    def candidates(self, only: frozenset[str]) -> set[str]:
        names = set(self.mailboxes) | self._parents
        if "SUBSCRIBED" in only:
            names |= self.subscribed
            if "RECURSIVEMATCH" in only:
                names |= _parents(self.subscribed)
        return names

    def chosen(self, name: str, only: frozenset[str]) -> bool:
        """Whether the selection options take this name (RFC 5258 §3.1)."""
        if "SUBSCRIBED" in only and name not in self.subscribed:
            return False
        mailbox = self.mailboxes.get(name)
        return "SPECIAL-USE" not in only or (mailbox is not None and bool(mailbox.special_use))

    def chosen_below(self, name: str, only: frozenset[str]) -> bool:
        prefix = name + "/"
        names = self.subscribed if "SUBSCRIBED" in only else self.mailboxes
        return any(other.startswith(prefix) and self.chosen(other, only) for other in names)

    def attributes(self, name: str, *, rev2: bool) -> list[str]:
        mailbox = self.mailboxes.get(name)
        words = ["\\HasChildren" if name in self._parents else "\\HasNoChildren"]
        if mailbox is None:
            words += ["\\NonExistent"] if rev2 else ["\\NonExistent", "\\Noselect"]
        else:
            words += mailbox.special_use
        return words


def _parents(names: Iterable[str]) -> set[str]:
    parents: set[str] = set()
    for name in names:
        while (cut := name.rfind("/")) > 0:
            name = name[:cut]  # noqa: PLW2901
            if name in parents:
                break
            parents.add(name)
    return parents


def _accepted(reference: str, patterns: Iterable[str]) -> Callable[[str], bool]:
    compiled = [Pattern(reference + pattern) for pattern in patterns]
    return lambda name: any(pattern.matches(name) for pattern in compiled)


def _inbox_first(name: str) -> tuple[bool, str]:
    return (name != "INBOX", name)
