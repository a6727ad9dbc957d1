"""Frames into commands: the table of all command names and the small parsers.

FETCH, LIST and searches have grammar modules of their own.
`parse` returns the tag and a command, or raises `BadCommand` with the tag that the answer needs.

Standards: RFC 9051 §9; RFC 4959 (SASL-IR), 5161 (ENABLE), 6154 (CREATE), 7162 (SELECT, STORE), 6851 (MOVE), 4315, 9208.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from hosting.imap import commands as c
from hosting.imap.commands import Flags
from hosting.imap.cursor import Cursor, Malformed
from hosting.imap.decoder import Frame
from hosting.imap.fetching.fetch_grammar import fetch
from hosting.imap.limits import Limits
from hosting.imap.mailboxes.list_grammar import list_mailboxes, list_subscribed, status
from hosting.imap.mailboxes.metadata_grammar import get_metadata, set_metadata
from hosting.imap.news import notify_grammar
from hosting.imap.searching import search_commands as sc
from hosting.imap.searching.search_grammar import multisearch, search, sort, thread
from hosting.imap.searching.uid_batches_grammar import uid_batches
from hosting.imap.sharing import acl_grammar
from hosting.imap.shell import layer_grammar
from hosting.imap.storing.append_grammar import append, replace
from storage.mail.outcomes import How

_TAG = re.compile(rb'[^\x00-\x20\x7f-\xff(){%*"\\+]+')
_HEAD = re.compile(rb'([^\x00-\x20\x7f-\xff(){%*"\\+]+) ((?:UID )?[^\x00-\x20\x7f-\xff(){%*"\\\]]+)', re.IGNORECASE)
_SHORT = 200  # octets of arguments that are remembered
_HOW: Final[dict[str, How]] = {"F": "replace", "+": "add", "-": "remove"}
_ID_VALUE = 1024  # RFC 2971 §3.3
MODSEQ_MAX: Final = (1 << 63) - 1  # RFC 7162 §7


class BadCommand(Exception):  # noqa: N818
    def __init__(self, tag: bytes, text: str) -> None:
        super().__init__(text)
        self.tag = tag
        self.text = text


class Grammar:
    """Parses for one connection; `utf8` turns on with ENABLE IMAP4rev2 and changes what mailbox names mean."""

    __slots__ = ("_limits", "utf8")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.utf8 = False

    def parse(self, frame: Frame) -> tuple[bytes, c.Command]:
        text = frame.text
        head = _HEAD.match(text)
        if head is None:
            raise self._without_name(text)
        tag, name = head.groups()
        try:
            if b"\0" in text:
                raise Malformed("A command has a NUL in it.")
            parser = _BY_OCTETS.get(name) or _BY_OCTETS.get(name.upper())
            if parser is None:
                raise Malformed("Unknown command.")
            cursor = Cursor(frame, self._limits.ranges)
            cursor.at = head.end()
            command = parser(cursor, self)
            cursor.end()
        except Malformed as bad:
            raise BadCommand(tag, str(bad)) from None
        return tag, command

    @staticmethod
    def _without_name(text: bytes) -> BadCommand:
        match = _TAG.match(text)
        if match is None:
            return BadCommand(b"*", "A command begins with a tag.")
        if b"\0" in text:
            return BadCommand(match[0], "A command has a NUL in it.")
        return BadCommand(match[0], "Expected a word." if text[match.end() :].startswith(b" ") else "Expected a space.")

    @property
    def nesting(self) -> int:
        return self._limits.nesting


Parser = Callable[[Cursor, Grammar], c.Command]


def _plain(command: c.Command) -> Parser:
    return lambda _cursor, _grammar: command


def _identify(cursor: Cursor, _: Grammar) -> c.Command:
    name, field = "", b""
    if not cursor.at_end():
        cursor.space()
        if cursor.accept(b"("):
            fields = 0
            while not cursor.accept(b")"):
                if fields:
                    cursor.space()
                text = b""
                if cursor.peek() == b'"' or cursor.peek() == b"{":
                    text = cursor.string()
                else:
                    cursor.atom()  # NIL
                if fields % 2 and field == b"name" and not name:
                    name = text[:_ID_VALUE].decode("utf-8", "replace")
                field = text.lower()
                fields += 1
                if fields > 60:  # RFC 2971 §3.3: 30 pairs
                    raise Malformed("Too many fields.")
        else:
            cursor.atom()
    return c.Identify(name)


def _login(cursor: Cursor, _: Grammar) -> c.Command:
    cursor.space()
    user = cursor.text_of(cursor.astring())
    cursor.space()
    return c.Login(user, cursor.text_of(cursor.astring()))


def _authenticate(cursor: Cursor, _: Grammar) -> c.Command:
    cursor.space()
    mechanism = cursor.word()
    initial = None
    if cursor.accept(b" "):
        initial = cursor.text[cursor.at :]
        cursor.at = len(cursor.text)
    return c.Authenticate(mechanism, initial)


def _enable(cursor: Cursor, _: Grammar) -> c.Command:
    wanted = []
    while cursor.accept(b" "):
        wanted.append(cursor.word())
    if not wanted:
        raise Malformed("Expected a capability.")
    return c.Enable(tuple(wanted))


def _select(read_only: bool) -> Parser:
    def parse(cursor: Cursor, grammar: Grammar) -> c.Command:
        cursor.space()
        mailbox = cursor.mailbox(grammar.utf8)
        condstore, resync = False, None
        if cursor.accept(b" "):  # RFC 4466 §2.1
            cursor.expect(b"(")
            while True:
                parameter = cursor.word()
                if parameter == "CONDSTORE":
                    condstore = True
                elif parameter == "QRESYNC":
                    cursor.space()
                    resync = _resync(cursor)
                else:
                    raise Malformed("Unknown parameter of SELECT.")
                if cursor.accept(b")"):
                    break
                cursor.space()
        return c.Select(mailbox, read_only, condstore, resync)

    return parse


def _resync(cursor: Cursor) -> c.Resync:
    cursor.expect(b"(")
    uidvalidity = cursor.number()
    cursor.space()
    modseq = cursor.number(MODSEQ_MAX)
    known, sample = None, None
    if cursor.accept(b" "):
        if cursor.peek() != b"(":
            known = _definite(cursor)
            if cursor.accept(b" ("):
                sample = _sample(cursor)
        else:
            cursor.expect(b"(")
            sample = _sample(cursor)
    cursor.expect(b")")
    return c.Resync(uidvalidity, modseq, known, sample)


def _sample(cursor: Cursor) -> tuple[c.SequenceSet, c.SequenceSet]:
    numbers = _definite(cursor)
    cursor.space()
    uids = _definite(cursor)
    cursor.expect(b")")
    return numbers, uids


def _definite(cursor: Cursor) -> c.SequenceSet:
    """A set without "*" (RFC 7162 §3.2.5)."""
    numbers = cursor.sequence_set()
    if numbers.saved or any(c.STAR in pair for pair in numbers.ranges):
        raise Malformed("The set must not have '*' or '$' in it.")
    return numbers


def _create(cursor: Cursor, grammar: Grammar) -> c.Command:
    cursor.space()
    mailbox = cursor.mailbox(grammar.utf8)
    uses: list[str] = []
    if cursor.accept(b" "):
        cursor.expect(b"(")
        if cursor.word() != "USE":
            raise Malformed("Unknown parameter of CREATE.")
        cursor.expect(b" (")
        while not cursor.accept(b")"):
            if uses:
                cursor.space()
            uses.append(cursor.flag().decode("ascii"))
        cursor.expect(b")")
    return c.Create(mailbox, tuple(uses))


def _one_mailbox(make: Callable[[str], c.Command]) -> Parser:
    def parse(cursor: Cursor, grammar: Grammar) -> c.Command:
        cursor.space()
        return make(cursor.mailbox(grammar.utf8))

    return parse


def _rename(cursor: Cursor, grammar: Grammar) -> c.Command:
    cursor.space()
    mailbox = cursor.mailbox(grammar.utf8)
    cursor.space()
    return c.Rename(mailbox, cursor.mailbox(grammar.utf8))


def _replace(by_uid: bool) -> Parser:
    return lambda cursor, grammar: replace(cursor, grammar.utf8, by_uid)


def _quota(make: Callable[[str], c.Command], resources: bool = False) -> Parser:
    def parse(cursor: Cursor, _: Grammar) -> c.Command:
        cursor.space()
        root = cursor.text_of(cursor.astring())
        if resources:
            cursor.space()
            cursor.at = len(cursor.text)  # refused anyway: limits are the provider's
        return make(root)

    return parse


def _uid_expunge(cursor: Cursor, _: Grammar) -> c.Command:
    cursor.space()
    return c.Expunge(cursor.sequence_set())


def _stored(text: bytes) -> tuple[How, Flags, bool]:
    """What is stored, how, and whether silently."""
    cursor = Cursor(Frame(text), 1)
    item = cursor.word()
    how = _HOW.get(item[:1])
    name = item.lstrip("+-")
    if how is None or name not in ("FLAGS", "FLAGS.SILENT") or len(item) - len(name) > 1:
        raise Malformed("Unknown item of STORE.")
    cursor.space()
    flags = cursor.flags()
    cursor.end()
    return how, flags, name == "FLAGS.SILENT"


_known = lru_cache(maxsize=256)(_stored)  # clients store the same flags all the time


def _store(by_uid: bool) -> Parser:
    def parse(cursor: Cursor, _: Grammar) -> c.Command:
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        unchanged_since = None
        if cursor.accept(b"("):  # RFC 7162 §3.1.3
            if cursor.word() != "UNCHANGEDSINCE":
                raise Malformed("Unknown modifier of STORE.")
            cursor.space()
            unchanged_since = cursor.number(MODSEQ_MAX)
            cursor.expect(b")")
            cursor.space()
        rest = cursor.text[cursor.at :]
        how, flags, silent = (_known if len(rest) <= _SHORT else _stored)(rest)
        cursor.at = len(cursor.text)
        return c.Store(numbers, how, flags, silent, by_uid, unchanged_since)

    return parse


def _copy(by_uid: bool, move: bool) -> Parser:
    def parse(cursor: Cursor, grammar: Grammar) -> c.Command:
        cursor.space()
        numbers = cursor.sequence_set()
        cursor.space()
        return c.Copy(numbers, cursor.mailbox(grammar.utf8), by_uid, move)

    return parse


def _fetch(by_uid: bool) -> Parser:
    return lambda cursor, _: fetch(cursor, by_uid)


def _cancel_update(cursor: Cursor, _: Grammar) -> c.Command:
    tags = []
    while cursor.accept(b" "):
        tags.append(cursor.string())
    if not tags:
        raise Malformed("Expected a tag.")
    return sc.CancelUpdate(tuple(tags))


def _searching(parse: Callable[[Cursor, bool, int], c.Command], by_uid: bool) -> Parser:
    return lambda cursor, grammar: parse(cursor, by_uid, grammar.nesting)


_PARSERS: Final[dict[str, Parser]] = {
    "CAPABILITY": _plain(c.Capability()),
    "NOOP": _plain(c.Noop()),
    "NOTIFY": lambda cursor, grammar: notify_grammar.notify(cursor, grammar.utf8),
    "COMPRESS": lambda cursor, _: layer_grammar.compress(cursor),
    "UNAUTHENTICATE": _plain(layer_grammar.Unauthenticate()),
    "LOGOUT": _plain(c.Logout()),
    "ID": _identify,
    "STARTTLS": _plain(c.StartTls()),
    "LOGIN": _login,
    "AUTHENTICATE": _authenticate,
    "ENABLE": _enable,
    "NAMESPACE": _plain(c.Namespace()),
    "SELECT": _select(read_only=False),
    "EXAMINE": _select(read_only=True),
    "CREATE": _create,
    "DELETE": _one_mailbox(c.Delete),
    "RENAME": _rename,
    "SUBSCRIBE": _one_mailbox(c.Subscribe),
    "UNSUBSCRIBE": _one_mailbox(c.Unsubscribe),
    "LIST": lambda cursor, grammar: list_mailboxes(cursor, grammar.utf8),
    "LSUB": lambda cursor, grammar: list_subscribed(cursor, grammar.utf8),
    "STATUS": lambda cursor, grammar: status(cursor, grammar.utf8),
    "APPEND": lambda cursor, grammar: append(cursor, grammar.utf8),
    "REPLACE": _replace(by_uid=False),
    "UID REPLACE": _replace(by_uid=True),
    "IDLE": _plain(c.Idle()),
    "SETACL": lambda cursor, grammar: acl_grammar.set_acl(cursor, grammar.utf8),
    "DELETEACL": lambda cursor, grammar: acl_grammar.delete_acl(cursor, grammar.utf8),
    "GETACL": lambda cursor, grammar: acl_grammar.get_acl(cursor, grammar.utf8),
    "LISTRIGHTS": lambda cursor, grammar: acl_grammar.list_rights(cursor, grammar.utf8),
    "MYRIGHTS": lambda cursor, grammar: acl_grammar.my_rights(cursor, grammar.utf8),
    "GETMETADATA": lambda cursor, grammar: get_metadata(cursor, grammar.utf8),
    "SETMETADATA": lambda cursor, grammar: set_metadata(cursor, grammar.utf8),
    "GETQUOTA": _quota(c.GetQuota),
    "GETQUOTAROOT": _one_mailbox(c.GetQuotaRoot),
    "SETQUOTA": _quota(c.SetQuota, resources=True),
    "CHECK": _plain(c.Check()),
    "CLOSE": _plain(c.Close()),
    "UNSELECT": _plain(c.Unselect()),
    "EXPUNGE": _plain(c.Expunge()),
    "UID EXPUNGE": _uid_expunge,
    "FETCH": _fetch(by_uid=False),
    "UID FETCH": _fetch(by_uid=True),
    "STORE": _store(by_uid=False),
    "UID STORE": _store(by_uid=True),
    "COPY": _copy(by_uid=False, move=False),
    "UID COPY": _copy(by_uid=True, move=False),
    "MOVE": _copy(by_uid=False, move=True),
    "UID MOVE": _copy(by_uid=True, move=True),
    "SEARCH": _searching(search, by_uid=False),
    "UID SEARCH": _searching(search, by_uid=True),
    "SORT": _searching(sort, by_uid=False),
    "UID SORT": _searching(sort, by_uid=True),
    "THREAD": _searching(thread, by_uid=False),
    "UID THREAD": _searching(thread, by_uid=True),
    "ESEARCH": lambda cursor, grammar: multisearch(cursor, grammar.utf8, grammar.nesting),
    "CANCELUPDATE": _cancel_update,
    "UIDBATCHES": lambda cursor, _: uid_batches(cursor),
}
_BY_OCTETS: Final = {name.encode("ascii"): parser for name, parser in _PARSERS.items()}
