"""SETACL, DELETEACL, GETACL, LISTRIGHTS, MYRIGHTS: who may do what with a mailbox.

Identifiers are addresses of accounts of the same tenant, and "anyone" for all of them; there are no negative ones. The
owner has everything and cannot lose it. What is changed is durable when the tagged OK is sent, and counts for the next
command of everybody.

Standards: RFC 4314 §3.
"""

from __future__ import annotations

from hosting.auth.mailbox_rights import Who
from hosting.imap import encode, places
from hosting.imap.effects import Flow, blocking
from hosting.imap.place import Place
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from hosting.imap.sharing.acl_grammar import DeleteAcl, GetAcl, ListRights, MyRights, SetAcl
from storage.directory.mailbox_rights import ANYONE, How, RightsRow

_ANYONE = b"anyone"


def set_acl(session: Session, _: bytes, command: SetAcl) -> Flow[bytes]:
    yield from _change(session, command.mailbox, command.identifier, command.how, command.rights)
    return b"The rights are set."


def delete_acl(session: Session, _: bytes, command: DeleteAcl) -> Flow[bytes]:
    """That there was no entry is no error."""
    yield from _change(session, command.mailbox, command.identifier, "replace", "")
    return b"The entry is deleted."


def _change(session: Session, mailbox: str, identifier: str, how: How, letters: str) -> Flow[None]:
    place = yield from places.find(session, mailbox, rights.NEEDED["SETACL"])
    who = yield from _who(session, identifier)
    if who.id == place.account.account_id:
        raise Refused(b"CANNOT", "The owner of a mailbox may always do everything with it.")
    directory, tenant_id = session.services.shared.directory, session.user.tenant_id
    owner_id, mailbox_id = place.account.account_id, place.mailbox.id
    yield from blocking(lambda: directory.change(tenant_id, owner_id, mailbox_id, who.id, how, letters))
    session.services.shared.forget(tenant_id)  # the change feed has the other workers do so


def get_acl(session: Session, _: bytes, command: GetAcl) -> Flow[bytes]:
    place = yield from places.find(session, command.mailbox, rights.NEEDED["GETACL"])
    directory, tenant_id = session.services.shared.directory, session.user.tenant_id
    owner_id, mailbox_id = place.account.account_id, place.mailbox.id

    def look() -> tuple[str, list[RightsRow]]:
        return directory.login(tenant_id, owner_id), list(directory.of_mailbox(tenant_id, owner_id, mailbox_id))

    login, rows = yield from blocking(look)
    entries = [_identifier(login, session.utf8) + b" " + _letters(rights.ALL)]
    for row in rows:
        name = _ANYONE if row.identifier == ANYONE else _identifier(row.login, session.utf8)
        entries.append(name + b" " + _letters(row.rights))
    yield b"* ACL %b %b\r\n" % (encode.mailbox(place.name, session.utf8), b" ".join(entries))
    return b"That is all."


def list_rights(session: Session, _: bytes, command: ListRights) -> Flow[bytes]:
    place = yield from places.find(session, command.mailbox, rights.NEEDED["LISTRIGHTS"])
    who = yield from _who(session, command.identifier)
    always, optional = rights.grantable(to_owner=who.id == place.account.account_id)
    words = [always.encode("ascii") or b'""', *(letter.encode("ascii") for letter in optional)]
    name = _identifier(command.identifier, session.utf8)  # as the client calls him (§3.4)
    yield b"* LISTRIGHTS %b %b %b\r\n" % (encode.mailbox(place.name, session.utf8), name, b" ".join(words))
    return b"That is all."


def my_rights(session: Session, _: bytes, command: MyRights) -> Flow[bytes]:
    place = yield from places.find(session, command.mailbox)
    yield rights_response(session, place)
    return b"That is all."


def rights_response(session: Session, place: Place) -> bytes:
    """MYRIGHTS, alone and as LIST returns it (RFC 8440)."""
    return b"* MYRIGHTS %b %b\r\n" % (encode.mailbox(place.name, session.utf8), _letters(place.rights))


def _who(session: Session, identifier: str) -> Flow[Who]:
    if identifier.startswith("-"):
        raise Refused(b"CANNOT", "Rights are given here, and not taken away by negative identifiers.")
    directory, tenant_id = session.services.shared.directory, session.user.tenant_id
    return (yield from blocking(lambda: directory.find(tenant_id, identifier)))


def _letters(letters: str) -> bytes:
    return rights.told(letters).encode("ascii") or b'""'


def _identifier(name: str, utf8: bool) -> bytes:
    """A literal where a quoted string may not hold it."""
    octets = name.encode("utf-8")
    if utf8 or octets.isascii():
        return encode.quoted(octets) if name != "anyone" else _ANYONE
    return b"{%d}\r\n%b" % (len(octets), octets)
