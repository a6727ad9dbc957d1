"""The commands about rights, and their arguments.

An unknown right is BAD, as RFC 4314 §3.1 demands, and so is an identifier that nobody could have (§3).

Standards: RFC 4314 §3 and §7.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Final

from hosting.imap.commands import Command
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.sharing.rights import modification
from storage.directory.mailbox_rights import How
from storage.errors import InvalidInput

_IDENTIFIER_MAX: Final = 512  # octets
_RIGHTS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class SetAcl(Command):
    mailbox: str
    identifier: str
    how: How
    rights: str


@dataclass(frozen=True, slots=True)
class DeleteAcl(Command):
    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class GetAcl(Command):
    mailbox: str


@dataclass(frozen=True, slots=True)
class ListRights(Command):
    mailbox: str
    identifier: str


@dataclass(frozen=True, slots=True)
class MyRights(Command):
    mailbox: str


def set_acl(cursor: Cursor, utf8: bool) -> SetAcl:
    mailbox, identifier = _mailbox(cursor, utf8), _identifier(cursor)
    cursor.space()
    text = cursor.text_of(cursor.astring())
    if len(text) > _RIGHTS_MAX:
        raise Malformed("Too many rights.")
    try:
        how, rights = modification(text)
    except InvalidInput as error:
        raise Malformed(error.public) from None
    return SetAcl(mailbox, identifier, how, rights)


def delete_acl(cursor: Cursor, utf8: bool) -> DeleteAcl:
    return DeleteAcl(_mailbox(cursor, utf8), _identifier(cursor))


def get_acl(cursor: Cursor, utf8: bool) -> GetAcl:
    return GetAcl(_mailbox(cursor, utf8))


def list_rights(cursor: Cursor, utf8: bool) -> ListRights:
    return ListRights(_mailbox(cursor, utf8), _identifier(cursor))


def my_rights(cursor: Cursor, utf8: bool) -> MyRights:
    return MyRights(_mailbox(cursor, utf8))


def _mailbox(cursor: Cursor, utf8: bool) -> str:
    cursor.space()
    return cursor.mailbox(utf8)


def _identifier(cursor: Cursor) -> str:
    cursor.space()
    octets = cursor.astring()
    identifier = unicodedata.normalize("NFKC", cursor.text_of(octets))  # of SASLprep what addresses can have
    if not identifier or len(octets) > _IDENTIFIER_MAX or not identifier.isprintable():
        raise Malformed("Nobody can be called so.")
    return identifier
