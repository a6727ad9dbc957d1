"""CREATE, DELETE, RENAME, SUBSCRIBE, UNSUBSCRIBE.

Standards: RFC 9051 §6.3.4 to §6.3.8, RFC 6154 §3 (CREATE-SPECIAL-USE), RFC 8474 §4.1 (MAILBOXID in CREATE).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hosting.imap import encode, places
from hosting.imap.commands import Create, Delete, Rename, Subscribe, Unsubscribe
from hosting.imap.effects import Flow, blocking
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing import other_mailboxes, rights
from storage.mail import journal

SPECIAL_USES: Final = {
    use.lower(): use for use in ("\\Archive", "\\Drafts", "\\Flagged", "\\Junk", "\\Sent", "\\Trash", "\\Important")
}
_KEPT = frozenset({"\\Flagged", "\\Important"})  # virtual mailboxes that we don't make


def create(session: Session, _: bytes, command: Create) -> Flow[bytes]:
    uses = special_use(command.special_use)
    name = command.mailbox.rstrip("/")  # a trailing delimiter announces children (RFC 9051 §6.3.4)
    _check_name(name)
    home, called = yield from other_mailboxes.home_of_new(session, name)
    if home.owner is not None and uses:
        raise Refused(b"USEATTR", "Its owner decides what the mailbox is for.")
    mailbox = yield from other_mailboxes.create(session, home, called, uses)
    if session.rev2 and name != command.mailbox:
        yield b'* LIST () "/" %b ("OLDNAME" (%b))\r\n' % (
            encode.mailbox(home.name_of(mailbox.name), utf8=True),
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
    place = yield from places.find(session, command.mailbox, rights.NEEDED["DELETE"])
    if place.is_own and place.mailbox.name == "INBOX":
        raise Refused(b"CANNOT", "INBOX cannot be deleted.")  # RFC 9051 §6.3.5; no matter of permission
    yield from other_mailboxes.delete(session, place)
    selected = session.selected
    if selected is not None and selected.account is place.account and selected.mailbox_id == place.mailbox.id:
        session.deselect()
        yield b"* OK [CLOSED] The mailbox is deleted.\r\n"
    return b"Deleted."


def rename(session: Session, _: bytes, command: Rename) -> Flow[bytes]:
    old, new = command.mailbox, command.new.rstrip("/")
    _check_name(new)
    if places.is_of_others(old) or places.is_of_others(new):
        yield from other_mailboxes.rename(session, old, new)
    else:
        mailboxes = session.mail.mailboxes
        yield from blocking(lambda: mailboxes.rename(old, new))
    selected = session.selected
    if selected is not None and old != "INBOX":
        if selected.name == old:
            selected.name = new
        elif selected.name.startswith(old + "/"):
            selected.name = new + selected.name[len(old) :]
    if session.rev2:
        yield b'* LIST () "/" %b ("OLDNAME" (%b))\r\n' % (
            encode.mailbox(new, utf8=True),
            encode.mailbox(old, utf8=True),
        )
    return b"Renamed."


def _check_name(name: str) -> None:
    if journal.is_kept(name):
        raise Refused(b"CANNOT", f"The server keeps the name {journal.NAME} for itself.")


def subscribe(session: Session, _: bytes, command: Subscribe) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    name = yield from other_mailboxes.canonical_name(session, command.mailbox)
    yield from blocking(lambda: mailboxes.subscribe(name))
    return b"Subscribed."


def unsubscribe(session: Session, _: bytes, command: Unsubscribe) -> Flow[bytes]:
    mailboxes = session.mail.mailboxes
    name = yield from other_mailboxes.canonical_name(session, command.mailbox)
    yield from blocking(lambda: mailboxes.unsubscribe(name))
    return b"Unsubscribed."
