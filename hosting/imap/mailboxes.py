"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

Standards: RFC 9051 §6.3.4 to §6.3.8, RFC 6154 §3 (CREATE-SPECIAL-USE), RFC 8474 §4.1 (MAILBOXID in CREATE).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hosting.imap import encode
from hosting.imap.commands import Create, Delete, Rename, Subscribe, Unsubscribe
from hosting.imap.effects import Flow, blocking
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from storage.mail import journal

SPECIAL_USES: Final = {
    use.lower(): use for use in ("\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important")
}
_KEPT = frozenset({"\\Flagged", "\\Important"})  # virtual mailboxes that we don't make


def create(session: Session, _: bytes, command: Create) -> Flow[bytes]:
    uses = special_use(command.special_use)
    name = command.mailbox.rstrip("/")  # a trailing delimiter announces children (RFC 9051 §6.3.4)
    _check_name(name)
    mailboxes = session.mail.mailboxes
    mailbox = yield from blocking(lambda: mailboxes.create(name, uses))
    if session.rev2 and name != command.mailbox:
        yield b'* LIST () "/" %b ("OLDNAME" (%b))\r\n' % (
            encode.mailbox(mailbox.name, utf8=True),
            encode.mailbox(command.mailbox, utf8=True),
        )
    return b"[MAILBOXID (%b)] Created." % mailbox.object_id.encode("ascii")


def special_use(asked: Iterable[str]) -> tuple[str, ...]:
    """As we spell them, each once. Raises Refused for one that no mailbox has here."""
    uses: list[str] = []
    for word in asked:
        use = SPECIAL_USES.get(word.lower())
        if use is None or use in _KEPT:
            raise Refused(b"USEATTR", "This special use is not supported.")
        uses.append(use)
    return tuple(dict.fromkeys(uses))


def delete(session: Session, _: bytes, command: Delete) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    yield from blocking(lambda: mailboxes.delete(command.mailbox))
    if session.selected is not None and session.selected.name == command.mailbox:
        session.deselect()
        yield b"* OK [CLOSED] The mailbox is deleted.\r\n"
    return b"Deleted."


def rename(session: Session, _: bytes, command: Rename) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    new = command.new.rstrip("/")
    _check_name(new)
    yield from blocking(lambda: mailboxes.rename(command.mailbox, new))
    selected = session.selected
    if selected is not None and command.mailbox != "INBOX":
        if selected.name == command.mailbox:
            selected.name = new
        elif selected.name.startswith(command.mailbox + "/"):
            selected.name = new + selected.name[len(command.mailbox) :]
    if session.rev2:
        yield b'* LIST () "/" %b ("OLDNAME" (%b))\r\n' % (
            encode.mailbox(new, utf8=True),
            encode.mailbox(command.mailbox, utf8=True),
        )
    return b"Renamed."


def _check_name(name: str) -> None:
    if journal.is_kept(name):
        raise Refused(b"CANNOT", f"The server keeps the name {journal.NAME} for itself.")


def subscribe(session: Session, _: bytes, command: Subscribe) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    yield from blocking(lambda: mailboxes.subscribe(command.mailbox))
    return b"Subscribed."


def unsubscribe(session: Session, _: bytes, command: Unsubscribe) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    yield from blocking(lambda: mailboxes.unsubscribe(command.mailbox))
    return b"Unsubscribed."
