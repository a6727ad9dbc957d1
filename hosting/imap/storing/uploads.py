"""New messages on their way from a client into a mailbox: what APPEND and REPLACE have in common.

`destination` and `prepare` look at everything that can be refused before anything is written; a prepared message is put
together where the blocking work is done, one after the other, so that no more than one is in memory beside what the
client sent. Octets are kept as they are but for line ends, and for binary parts of a literal8, which become base64.
Octets beyond ASCII are taken in header fields too, whatever the client enabled: refusing them (RFC 6855 §4) would lose
drafts and copies of sent mail.

Raises: Refused (TRYCREATE, BADURL, CANNOT, LIMIT), NotPermitted, OverQuota; `message` also TooLarge, Unavailable.
Standards: RFC 9051 §6.3.12, RFC 3502, RFC 3516 §4.4, RFC 4469, RFC 7889, RFC 4314 §4 (which flags are kept).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO

from hosting.imap import places
from hosting.imap.commands import Flags
from hosting.imap.effects import Flow
from hosting.imap.place import Place
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.opening import record_opening
from hosting.imap.sharing.other_users import PREFIX
from hosting.imap.storing import urls
from hosting.imap.storing.append_commands import Text, Upload, Url
from hosting.imap.storing.append_grammar import MOST_PARTS
from hosting.imap.storing.urls import BadUrl, MessageUrl
from storage.errors import NotFound, NotPermitted, OverQuota, TooLarge
from storage.mail.ledger import READ_ONLY
from storage.mail.messages import Appended, NewMessage
from storage.mail.names import canonical
from storage.mime.binary import without_binary
from storage.mime.normalise import to_crlf


@dataclass(frozen=True, slots=True)
class Linked:
    """A URL whose mailbox was found."""

    octets: bytes
    place: Place
    url: MessageUrl

    def refusal(self) -> Refused:
        return _bad(self.octets)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A message that can be put together."""

    parts: tuple[Text | Linked, ...]
    flags: Flags
    internal_date: int | None
    internal_zone: int
    catenated: bool
    limit: int

    def message(self) -> NewMessage:
        """Blocking: reads what is linked."""
        data = _catenated(self.parts, self.limit) if self.catenated else _data(self.parts[0])
        if any(isinstance(part, Text) and part.binary for part in self.parts):
            data = without_binary(data)
        else:
            data = to_crlf(data)
        if not data:
            raise _empty()
        if len(data) > self.limit:
            raise TooLarge
        return NewMessage(
            data, self.flags.system, self.flags.keywords, self.internal_date, internal_zone=self.internal_zone
        )


def destination(session: Session, name: str) -> Flow[Place]:
    """The mailbox that is to take new messages."""
    try:
        place = yield from places.find(session, name, "i")
    except NotFound:
        raise _try_create() from None
    if place.mailbox.read_only:
        raise NotPermitted(READ_ONLY)
    return place


def lost(session: Session) -> Flow[Refused]:
    """What is to be raised when a mailbox was deleted after `destination` had found it.

    Raises MailboxGone if that was the selected one.
    """
    yield from session.mailbox.refreshing()
    return _try_create()


def remembered(session: Session, name: str) -> Place | None:
    """The mailbox as it was found last: whether it is still there, and called so, is found out when it is written to.

    To ask beforehand takes a tenth of what the loop does for an APPEND, since each commit has made the pages stale.
    """
    name = canonical(name)
    mailbox = None if name.startswith(PREFIX) else session.mail.mailboxes.remembered(name)
    return None if mailbox is None or mailbox.read_only else Place(session.mail, mailbox, name)


def require_space(session: Session) -> None:
    """Of the contract; the account's own quota is charged when the message is stored."""
    if session.user.full:
        raise OverQuota("All accounts of the contract together are above its storage.")


def prepare(session: Session, place: Place, uploads: Sequence[Upload]) -> Flow[list[Prepared]]:
    """All of them, before any is stored."""
    if sum(len(upload.parts) for upload in uploads) > MOST_PARTS:
        raise Refused(b"LIMIT", f"One command takes {MOST_PARTS} messages, or parts of them, at most.")
    if any(not upload.catenated and not _data(upload.parts[0]) for upload in uploads):
        raise _empty()  # so a client cancels an APPEND that it has begun (RFC 3502 §6.3.11)
    found: dict[str, Place] = {}
    prepared: list[Prepared] = []
    for upload in uploads:
        parts: list[Text | Linked] = []
        for part in upload.parts:
            parts.append((yield from _linked(session, part, found)) if isinstance(part, Url) else part)
        flags = Flags(*rights.permitted(place.rights, upload.flags.system, upload.flags.keywords))
        limit = session.services.limits.message
        date, zone = upload.internal_date, upload.internal_zone
        prepared.append(Prepared(tuple(parts), flags, date, zone, upload.catenated, limit))
    return prepared


def _linked(session: Session, part: Url, found: dict[str, Place]) -> Flow[Linked]:
    """`found` are the mailboxes that were found before."""
    selected = session.selected
    try:
        url = urls.parse(part.octets, None if selected is None else selected.name)
        if url.mailbox not in found:
            found[url.mailbox] = place = yield from places.find(session, url.mailbox, "r")
            if not place.is_own:
                record_opening(session, place)  # it is read from, as if it had been selected
    except (BadUrl, NotFound, NotPermitted):
        raise _bad(part.octets) from None
    return Linked(part.octets, found[url.mailbox], url)


def _data(part: Text | Url | Linked) -> bytes:
    return part.data if isinstance(part, Text) else b""


def _catenated(parts: Sequence[Text | Linked], limit: int) -> bytes:
    """The parts one behind the other. Nothing is read of a message that would be too large."""
    sources: list[bytes | tuple[Linked, urls.Stored]] = []
    size = 0
    for part in parts:
        if isinstance(part, Text):
            sources.append(part.data)
            size += len(part.data)
        else:
            try:
                stored = urls.locate(part.place, part.url)
            except BadUrl:
                raise part.refusal() from None
            sources.append((part, stored))
            size += stored.size
    if size > limit:
        raise TooLarge
    whole = BytesIO()  # gives its octets away without a copy
    for source in sources:
        if isinstance(source, bytes):
            whole.write(source)
            continue
        linked, stored = source
        try:
            for piece in stored.pieces():
                whole.write(piece)
        except BadUrl:
            raise linked.refusal() from None
    return whole.getvalue()


def tell_own(session: Session, place: Place, appended: Appended, count: int = 1) -> None:
    """What this session brought into its selected mailbox is told in the answer (RFC 9051 §6.3.12)."""
    selected = session.selected
    if selected is None or selected.account is not place.account or selected.mailbox_id != place.mailbox.id:
        return
    if selected.view.take_own(appended.modseq):
        selected.absorb()
    else:
        selected.refresh()
    session.brings(range(appended.uid - count + 1, appended.uid + 1))  # one commit gives them one after the other


def _try_create() -> Refused:
    return Refused(b"TRYCREATE", "There is no such mailbox.")  # RFC 9051 §6.3.12, §6.4.7


def _bad(octets: bytes) -> Refused:
    return Refused(b"BADURL " + urls.shown(octets), "There is no such message or part.")


def _empty() -> Refused:
    return Refused(b"CANNOT", "The message is empty.")
