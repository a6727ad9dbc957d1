"""Names in an archive: folders that Dovecot, mutt and getmail read, files of messages, folders of accounts.

What a mailbox is really called stands in the index; these names need only be readable, legal everywhere and different
from each other, on file systems that know no capitals too. Nothing that a reader is told by an archive is used as a
path before `parts_of` took it apart.

Raises: InvalidInput (a path that no export makes). Standards: Maildir++, RFC 3501 §5.1.3 (modified UTF-7).
"""

from __future__ import annotations

import binascii
import hashlib
import re
from collections.abc import Iterable
from urllib.parse import quote

from storage.errors import InvalidInput
from storage.export.values import Form
from storage.mail.names import INBOX
from storage.values import ANSWERED, DELETED, DRAFT, FLAGGED, SEEN, MailboxId

MAILDIR = "Maildir"
MBOX = "mbox"
LETTERS = "abcdefghijklmnopqrstuvwxyz"  # of keywords in a file's name: those that dovecot-keywords numbers 0 to 25

_NAME_MAX = 180  # octets of a folder's name: room for what is put behind it
_FLAGS = ((DRAFT, "D"), (FLAGGED, "F"), (ANSWERED, "R"), (SEEN, "S"), (DELETED, "T"))
_FORWARDED = "$forwarded"
_PART = re.compile(r"[^\x00-\x1f\x7f/]{1,255}\Z")
_DEPTH_MAX = 8


def folder_paths(form: Form, mailboxes: Iterable[tuple[MailboxId, str]]) -> dict[MailboxId, str]:
    """The place of each mailbox in the archive: a Maildir, or an mbox file. The same on every run."""
    paths: dict[MailboxId, str] = {}
    taken: set[str] = set()
    for mailbox_id, name in mailboxes:
        if form is Form.MAILDIR and name == INBOX:
            paths[mailbox_id] = MAILDIR
            continue
        readable = _readable(form, name)
        wanted, number = readable, 1
        while wanted.casefold() in taken:
            number += 1
            wanted = f"{readable}~{number}"
        taken.add(wanted.casefold())
        paths[mailbox_id] = f"{MAILDIR}/.{wanted}" if form is Form.MAILDIR else f"{MBOX}/{wanted}.mbox"
    return paths


def _readable(form: Form, name: str) -> str:
    """Levels divided by dots; a dot inside of a level, which would divide it, becomes "_"."""
    levels = []
    for level in name.split("/"):
        clean = "".join("_" if character in '.\\:*?"<>|' else character for character in level)
        levels.append("_" + clean[1:] if clean.startswith("~") else clean)
    text = ".".join(levels)
    encoded = encode_name(text) if form is Form.MAILDIR else text
    if len(encoded.encode()) <= _NAME_MAX:
        return encoded
    cut = text
    while len((encode_name(cut) if form is Form.MAILDIR else cut).encode()) > _NAME_MAX - 17:
        cut = cut[:-1]
    cut = cut.rstrip(".")
    digest = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{encode_name(cut) if form is Form.MAILDIR else cut}~{digest}"


def encode_name(name: str) -> str:
    """Modified UTF-7."""

    def word(found: re.Match[str]) -> str:
        if found[0] == "&":
            return "&-"
        packed = binascii.b2a_base64(found[0].encode("utf-16-be"), newline=False).decode("ascii")
        return f"&{packed.rstrip('=').replace('/', ',')}-"

    return re.sub(r"&|[^\x20-\x7e]+", word, name)


def message_name(internal_date: int, uidvalidity: int, uid: int, file_size: int, size: int) -> str:
    """The base name of a message in a Maildir; Dovecot takes its sizes from S= and W=."""
    return f"{max(internal_date, 0)}.V{uidvalidity}U{uid:010d}.cleanmail,S={file_size},W={size}"


def info(flags: int, keywords: Iterable[str], letters: dict[str, str]) -> str:
    """What stands behind the base name: flags, and the letters of keywords that have one."""
    words = {word.casefold() for word in keywords}
    marks = [letter for bit, letter in _FLAGS if flags & bit]
    if _FORWARDED in words:
        marks.append("P")
    marks += [letters[word] for word in words if word in letters]
    return ":2," + "".join(sorted(marks))


def keyword_letters(keywords: Iterable[str]) -> dict[str, str]:
    """The letter of each keyword (casefolded), as far as the alphabet goes."""
    return {word.casefold(): letter for word, letter in zip(keywords, LETTERS, strict=False)}


def dovecot_keywords(keywords: Iterable[str]) -> bytes:
    """The file of that name."""
    numbered = zip(range(len(LETTERS)), keywords, strict=False)
    return "".join(f"{number} {word}\n" for number, word in numbered).encode()


def account_folder(address: str) -> str:
    """The name of an account's folder in a tenant's archive: its address, as far as file systems take it."""
    name = quote(address, safe="@+-_.")
    if len(name) > _NAME_MAX:
        name = f"{name[: _NAME_MAX - 17]}~{hashlib.sha256(address.encode()).hexdigest()[:16]}"
    return f"%2E{name[1:]}" if name.startswith(".") else name


def parts_of(path: str) -> list[str]:
    """A path that an archive names, taken apart; it leads nowhere but down."""
    parts = path.split("/")
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidInput("The archive names a file that cannot be.") from None
    if len(parts) > _DEPTH_MAX or not all(_PART.match(part) and part not in (".", "..") for part in parts):
        raise InvalidInput("The archive names a file outside of itself.")
    return parts


def is_message(path: str) -> bool:
    """Whether it is the place of a message in a Maildir of an archive."""
    *above, last = parts_of(path)
    return above[:1] == [MAILDIR] and above[1:][-1:] == ["cur"] and len(above) <= 3 and ".cleanmail," in last
