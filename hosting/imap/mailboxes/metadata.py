"""GETMETADATA, SETMETADATA and what LIST returns of METADATA.

Of a mailbox, private values are the reader's own and lie in his account; shared ones lie with the mailbox. The server's
own shared values are the operator's ([imap] comment and admin), nobody sets any. A mailbox's special use is its entry
/private/specialuse. A SETMETADATA that fails has changed nothing.

Standards: RFC 5464 §3.3 (who may), §4.2, §4.3; RFC 6154 §4 and §5.4; RFC 9590 §3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from hosting.imap import encode, places
from hosting.imap.effects import Flow, blocking
from hosting.imap.mailboxes.creating import special_use
from hosting.imap.mailboxes.metadata_grammar import GetMetadata, SetMetadata
from hosting.imap.place import Place
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from storage.errors import NotPermitted
from storage.mail.account import Account
from storage.mail.annotations import SERVER, SPECIAL_USE, AnnotationLimits, TooMany
from storage.mail.ledger import READ_ONLY
from storage.values import AccountId, MailboxId

_PRIVATE = "/private/"
_RESPONSE = 64 * 1024  # octets of values
_ANY_OF = frozenset("rswip")  # RFC 5464 §3.3

Source = tuple[Account, AccountId, MailboxId]  # where values lie, and whose mailbox they are of


def get_metadata(session: Session, _: bytes, command: GetMetadata) -> Flow[bytes]:
    place = yield from _place(session, command.mailbox)
    sizes = _sizes(session, place)
    chosen, longest = [], 0
    for asked, entry in _matching(command.entries, sizes, command.depth):
        size = sizes.get(entry, 0)
        if command.max_size is not None and size > command.max_size:
            longest = max(longest, size)
        else:
            chosen.append((asked, entry))
    for part in _parts(chosen, sizes):
        yield _response(session, place, part)
    return b"[METADATA LONGENTRIES %d] Some values are longer." % longest if longest else b"That is all."


def listed(session: Session, place: Place, entries: Sequence[str]) -> bytes:
    """What LIST tells of one mailbox (RFC 9590 §3); empty if the reader may not know."""
    if not place.is_own and not _ANY_OF & set(place.rights):
        return b""
    return _response(session, place, [(entry, entry.lower()) for entry in entries])


def _place(session: Session, name: str) -> Flow[Place | None]:
    """None: the server."""
    if not name:
        return None
    place = yield from places.find(session, name, "l")
    if not place.is_own and not _ANY_OF & set(place.rights):
        raise NotPermitted("Its owner does not let you do that.")
    return place


def _sources(session: Session, place: Place | None) -> tuple[Source, Source]:
    """Of private values, and of shared ones."""
    mine = session.mail
    if place is None:
        return (mine, mine.account_id, SERVER), (mine, mine.account_id, SERVER)
    owner_id, mailbox_id = place.account.account_id, place.mailbox.id
    return (mine, owner_id, mailbox_id), (place.account, owner_id, mailbox_id)


def _given(session: Session, place: Place | None) -> dict[str, bytes]:
    """Values that are not kept as annotations."""
    if place is not None:
        uses = " ".join(place.mailbox.special_use).encode("ascii")
        return {SPECIAL_USE: uses} if uses and place.is_own else {}
    limits = session.services.limits
    texts = {"/shared/comment": limits.comment, "/shared/admin": limits.admin}
    return {entry: text.encode("utf-8") for entry, text in texts.items() if text}


def _sizes(session: Session, place: Place | None) -> dict[str, int]:
    """All entries that have a value, and its octets."""
    sizes: dict[str, int] = {}
    for is_private, (account, owner_id, mailbox_id) in zip((True, False), _sources(session, place), strict=True):
        found = account.annotations.sizes(owner_id, mailbox_id)
        sizes |= {entry: size for entry, size in found.items() if entry.startswith(_PRIVATE) is is_private}
    return sizes | {entry: len(value) for entry, value in _given(session, place).items()}


def _matching(asked: Iterable[str], known: Mapping[str, int], depth: int) -> list[tuple[str, str]]:
    """How each entry is called in the answer, and the entry; what was asked for without depth has at least NIL."""
    found: dict[str, str] = {}
    for name in asked:
        entry = name.lower()
        if not depth or entry in known:
            found.setdefault(entry, name)
        below = entry + "/"
        for other in sorted(known) if depth else ():
            if other.startswith(below) and other.count("/", len(below)) < depth:
                found.setdefault(other, name + other[len(name) :])
    if not found:
        found = {name.lower(): name for name in asked}
    return [(name, entry) for entry, name in found.items()]


def _parts(chosen: Sequence[tuple[str, str]], sizes: Mapping[str, int]) -> Iterator[list[tuple[str, str]]]:
    """Entries of which one response tells: others are served between two of them."""
    part: list[tuple[str, str]] = []
    octets = 0
    for name, entry in chosen:
        if part and octets + sizes.get(entry, 0) > _RESPONSE:
            yield part
            part, octets = [], 0
        part.append((name, entry))
        octets += sizes.get(entry, 0)
    if part:
        yield part


def _response(session: Session, place: Place | None, chosen: Sequence[tuple[str, str]]) -> bytes:
    given = _given(session, place)
    wanted = [entry for _, entry in chosen if entry not in given]
    values = dict(given)
    for is_private, (account, owner_id, mailbox_id) in zip((True, False), _sources(session, place), strict=True):
        mine = [entry for entry in wanted if entry.startswith(_PRIVATE) is is_private]
        if mine:
            values |= account.annotations.values(owner_id, mailbox_id, mine)
    pairs = (b"%b %b" % (encode.quoted(name.encode("ascii")), encoded(values.get(entry))) for name, entry in chosen)
    name = encode.mailbox(place.name, session.utf8) if place is not None else b'""'
    return b"* METADATA %b (%b)\r\n" % (name, b" ".join(pairs))


def encoded(value: bytes | None) -> bytes:
    """A value: NIL, a quoted string, or a literal where it is not plain ASCII; literal8 where it has a NUL."""
    if value is None:
        return b"NIL"
    if b"\0" in value:
        return b"~{%d}\r\n%b" % (len(value), value)
    return encode.quoted(value) if value.isascii() else b"{%d}\r\n%b" % (len(value), value)


# --- SETMETADATA ---


def set_metadata(session: Session, _: bytes, command: SetMetadata) -> Flow[bytes]:
    limits = session.services.limits
    if any(value is not None and len(value) > limits.annotation for value in command.values.values()):
        raise Refused(b"METADATA MAXSIZE %d" % limits.annotation, "A value is too large.")
    place = yield from _place(session, command.mailbox)
    values = dict(command.values)
    uses = _checked(place, values)
    kept = AnnotationLimits(limits.annotations, limits.annotation_octets)
    parts = []
    for is_private, source in zip((True, False), _sources(session, place), strict=True):
        part = {entry: value for entry, value in values.items() if entry.startswith(_PRIVATE) is is_private}
        if part:
            parts.append((source, part))
    if len(parts) == 2 and parts[0][0] == parts[1][0]:
        parts = [(parts[0][0], values)]
    if uses is not None and not parts:
        parts = [(_sources(session, place)[0], {})]

    def change() -> list[MailboxId]:
        lost: list[MailboxId] = []
        if place is not None and not place.is_own:
            living = {each.id for each in place.account.mailboxes.list()}
            session.mail.annotations.forget_others(place.account.account_id, living)
        for (account, owner_id, mailbox_id), part in parts:
            account.annotations.check(owner_id, mailbox_id, part, kept)
        for (account, owner_id, mailbox_id), part in parts:
            lost += account.annotations.change(owner_id, mailbox_id, part, kept, uses)
        return lost

    try:
        lost = yield from blocking(change)
    except TooMany as error:
        raise Refused(b"METADATA TOOMANY", error.public) from None
    for mailbox_id in lost:  # RFC 6154 §5.4: side effects are told
        yield from _tell_lost(session, mailbox_id)
    if session.annotation_news is not None and (place is None or place.is_own):
        for mailbox_id in lost:
            session.annotation_news.leave_out(mailbox_id, [SPECIAL_USE])
        session.annotation_news.leave_out(place.mailbox.id if place else SERVER, list(command.values))
    return b"Set."


def _checked(place: Place | None, values: dict[str, bytes | None]) -> tuple[str, ...] | None:
    """Takes the special use out of `values` and returns it; raises for what cannot be set."""
    if place is None:
        if any(not entry.startswith(_PRIVATE) for entry in values):
            raise NotPermitted("Your provider sets what is shared by all.")
        if SPECIAL_USE in values:
            raise Refused(b"USEATTR", "Only a mailbox has a special use.")
        return None
    if any(not entry.startswith(_PRIVATE) for entry in values):
        if place.mailbox.read_only:
            raise NotPermitted(READ_ONLY)
        if "w" not in place.rights:  # like the flags that all see (RFC 4314 §2.1)
            raise NotPermitted("Its owner does not let you do that.")
    if SPECIAL_USE not in values:
        return None
    value = values.pop(SPECIAL_USE)
    if not place.is_own or place.mailbox.read_only or place.mailbox.name == "INBOX":
        raise Refused(b"USEATTR", "The special use of this mailbox stays as it is.")
    return special_use((value or b"").decode("ascii", "replace").split())


def _tell_lost(session: Session, mailbox_id: MailboxId) -> Flow[None]:
    mailbox = session.mail.mailboxes.by_id(mailbox_id)
    yield _response(session, Place(session.mail, mailbox, mailbox.name), [(SPECIAL_USE, SPECIAL_USE)])
